"""What a job waits for, as a condition on how other jobs have ended: text to tree, tree to verdict. Pure.

Grammar, in the order in which operators bind (words in any case)::

    condition = both { ("OR" | "||") both }
    both      = one { ("AND" | "&&") one }
    one       = ("NOT" | "!") one | "(" condition ")" | test
    test      = job ("=" | "==" | "!=") status | job ["NOT"] "IN" "(" status { "," status } ")"

A job's name in quotes may have any characters.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from joblet_agent.yaml_file.problems import near, shown

DEEPEST = 50
"""Parentheses and NOTs inside one another."""


class End(StrEnum):
    """How a job ended; by rising harm."""

    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


FINISHED = "FINISHED"
"""Ended in any way."""
STATUSES = {**{end.value: frozenset({end}) for end in End}, FINISHED: frozenset(End)}
"""What may be waited for, by its word: the ends that it means."""


class ExpressionError(Exception):
    """No condition. ``position`` counts characters from 0."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.position = position


@dataclass(frozen=True, slots=True)
class Test:
    """That a job has ended in one of these ways."""

    __test__ = False

    job: str
    ends: frozenset[End]


@dataclass(frozen=True, slots=True)
class Not:
    """The contrary, once it is known."""

    of: "Condition"


@dataclass(frozen=True, slots=True)
class All:
    """All of these; true if there is none."""

    of: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Any:
    """One of these at least."""

    of: tuple["Condition", ...]


Condition: TypeAlias = Test | Not | All | Any


def jobs_of(condition: Condition) -> Iterator[str]:
    """Yield the jobs that it asks about, as often as it does."""
    match condition:
        case Test(job):
            yield job
        case Not(inner):
            yield from jobs_of(inner)
        case All(several) | Any(several):
            for each in several:
                yield from jobs_of(each)


def evaluate(condition: Condition, end_of: Callable[[str], End | None]) -> bool | None:
    """Tell whether it holds; None while that depends on jobs that have not ended (``end_of`` gives None).

    What it says once, True or False, it says whatever the others will do (Kleene's logic), so a job can
    start, or be given up, as soon as its condition is decided.
    """
    match condition:
        case Test(job, ends):
            end = end_of(job)
            return None if end is None else end in ends
        case Not(inner):
            value = evaluate(inner, end_of)
            return None if value is None else not value
        case All(several):
            return _decided((evaluate(each, end_of) for each in several), by=False)
        case Any(several):
            return _decided((evaluate(each, end_of) for each in several), by=True)


def _decided(values: Iterator[bool | None], *, by: bool) -> bool | None:
    verdict: bool | None = not by
    for value in values:
        if value is by:
            return by
        if value is None:
            verdict = None
    return verdict


def parse_expression(text: str) -> Condition:
    """Return the condition that the text says; raise ExpressionError."""
    return _Parser(text).whole()


def parse_status(text: str) -> frozenset[End]:
    """Return the ends that a status means; raise ValueError with what it expects."""
    ends = STATUSES.get(text.upper())
    if ends is None:
        raise ValueError(
            f"expected a status ({', '.join(STATUSES)}), not {shown(text)}{near(text.upper(), STATUSES)}"
        )
    return ends


def to_text(condition: Condition) -> str:
    """Return a text that ``parse_expression`` reads back as the same condition."""
    match condition:
        case Test(job, ends):
            name = job if _PLAIN.fullmatch(job) and job.upper() not in _WORDS else _quoted(job)
            for word, meant in STATUSES.items():
                if meant == ends:
                    return f"{name}={word}"
            return f"{name} IN ({','.join(end.value for end in End if end in ends)})"
        case Not(inner):
            return f"NOT ({to_text(inner)})"
        case All(several) | Any(several):
            word = " AND " if isinstance(condition, All) else " OR "
            return word.join(
                f"({to_text(each)})" if isinstance(each, All | Any) else to_text(each) for each in several
            )


_WORDS = frozenset({"AND", "OR", "NOT", "IN", "NOT_IN"})
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<sign>\(|\)|,|==|!=|=|!|&&|\|\|) |
        (?P<word>[A-Za-z0-9_.-]+) |
        "(?P<double>(?:[^"\\]|\\.)*)" |
        '(?P<single>(?:[^'\\]|\\.)*)'
    )""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {"&&": "AND", "||": "OR", "!": "NOT", "==": "="}


def _quoted(name: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    at: int
    is_name: bool = False
    """A word that is not the language's, or anything in quotes."""


_END_MARK = "the end"


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            at = position + len(text[position:]) - len(text[position:].lstrip())
            raise ExpressionError(f"{shown(text[at : at + 10])} is not understood", at)
        at, position = match.start(match.lastgroup or 0), match.end()
        found = match.group(match.lastgroup or 0)
        if match.lastgroup in {"double", "single"}:
            yield _Token(re.sub(r"\\(.)", r"\1", found, flags=re.DOTALL), at - 1, is_name=True)
        elif match.lastgroup == "sign":
            yield _Token(_SIGNS.get(found, found), at)
        elif found.upper() in _WORDS:
            yield _Token(found.upper(), at)
        else:
            yield _Token(found, at, is_name=True)
    yield _Token(_END_MARK, len(text))


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0
        self._depth = 0

    def whole(self) -> Condition:
        condition = self._either()
        if self._peek().text != _END_MARK or self._peek().is_name:
            raise self._expected("AND, OR or the end")
        return condition

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take(self, *texts: str) -> bool:
        """Take the next token if it is one of these words or signs of the language."""
        token = self._peek()
        if token.is_name or token.text not in texts:
            return False
        self._next += 1
        return True

    def _expected(self, what: str) -> ExpressionError:
        token = self._peek()
        found = _END_MARK if token.text == _END_MARK and not token.is_name else shown(token.text)
        return ExpressionError(f"expected {what}, not {found}", token.at)

    def _either(self) -> Condition:
        several = [self._both()]
        while self._take("OR"):
            several.append(self._both())
        return several[0] if len(several) == 1 else Any(tuple(several))

    def _both(self) -> Condition:
        several = [self._one()]
        while self._take("AND"):
            several.append(self._one())
        return several[0] if len(several) == 1 else All(tuple(several))

    def _one(self) -> Condition:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ExpressionError(f"more than {DEEPEST} parentheses inside one another", self._peek().at)
        try:
            if self._take("NOT"):
                return Not(self._one())
            if self._take("("):
                inner = self._either()
                if not self._take(")"):
                    raise self._expected("AND, OR or )")
                return inner
            return self._test()
        finally:
            self._depth -= 1

    def _test(self) -> Condition:
        job = self._name("the name of a job")
        if self._take("="):
            return Test(job, self._status())
        if self._take("!="):
            return Not(Test(job, self._status()))
        is_not = self._take("NOT")
        if not is_not and self._take("NOT_IN"):
            return Not(Test(job, self._set()))
        if self._take("IN"):
            test = Test(job, self._set())
            return Not(test) if is_not else test
        raise self._expected("=, !=, IN or NOT IN")

    def _set(self) -> frozenset[End]:
        if not self._take("("):
            raise self._expected("( and statuses")
        ends = self._status()
        while self._take(","):
            ends |= self._status()
        if not self._take(")"):
            raise self._expected(", or )")
        return ends

    def _status(self) -> frozenset[End]:
        at = self._peek().at
        text = self._name("a status")
        try:
            return parse_status(text)
        except ValueError as error:
            raise ExpressionError(str(error), at) from error

    def _name(self, what: str) -> str:
        token = self._peek()
        if not token.is_name:
            raise self._expected(what)
        self._next += 1
        return token.text
