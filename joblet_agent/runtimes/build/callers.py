"""What rpc/ knows of builds."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from joblet_agent.runtimes.build.events import BuildEvent, BuildPhase
from joblet_agent.runtimes.build.records import BuildOptions

__all__ = ["BuildHandle", "BuildStatus", "RuntimeBuilds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildStatus:
    """A build that is under way, or that ended a short time ago."""

    id: str
    runtime: str
    """``NAME@VERSION``."""
    phase: BuildPhase
    waiting: bool
    """Other builds come first (runtimes.max_builds)."""
    detached: bool
    ended: bool
    caller: str
    began_at: datetime


class BuildHandle(Protocol):
    """A build, for those who follow it."""

    @property
    def id(self) -> str:
        """Of the build; two requests for one NAME@VERSION have the same."""

    @property
    def is_shared(self) -> bool:
        """Whether it was under way already when this handle was asked for."""

    def follow(self, *, verbose: bool = False) -> AsyncGenerator[BuildEvent, None]:
        """Yield everything from the first phase to the end, whenever following began.

        A build that nobody follows any more is cancelled a short time later, unless it is detached or is
        followed again; so whoever stops following closes it. ``debug`` lines come with ``verbose`` alone.
        """


class RuntimeBuilds(Protocol):
    """What rpc/ knows of builds; RuntimeBuilder is it."""

    async def build(self, text: str, options: BuildOptions, *, caller: str = "") -> BuildHandle:
        """Begin a build, or join the one of this NAME@VERSION.

        What is wrong with the definition is the end of the build that is followed, not an exception.
        Raises LimitReached when too many builds wait, HostUnavailable when the agent is closing.
        """

    async def attach(self, name_or_id: str) -> BuildHandle:
        """Return the build with this id or NAME@VERSION. Raises NotFound."""

    async def cancel(self, name_or_id: str) -> BuildStatus:
        """End the build and remove what there is of it; returns when that is done.

        Raises NotFound, and WrongState if it has come to its end first.
        """

    def all(self) -> tuple[BuildStatus, ...]:
        """Return the builds that run and wait, oldest first."""
