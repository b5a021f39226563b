"""What followers of a build are told, in this order: phases with log lines among them, then one end.

A build that succeeds has begun all its phases, also those with nothing to do, which say so. One that
fails or is cancelled stops at the phase that the end names.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final

from joblet_agent.errors import JobletError
from joblet_agent.model.runtime import Runtime

__all__ = ["PHASES", "BuildDone", "BuildEvent", "BuildPhase", "LogLevel", "LogLine", "Phase"]


class BuildPhase(Enum):
    """The phases; a phase's number is its place."""

    PARSE = "parse"
    VALIDATE = "validate"
    CHECK_HOST = "check platform and space"
    RESOLVE_BASE = "resolve base"
    PREPARE = "prepare build"
    PRE_INSTALL = "pre-install hook"
    PACKAGES = "distribution packages"
    LANGUAGE = "language"
    PIP = "pip packages"
    NPM = "npm packages"
    FILES = "files and post-install hook"
    NORMALISE = "clean and normalise"
    CHECK_TREE = "check"
    STORE = "store and activate"

    @property
    def number(self) -> int:
        """From 1."""
        return PHASES.index(self) + 1


PHASES: Final = tuple(BuildPhase)


class LogLevel(StrEnum):
    """Levels of log lines, as on the wire."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Phase:
    """A phase began."""

    phase: BuildPhase
    message: str
    """What it does, or why it is skipped; for people."""
    skipped: bool
    at: datetime
    seconds: float
    """Since the build began."""

    @property
    def number(self) -> int:
        """From 1."""
        return self.phase.number

    @property
    def total(self) -> int:
        """How many there are."""
        return len(PHASES)

    @property
    def name(self) -> str:
        """Short title."""
        return self.phase.value


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of what a step of the build said, or a remark of the build's own."""

    level: LogLevel
    text: str
    at: datetime


@dataclass(frozen=True, slots=True)
class BuildDone:
    """The end of a build; the last event, exactly once."""

    seconds: float
    """Since the build began."""
    runtime: Runtime | None = None
    """What was built, or was there already; none for a failure and for a dry run."""
    error: JobletError | None = None
    message: str = ""
    """Summary, or why it failed; for people."""
    lock: str = ""
    """Text of the lock file that repeats the build."""
    phase: BuildPhase | None = None
    """The phase that failed."""
    phase_seconds: tuple[float, ...] = ()
    """How long each phase took that had begun."""

    @property
    def is_success(self) -> bool:
        """Say whether there was no error."""
        return self.error is None


BuildEvent = Phase | LogLine | BuildDone
