"""What is wrong in a file, and where. All of it is told at once."""

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

MOST_PROBLEMS = 100
"""Of one file; the number of the others is told."""
MOST_FOUND = 50_000
"""Reading ends with them: eight megabytes may have a fault in every other character."""
MOST_COMPARED = 200
"""Words that a wrong one is compared with: it takes a tenth of a second for ten thousand of them."""
MOST_SHOWN = 60
"""Characters of the file's own words in a problem."""


class TooManyProblems(Exception):
    """Nobody will read more of them."""


class Mark(NamedTuple):
    """A place in the file; both count from 1, and 0 is for what has no place."""

    line: int = 0
    column: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: the place, the key with those around it (``jobs.build.requires``), and what is wrong."""

    mark: Mark
    key: str
    text: str

    def shown(self, source: str) -> str:
        """Return the line for people; ``source`` names the file."""
        place = f"{source}:{self.mark.line}:{self.mark.column}" if self.mark.line else source
        return ": ".join(part for part in (place, self.key, self.text) if part)


@dataclass(slots=True)
class Problems:
    """Collects faults, in the order of the file."""

    found: list[Problem] = field(default_factory=list)

    def add(self, mark: Mark, key: str, text: str) -> None:
        """Tell of one more. Raises TooManyProblems."""
        self.found.append(Problem(mark, key, text))
        if len(self.found) > MOST_FOUND:
            raise TooManyProblems

    def near(self, word: str, known: Collection[str]) -> str:
        """Return ``near`` as long as anybody will see it."""
        return near(word, known) if len(self.found) < MOST_PROBLEMS else ""

    def sorted(self) -> tuple[Problem, ...]:
        """Return each once, by their places."""
        return tuple(sorted(dict.fromkeys(self.found), key=lambda problem: problem.mark))


class FileInvalid(Exception):
    """The file cannot be used; ``problems`` has everything that is wrong with it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(self.problems)} problems in the file")

    def shown(self, source: str) -> list[str]:
        """Return the lines for people."""
        lines = [problem.shown(source) for problem in self.problems[:MOST_PROBLEMS]]
        more = len(self.problems) - MOST_PROBLEMS
        return [*lines, *([f"and {more} more"] if more > 0 else [])]


def near(word: str, known: Collection[str]) -> str:
    """Return ``, did you mean X?`` for the known word that is like this one, else nothing.

    Where very many are known, only those that begin with the same two letters are looked at.
    """
    if len(known) > MOST_COMPARED:
        known = [each for each in known if each[:2] == word[:2]][:MOST_COMPARED]
    close = difflib.get_close_matches(word[:100], list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def shown(text: str) -> str:
    """Quote the file's own words, short and without control characters."""
    return ascii(text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}...")
