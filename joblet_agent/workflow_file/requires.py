"""The key ``requires``: which jobs are waited for, and for what."""

from collections.abc import Iterator
from dataclasses import dataclass

from joblet_agent.workflow_file.expression import (
    STATUSES,
    Condition,
    End,
    ExpressionError,
    Test,
    parse_expression,
    parse_status,
)
from joblet_agent.yaml_file.kinds import Schema
from joblet_agent.yaml_file.nodes import Entries, Items, Node, Text
from joblet_agent.yaml_file.problems import Mark, Problems

EXPRESSION = "expression"
"""The key that is no job's name."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One of the entries; all of them must hold."""

    mark: Mark
    job: str = ""
    """A job without a status: which one it takes is said by ``when``."""
    condition: Condition | None = None
    """Anything else."""


class Requires:
    """Reads ``requires``: job names, maps of a job to its status, expressions, or a list of these."""

    def read(self, node: Node, key: str, problems: Problems) -> tuple[Requirement, ...]:
        """Return the requirements that are readable."""
        if isinstance(node, Text) and node.is_nothing:
            return ()
        if not isinstance(node, Items):
            return tuple(self._entry(node, key, problems))
        return tuple(
            requirement
            for number, each in enumerate(node.items)
            for requirement in self._entry(each, f"{key}[{number}]", problems)
        )

    def schema(self) -> Schema:
        """Return all forms."""
        status = {"enum": [*STATUSES]}
        entry = {
            "anyOf": [
                {"type": "string"},
                {
                    "type": "object",
                    "properties": {EXPRESSION: {"type": "string"}},
                    "additionalProperties": {"anyOf": [status, {"type": "array", "items": status}]},
                },
            ]
        }
        return {"anyOf": [entry, {"type": "array", "items": entry}]}

    def _entry(self, node: Node, key: str, problems: Problems) -> Iterator[Requirement]:
        if isinstance(node, Items) or (isinstance(node, Text) and node.is_nothing):
            problems.add(node.mark, key, "expected a job, a job with a status, or expression: with a text")
        elif isinstance(node, Text):
            yield Requirement(node.mark, job=node.text)
        else:
            yield from self._map(node, key, problems)

    def _map(self, node: Entries, key: str, problems: Problems) -> Iterator[Requirement]:
        for name, value in node.entries.items():
            inner, mark = f"{key}.{name}", node.marks[name]
            if name == EXPRESSION:
                condition = _expression(value, inner, problems)
            else:
                condition = _status(name, value, inner, problems)
            if condition is not None:
                yield Requirement(mark, condition=condition)


def _expression(node: Node, key: str, problems: Problems) -> Condition | None:
    if not isinstance(node, Text):
        problems.add(node.mark, key, "expected a text such as a=COMPLETED AND b IN (COMPLETED,FAILED)")
        return None
    try:
        return parse_expression(node.text)
    except ExpressionError as error:
        problems.add(_inside(node, error.position), key, str(error))
        return None


def _inside(node: Text, position: int) -> Mark:
    """Return the place in the file of a character of the text; of a text of several lines its beginning."""
    if "\n" in node.text:
        return node.mark
    return Mark(node.mark.line, node.mark.column + position + (0 if node.is_plain else 1))


def _status(job: str, node: Node, key: str, problems: Problems) -> Condition | None:
    words = node.items if isinstance(node, Items) else [node]
    ends: frozenset[End] = frozenset()
    for word in words:
        if not isinstance(word, Text):
            problems.add(word.mark, key, f"expected a status ({', '.join(STATUSES)})")
            return None
        try:
            ends |= parse_status(word.text)
        except ValueError as error:
            problems.add(word.mark, key, str(error))
            return None
    if not ends:
        problems.add(node.mark, key, f"expected a status ({', '.join(STATUSES)})")
        return None
    return Test(job, ends)
