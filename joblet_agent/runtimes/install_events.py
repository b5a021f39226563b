"""What whoever follows an installation is told: steps with lines among them, then the end."""

import asyncio
from dataclasses import dataclass

from joblet_agent.model.runtime import Runtime

__all__ = ["InstallEvent", "InstallLog", "InstallStep", "Installed", "Teller", "megabytes"]

STEPS = 5
_TENTHS = 10


@dataclass(frozen=True, slots=True)
class InstallStep:
    """A step began."""

    number: int
    """From 1."""
    total: int
    message: str


@dataclass(frozen=True, slots=True)
class InstallLog:
    """A line about what is going on."""

    text: str


@dataclass(frozen=True, slots=True)
class Installed:
    """The end; the last event, exactly once, unless the installation fails."""

    runtime: Runtime
    was_there: bool
    """It was installed already, and nothing was done."""


InstallEvent = InstallStep | InstallLog | Installed


class Teller:
    """Hands events to whoever follows, who takes them from ``queue``; None is behind the last one."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[InstallStep | InstallLog | None] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._tenth = 0

    def step(self, number: int, message: str, total: int = STEPS) -> None:
        """Tell that a step begins."""
        self.queue.put_nowait(InstallStep(number, total, message))

    def note(self, text: str) -> None:
        """Tell a remark."""
        self.queue.put_nowait(InstallLog(text))

    def progress(self, received: int, expected: int) -> None:
        """Tell of each tenth, from the thread that fetches."""
        tenth = received * _TENTHS // expected if expected else 0
        if tenth > self._tenth:
            self._tenth = tenth
            log = InstallLog(f"{megabytes(received)} of {megabytes(expected)}")
            self._loop.call_soon_threadsafe(self.queue.put_nowait, log)


def megabytes(size: int) -> str:
    """Return the size for people."""
    return f"{size / 1e6:.1f} MB"
