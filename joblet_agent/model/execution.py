"""Values of commands that are run inside a running job."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class ExecSpec:
    """What a user asked for, as it came."""

    command: str
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the job's own variables."""
    work_dir: str = ""
    """Absolute directory in the job; empty for ``/work``."""


class ExecOutput(Enum):
    """Where a piece of output was written to."""

    STDOUT = "stdout"
    STDERR = "stderr"
