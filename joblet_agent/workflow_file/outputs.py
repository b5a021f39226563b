"""``${jobs.JOB.KEY}``: an output of another job, known when that has ended. Pure.

These stay in the texts of a workflow that has been read, and ``$${jobs.JOB.KEY}``, too, which is such a text
itself.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

OUTPUT = "jobs."
"""What references to outputs begin with."""

_KEY = "[A-Za-z0-9_]+"
_REFERENCE = re.compile(r"\$(\$?)\{jobs\.([A-Za-z0-9_.-]+)\.(" + _KEY + r")\}")
_NAME = re.compile(r"jobs\.([A-Za-z0-9_.-]+)\.(" + _KEY + ")")


class OutputName(NamedTuple):
    """Whose output, and which."""

    job: str
    key: str

    def __str__(self) -> str:
        """Return the reference as it is written."""
        return f"${{{OUTPUT}{self.job}.{self.key}}}"


def parse_output(name: str) -> OutputName | None:
    """Return what ``jobs.JOB.KEY`` means; None for what is not written so."""
    match = _NAME.fullmatch(name)
    return OutputName(match[1], match[2]) if match else None


def may_refer(text: str) -> bool:
    """Tell quickly whether there may be anything for ``with_outputs``."""
    return "${jobs." in text


def outputs_in(text: str) -> Iterator[OutputName]:
    """Yield the outputs that the text refers to."""
    for escape, job, key in _REFERENCE.findall(text):
        if not escape:
            yield OutputName(job, key)


def with_outputs(text: str, value_of: Callable[[OutputName], str]) -> str:
    """Return the text with the values of the outputs that it refers to."""
    return _REFERENCE.sub(
        lambda match: match[0][1:] if match[1] else value_of(OutputName(match[2], match[3])), text
    )
