"""The use cases of builds: build, follow, cancel; and what an agent that starts finds.

A build is there for those who follow it. One that nobody follows any more, and that was not asked to go on by
itself (``detach``), ends after ``GRACE``: time enough to come back after a lost connection, or the end of
the agent. Who asks for NAME@VERSION while it is being built follows that build.
"""

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    LimitReached,
    NotFound,
    WrongState,
)
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.pauses import GrowingPause
from joblet_agent.runtime_file import Definition, FileInvalid, load
from joblet_agent.runtimes.build.callers import BuildHandle, BuildStatus, RuntimeBuilds
from joblet_agent.runtimes.build.driver import Driver
from joblet_agent.runtimes.build.events import BuildDone, BuildEvent, BuildPhase, LogLevel, Phase
from joblet_agent.runtimes.build.feed import Feed
from joblet_agent.runtimes.build.means import Means
from joblet_agent.runtimes.build.records import BuildOptions, BuildRecord, read_record
from joblet_agent.runtimes.build.turns import Turns

__all__ = ["BuildHandle", "BuildOptions", "BuildStatus", "RuntimeBuilder", "RuntimeBuilds"]

GRACE: Final = 60.0
"""Seconds that a build goes on without anybody who follows it."""
MOST_BUILDS: Final = 32
"""Builds that run and wait."""
_MOST_ENDED: Final = 16
_MOST_RESUMED: Final = 3
"""Agents that go on with a build: one that kills them ends."""
_FILE: Final = "runtime.yaml"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Handle:
    id: str
    feed: Feed
    is_shared: bool = False

    def follow(self, *, verbose: bool = False) -> AsyncGenerator[BuildEvent, None]:
        return self.feed.follow(verbose=verbose)


class RuntimeBuilder:
    """All builds of this agent."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._turns = Turns(means.config)
        self._drivers: dict[str, Driver] = {}
        """By id; those that have ended, too, the oldest of which are forgotten."""
        self._running: dict[str, asyncio.Task[None]] = {}
        self._tasks = Tasks()
        self._is_closed = False

    async def open(self) -> None:
        """Go on with the builds of an earlier agent that live, and remove what is left of the others.

        The store is open. What systemd does not tell now is found at the next start.
        """
        try:
            for build_id in await self._means.units.places():
                driver = await self._revived(build_id)
                if driver is None:
                    self._tasks.start(self._remove(build_id), f"remove build {build_id}")
                else:
                    self._turns.urgent.add(build_id)
                    self._start(driver)
        except JobletError as error:
            _log.error("builds of an earlier agent are left as they are: %s", error)

    async def close(self) -> None:
        """Do no more; steps go on, and so will the next agent."""
        self._is_closed = True
        await self._tasks.close()

    async def build(self, text: str, options: BuildOptions, *, caller: str = "") -> BuildHandle:
        """See RuntimeBuilds."""
        began_at = self._means.clock.now()
        try:
            definition = await asyncio.to_thread(load, text, _FILE)
        except FileInvalid as error:
            return self._refused(_invalid(error), began_at)
        # From here on without an await: one NAME@VERSION has one build.
        self._refuse_when_closed()
        if (other := self._under_way(str(definition), options)) is not None:
            return self._joined(other, definition, options, began_at)
        if not options.dry_run and len(self._running) >= MOST_BUILDS:
            raise LimitReached(
                f"cannot build runtime {definition}: {MOST_BUILDS} builds are under way or wait",
                reason="RUNTIME_TOO_MANY_BUILDS",
                hint="wait for one, or end one: rnx runtime cancel",
            )
        record = BuildRecord(
            id=secrets.token_hex(8),
            runtime=str(definition),
            text=text,
            options=options,
            caller=caller,
            began_at=began_at,
            boot_id=self._means.boot_id,
        )
        driver = self._driver(record, definition)
        self._start(driver)
        return _Handle(record.id, driver.feed)

    async def attach(self, name_or_id: str) -> BuildHandle:
        """See RuntimeBuilds."""
        driver = self._known(name_or_id)
        return _Handle(driver.record.id, driver.feed, is_shared=True)

    async def cancel(self, name_or_id: str) -> BuildStatus:
        """See RuntimeBuilds."""
        driver = self._known(name_or_id)
        running = self._running.get(driver.record.id)
        if running is not None:
            driver.cancel("it was canceled")
            await asyncio.wait((running,))
        end = driver.feed.end
        if end is None or end.error is None or end.error.reason != "RUNTIME_BUILD_CANCELED":
            raise WrongState(
                f"cannot cancel the build of runtime {driver.record.runtime}: it has ended already",
                reason="RUNTIME_BUILD_ENDED",
                hint="see: rnx runtime list",
            )
        return self._status(driver)

    def all(self) -> tuple[BuildStatus, ...]:
        """See RuntimeBuilds."""
        return tuple(self._status(self._drivers[build_id]) for build_id in self._running)

    # Starting and ending.

    def _driver(self, record: BuildRecord, definition: Definition) -> Driver:
        return Driver(record, definition, self._means, self._turns, lambda: self._abandoned(record.id))

    def _start(self, driver: Driver) -> None:
        build_id = driver.record.id
        self._drivers[build_id] = driver
        task = self._running[build_id] = self._tasks.start(driver.run(), f"build {build_id}")
        task.add_done_callback(lambda _task: self._ended(build_id))
        self._abandoned(build_id)  # nobody follows it yet

    def _ended(self, build_id: str) -> None:
        self._running.pop(build_id, None)
        self._turns.urgent.discard(build_id)
        if self._drivers[build_id].leaves_something and not self._is_closed:
            self._tasks.start(self._remove(build_id), f"remove build {build_id}")
        ended = [known for known in self._drivers if known not in self._running]
        for oldest in ended[:-_MOST_ENDED]:
            del self._drivers[oldest]

    def _abandoned(self, build_id: str) -> None:
        """Nobody follows the build: end it, unless somebody comes."""
        if build_id in self._running and not self._drivers[build_id].record.options.detach:
            asyncio.get_running_loop().call_later(GRACE, self._end_if_abandoned, build_id)

    def _end_if_abandoned(self, build_id: str) -> None:
        driver = self._drivers.get(build_id)
        if driver is None or build_id not in self._running:
            return
        if not driver.feed.followers and not driver.record.options.detach:
            driver.cancel("nobody follows it any more")

    async def _revived(self, build_id: str) -> Driver | None:
        """Return a build that an earlier agent began, if it can go on."""
        place = self._means.units.place(build_id)
        record = await asyncio.to_thread(read_record, place)
        if record is None or record.id != build_id or record.boot_id != self._means.boot_id:
            return None
        if record.resumed >= _MOST_RESUMED:
            _log.error("build %s of runtime %s ends: agents end while they make it", build_id, record.runtime)
            return None
        try:
            definition = await asyncio.to_thread(load, record.text, _FILE)
        except FileInvalid:
            return None
        driver = self._driver(replace(record, resumed=record.resumed + 1), definition)
        await driver.resume()
        _log.info("build %s of runtime %s goes on", build_id, record.runtime)
        return driver

    async def _remove(self, build_id: str) -> None:
        """Remove what is left of a build; somebody on the host may have a file of it open for a while."""
        pause = GrowingPause(first=1.0, most=60.0)
        told = ""
        while True:
            try:
                return await self._means.units.close_place(build_id)
            except (JobletError, OSError) as error:
                if told != (told := str(error)):
                    _log.error("something is left of build %s, to be removed later: %s", build_id, error)
                await pause.wait()

    # Who is meant.

    def _under_way(self, runtime: str, options: BuildOptions) -> Driver | None:
        if options.dry_run:
            return None
        for build_id in self._running:
            record = self._drivers[build_id].record
            if (record.runtime, record.options.only_lock, record.options.dry_run) == (
                runtime,
                options.only_lock,
                False,
            ):
                return self._drivers[build_id]
        return None

    def _joined(
        self, driver: Driver, definition: Definition, options: BuildOptions, began_at: datetime
    ) -> BuildHandle:
        record = driver.record
        if (record.text, record.options.lock) != (definition.text, options.lock):
            differs = WrongState(
                f"cannot build runtime {definition}: another definition, or lock, of it is being built",
                reason="RUNTIME_BUILD_DIFFERS",
                hint=f"wait for it, or end it: rnx runtime cancel {definition}",
            )
            return self._refused(differs, began_at)
        if options.detach:
            driver.detach()
        return _Handle(record.id, driver.feed, is_shared=True)

    def _refused(self, error: JobletError, began_at: datetime) -> BuildHandle:
        """Return a build that has ended before it began."""
        feed = Feed(self._means.clock)
        phase = BuildPhase.PARSE
        feed.tell(Phase(phase, "the definition", skipped=False, at=began_at, seconds=0.0))
        feed.say(LogLevel.ERROR, str(error))
        seconds = (self._means.clock.now() - began_at).total_seconds()
        feed.tell(BuildDone(seconds, error=error, message=str(error), phase=phase, phase_seconds=(seconds,)))
        return _Handle("", feed)

    def _known(self, name_or_id: str) -> Driver:
        """Return the build that is meant: one under way before one that has ended, the newest of several."""
        if (driver := self._drivers.get(name_or_id)) is not None:
            return driver
        found: Driver | None = None
        for build_id, driver in self._drivers.items():
            runtime = driver.record.runtime
            if name_or_id in {runtime, runtime.partition("@")[0]} and (
                found is None or build_id in self._running or found.record.id not in self._running
            ):
                found = driver
        if found is not None:
            return found
        raise NotFound(
            f"cannot find the build {name_or_id[:100]}: none with this id or of this runtime is under way",
            reason="RUNTIME_BUILD_NOT_FOUND",
            hint="see: rnx runtime builds",
        )

    def _status(self, driver: Driver) -> BuildStatus:
        record = driver.record
        return BuildStatus(
            id=record.id,
            runtime=record.runtime,
            phase=driver.phase,
            waiting=self._turns.is_waiting(record.id),
            detached=record.options.detach,
            ended=record.id not in self._running,
            caller=record.caller,
            began_at=record.began_at,
        )

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise HostUnavailable(
                "cannot build: the agent is about to end", reason="AGENT_ENDS", hint="try again"
            )


def _invalid(error: FileInvalid) -> JobletError:
    return InvalidRequest(
        "cannot build runtime: " + "; ".join(error.shown(_FILE)),
        reason="RUNTIME_DEFINITION_INVALID",
        hint="see: rnx runtime validate",
    )
