"""Values of commands that are run inside a running job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class TerminalSize:
    """Size of a terminal in characters; 0 for unknown."""

    rows: int = 0
    columns: int = 0


@dataclass(frozen=True, slots=True)
class ExecTerminal:
    """The terminal that a command gets."""

    size: TerminalSize = TerminalSize()
    term: str = ""
    """Its kind, for ``TERM``; empty leaves the job's own."""


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What a user asked for, as it came."""

    command: str
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the job's own variables."""
    work_dir: str = ""
    """Absolute directory in the job; empty for ``/work``."""
    stdin: bool = False
    """Input follows; if not, it is empty."""
    terminal: ExecTerminal | None = None
    """A terminal for input and output; it always takes input."""


class ExecOutput(Enum):
    """Where a piece of output was written to; a terminal's is standard output."""

    STDOUT = "stdout"
    STDERR = "stderr"
