"""Commands of the jobs that are measured, and what their output tells."""

from typing import Final

WARM_UPS: Final = 3
"""Jobs before each measured series that are not measured."""

NOTHING: Final = ("/bin/true",)
FOR_LONG: Final = ("/bin/sleep", "100000")
TIMESTAMP: Final = ("/bin/date", "+%s%N")
"""Prints the time in ns as its first act; loading the program counts, for both sides alike."""

GIB: Final = 1 << 30
TAIL: Final = 64
"""Bytes that surely hold the last line of what ``writes`` prints."""


def writes(source: str) -> list[str]:
    """Return a command that runs the shell command ``source``, then prints the ns that it took as a line."""
    clock = "date +%s%N"
    return ["/bin/sh", "-c", f"begin=$({clock}); {source}; end=$({clock}); echo; echo $((end - begin))"]


def prints_the_time(lines: int, pause: float) -> list[str]:
    """Return a command that prints the time in ns as so many lines, with pauses of so many seconds."""
    return ["/bin/sh", "-c", f"for line in $(seq {lines}); do date +%s%N; sleep {pause}; done"]


def last_line(output: bytes) -> str:
    """Return the last line of a job's output."""
    return output[-TAIL:].decode(errors="replace").splitlines()[-1]
