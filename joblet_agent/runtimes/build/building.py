"""A build under way: what its phases share, and what makes it survive its agent.

Whatever a phase does is done once, under a name, and the record has the names of what is done. So a later
agent goes through all phases again: what is done is passed over, a step that still runs is waited for, and
the rest is done as if nothing had been.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, TypeVar

from joblet_agent.ports import Clock
from joblet_agent.runtimes.build.events import BuildPhase, LogLevel, Phase
from joblet_agent.runtimes.build.failures import level_of, step_failed
from joblet_agent.runtimes.build.feed import Feed
from joblet_agent.runtimes.build.records import BuildOptions, BuildRecord, PhaseNote, write_record
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, BuildUnits, StepEnd
from joblet_agent.runtimes.build.threads import disk_refused, in_thread
from joblet_agent.runtimes.working import Wanted

__all__ = ["Building"]

T = TypeVar("T")

_LEAST: Final = timedelta(seconds=1)
_REMEMBERED_LINES: Final = 200


class Building:
    """The progress of one build: told to followers, and stored."""

    def __init__(self, record: BuildRecord, feed: Feed, units: BuildUnits, clock: Clock) -> None:
        self.record = record
        self.feed = feed
        self.units = units
        self.place: BuildPlace | None = None
        """Once there is one; from then on the record is stored."""
        self.deadline: datetime | None = None
        self._clock = clock
        for note in record.phases:
            self._tell(note)

    @property
    def options(self) -> BuildOptions:
        """What the caller wants."""
        return self.record.options

    @property
    def phase(self) -> BuildPhase:
        """The phase that began last."""
        return self.record.phases[-1].phase if self.record.phases else BuildPhase.PARSE

    @property
    def seconds(self) -> float:
        """Since the build began."""
        return self._since(self._clock.now())

    def phase_seconds(self) -> tuple[float, ...]:
        """Return how long each phase took that has begun."""
        times = [*(note.at for note in self.record.phases), self._clock.now()]
        return tuple((end - begin).total_seconds() for begin, end in pairwise(times))

    def _since(self, at: datetime) -> float:
        return max((at - self.record.began_at).total_seconds(), 0.0)

    async def begin(self, phase: BuildPhase, message: str, *, skipped: bool = False) -> None:
        """Tell that the phase begins, unless an earlier agent has."""
        if self.has_begun(phase):
            return
        note = PhaseNote(phase, message, skipped, self._clock.now())
        await self._save(replace(self.record, phases=(*self.record.phases, note)))
        self._tell(note)

    async def skip(self, phase: BuildPhase, reason: str) -> None:
        """Tell that there is nothing to do in the phase."""
        await self.begin(phase, f"skipped: {reason}", skipped=True)

    def _tell(self, note: PhaseNote) -> None:
        self.feed.tell(Phase(note.phase, note.message, note.skipped, note.at, self._since(note.at)))

    def say(self, text: str, level: LogLevel = LogLevel.INFO) -> None:
        """Add a log line."""
        self.feed.say(level, text)

    async def settle(self, place: BuildPlace) -> None:
        """Keep the record there from now on."""
        self.place = place
        await self._save(self.record)

    def has_begun(self, phase: BuildPhase) -> bool:
        """Say whether it was told that the phase begins, by this agent or an earlier one."""
        return any(note.phase is phase for note in self.record.phases)

    def is_done(self, name: str) -> bool:
        """Say whether this was done, by this agent or an earlier one."""
        return name in self.record.done

    async def once(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        """Do it unless it was done; return what it left to be known."""
        if (known := self.record.done.get(name)) is not None:
            return known
        value = await work()
        await self._save(replace(self.record, done={**self.record.done, name: value}, step=""))
        return value

    async def steps(self, steps: Sequence[BuildStep]) -> None:
        """Run the steps in their order. Raises the error that says why one failed."""
        for step in steps:
            await self.once(step.name, lambda step=step: self._step(step))  # type: ignore[misc]

    async def _step(self, step: BuildStep) -> str:
        step = replace(step, deadline=self._remaining(step.deadline))
        phase, end = self.phase, None
        said: deque[str] = deque(maxlen=_REMEMBERED_LINES)

        def on_line(line: str) -> None:
            said.append(line)
            self.feed.say(level_of(phase, line), line)

        if self.record.step == step.name:
            end = await self.units.adopt(step, on_line)
            if end is None and await asyncio.to_thread(step.place.log(step.name).exists):
                # Killed between its end and the note of that, or just before its start: nobody knows which.
                end = StepEnd(0, "gone")
        if end is None:
            await self._save(replace(self.record, step=step.name))
            end = await self.units.run(step, on_line)
        if not end.is_success:
            raise step_failed(self.record.runtime, phase, end, tuple(said) or end.last_lines)
        return ""

    def start_clock(self, limit: timedelta) -> timedelta:
        """Let the time of the build run, from its turn on; return how much is left."""
        turn = next(
            (note.at for note in self.record.phases if note.phase is BuildPhase.RESOLVE_BASE),
            self._clock.now(),
        )
        self.deadline = turn + limit
        return max(self.deadline - self._clock.now(), timedelta(0))

    def _remaining(self, longest: timedelta) -> timedelta:
        """Return how long a step may take: a build as a whole has a limit."""
        if self.deadline is None:
            return longest
        return max(min(longest, self.deadline - self._clock.now()), _LEAST)

    async def thread(self, work: Callable[[Wanted], T]) -> T:
        """Do blocking work in a thread, which ends before this does, also when the build is canceled."""
        return await in_thread(self.record.runtime, work)

    async def _save(self, record: BuildRecord) -> None:
        self.record = record
        if self.place is None:
            return
        try:
            await asyncio.to_thread(write_record, self.place, record)
        except OSError as error:
            raise disk_refused(record.runtime, error) from error
