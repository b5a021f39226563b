"""Drives one build from where it is to its end, and removes what it leaves."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from joblet_agent.errors import JobletError, LaunchFailed, LimitReached, WrongState
from joblet_agent.runtime_file import Definition
from joblet_agent.runtimes.build.building import Building
from joblet_agent.runtimes.build.events import BuildDone, BuildPhase, LogLevel
from joblet_agent.runtimes.build.feed import Feed
from joblet_agent.runtimes.build.means import Means
from joblet_agent.runtimes.build.phases import Outcome, Phases
from joblet_agent.runtimes.build.records import BuildRecord
from joblet_agent.runtimes.build.threads import disk_refused
from joblet_agent.runtimes.build.turns import Turns

__all__ = ["Driver"]

_log = logging.getLogger(__name__)


class Driver:
    """One build. Its events are in ``feed``; the end comes when nothing is left of it but the runtime."""

    def __init__(
        self,
        record: BuildRecord,
        definition: Definition,
        means: Means,
        turns: Turns,
        left: Callable[[], None] = lambda: None,
    ) -> None:
        self.feed = Feed(means.clock, left)
        self._means = means
        self._building = Building(record, self.feed, means.units, means.clock)
        self._phases = Phases(self._building, definition, means, turns)
        self._working: asyncio.Task[Outcome] | None = None
        self._canceled = ""
        self.leaves_something = False
        """It has ended, and its place could not be removed."""

    @property
    def record(self) -> BuildRecord:
        """As it is now."""
        return self._building.record

    @property
    def phase(self) -> BuildPhase:
        """The phase that began last."""
        return self._building.phase

    async def resume(self) -> None:
        """Go on where an earlier agent was; before ``run``."""
        await self._building.settle(self._means.units.place(self.record.id))

    def detach(self) -> None:
        """Let it go on when nobody follows; stored with its next step."""
        record = self._building.record
        self._building.record = replace(record, options=replace(record.options, detach=True))

    def cancel(self, why: str) -> None:
        """End the build; ``why`` is told. Does nothing once it has ended."""
        self._canceled = self._canceled or why
        if self._working is not None:
            self._working.cancel()

    async def run(self) -> None:
        """Do what is left to do. Cancelled, it leaves the build to the next agent."""
        try:
            done = await self._end()
        except asyncio.CancelledError:
            if self._working is not None and not self._working.done():
                self._working.cancel()
                with suppress(asyncio.CancelledError, JobletError):
                    await self._working
            raise
        if done.error is not None:
            _log.info("build %s: %s", self.record.id, done.error)
        try:
            await self._close_place()
        finally:
            self.feed.tell(done)

    async def _end(self) -> BuildDone:
        building = self._building
        error: JobletError
        try:
            outcome = await self._work()
        except TimeoutError:  # before OSError, of which it is one
            error = LimitReached(
                f"cannot build runtime {self.record.runtime}: its time was over "
                f"in the phase {self.phase.value}",
                reason="RUNTIME_BUILD_TIMEOUT",
                hint="give the build more (limits.time), up to runtimes.max_time",
            )
        except JobletError as refused:
            error = refused
        except OSError as refused_by_disk:
            error = disk_refused(self.record.runtime, refused_by_disk)
        except asyncio.CancelledError:
            if not self._canceled:
                raise
            error = WrongState(
                f"cannot build runtime {self.record.runtime}: {self._canceled}",
                reason="RUNTIME_BUILD_CANCELED",
            )
        except Exception as bug:
            _log.exception("build %s of runtime %s failed", self.record.id, self.record.runtime)
            error = LaunchFailed(
                f"cannot build runtime {self.record.runtime}: internal error ({type(bug).__name__})",
                reason="INTERNAL",
                hint="see the agent's log",
            )
        else:
            return BuildDone(
                building.seconds,
                runtime=outcome.runtime,
                message=outcome.message,
                lock=outcome.lock,
                phase_seconds=building.phase_seconds(),
            )
        building.say(str(error), LogLevel.ERROR)
        return BuildDone(
            building.seconds,
            error=error,
            message=str(error),
            phase=self.phase,
            phase_seconds=building.phase_seconds(),
        )

    async def _work(self) -> Outcome:
        if self._canceled:
            raise asyncio.CancelledError
        self._working = asyncio.create_task(self._phases.run(), name=f"build {self.record.id}")
        return await self._working

    async def _close_place(self) -> None:
        try:
            await self._means.units.close_place(self.record.id)
        except (JobletError, OSError) as error:
            _log.error("build %s has ended, and something is left of it: %s", self.record.id, error)
            self.leaves_something = True
