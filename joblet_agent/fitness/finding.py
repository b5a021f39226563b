"""What was looked at, and what is the case. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from joblet_agent.fitness.scene import Scene


class Result(StrEnum):
    """How it is."""

    OK = "ok"
    UNKNOWN = "unknown"
    """It could not be looked at."""
    WARNING = "warning"
    """The agent works, but refuses something, or protects less."""
    FAILED = "failed"
    """The agent does not work, or cannot do what it is for."""


class Subject(StrEnum):
    """What a finding is about, in the order of the output."""

    SYSTEMD = "systemd"
    CGROUP = "cgroup"
    KERNEL = "kernel"
    SECURITY = "security"
    DISK = "disk"
    MEMORY = "memory"
    CLOCK = "clock"
    USERS = "users"
    NETWORK = "network"
    PROGRAMS = "programs"
    AGENT = "agent"
    CERTIFICATES = "certificates"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of one probe."""

    result: Result
    text: str
    """What is the case, in one line."""
    consequence: str = ""
    """What does not work because of it."""
    remedy: str = ""
    """What to do: a command, a kernel parameter, a key of the configuration."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A verdict with the name of its probe."""

    id: str
    """Stable: programs go by it."""
    subject: Subject
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Probe:
    """Looks at one thing. ``look`` may block and raise OSError; None: nothing to say on this host."""

    id: str
    subject: Subject
    look: "Callable[[Scene], Verdict | None]"


def ok(text: str) -> Verdict:
    """Return that all is well."""
    return Verdict(Result.OK, text)


def unknown(text: str, remedy: str = "") -> Verdict:
    """Return that it could not be looked at."""
    return Verdict(Result.UNKNOWN, text, remedy=remedy)


def warning(text: str, consequence: str, remedy: str = "") -> Verdict:
    """Return that something is refused, or protects less."""
    return Verdict(Result.WARNING, text, consequence, remedy)


def failed(text: str, consequence: str, remedy: str = "") -> Verdict:
    """Return that the agent cannot do what it is for."""
    return Verdict(Result.FAILED, text, consequence, remedy)


def worst(result: Result, *others: Result) -> Result:
    """Return the worst of them."""
    order = list(Result)
    return max((result, *others), key=order.index)
