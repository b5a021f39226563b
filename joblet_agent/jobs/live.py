"""Control of running jobs: pause, resume, kill.

What systemd knows is not recorded a second time. Whether a job is paused is the state of its
unit's freezer, which outlives the agent: after a restart it is read from there (jobs/tracker.py), so an
agent that dies between the request and the answer leaves nothing to repair. The result of a signal
is the end of the job, if it has one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from joblet_agent.errors import NotFound, WrongState
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.outcome import signal_name
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.signals import signal_number
from joblet_agent.model.job import JobRecord, JobState
from joblet_agent.ports import JournalCopy, UnitManager

T = TypeVar("T")


class LiveControl:
    """What callers can do with a job while it runs."""

    def __init__(
        self,
        *,
        find: Callable[[str], Awaitable[JobRecord]],
        registry: JobRegistry,
        control: UnitControl,
        units: UnitManager,
        journal: JournalCopy,
    ) -> None:
        """``find`` returns the job of an id or a prefix (JobService.get)."""
        self._find = find
        self._registry = registry
        self._control = control
        self._units = units
        self._journal = journal

    async def pause(self, given: str) -> JobRecord:
        """Let all processes of the job stand still; return when they do.

        Raises WrongState: JOB_NOT_RUNNING, JOB_PAUSED.
        """
        job = await self.running(given, "pause")
        if await self._unless_ended(job, "pause", self._control.is_paused(job)):
            raise WrongState(
                f"cannot pause job {job.record.id[:8]}: it is paused already",
                reason="JOB_PAUSED",
                hint="let it go on with: rnx job resume",
            )
        await self._unless_ended(job, "pause", asyncio.shield(self._control.pause(job)))
        return job.record

    async def resume(self, given: str) -> JobRecord:
        """Let a paused job go on. Raises WrongState: JOB_NOT_RUNNING, JOB_NOT_PAUSED."""
        job = await self.running(given, "resume")
        if not await self._unless_ended(job, "resume", self._control.is_paused(job)):
            raise WrongState(
                f"cannot resume job {job.record.id[:8]}: it is not paused", reason="JOB_NOT_PAUSED"
            )
        await self._unless_ended(job, "resume", asyncio.shield(self._control.resume(job)))
        return job.record

    async def kill(self, given: str, signal: str) -> tuple[JobRecord, int]:
        """Send a signal to all processes of the job; return the job as it was, and the signal's number.

        A paused job takes what is not KILL when it goes on. Raises InvalidRequest UNKNOWN_SIGNAL,
        WrongState JOB_NOT_RUNNING.
        """
        number = signal_number(signal)
        job = await self.running(given, "kill")
        record = job.record
        self._journal.event(record, "killed", f"{signal_name(number)} to job {record.id}")
        await self._units.kill(record.id, number)
        return record, number

    async def running(self, given: str, verb: str) -> ActiveJob:
        """Return the job if its command runs; raise WrongState JOB_NOT_RUNNING if not."""
        record = await self._find(given)
        job = self._registry.get(record.id)
        if job is None or job.is_finishing or job.record.state is not JobState.RUNNING:
            raise _not_running(record if job is None else job.record, verb)
        return job

    async def _unless_ended(self, job: ActiveJob, verb: str, act: Awaitable[T]) -> T:
        try:
            return await act
        except NotFound:
            raise _not_running(job.record, verb) from None


def _not_running(record: JobRecord, verb: str) -> WrongState:
    why = "it has just ended" if record.state is JobState.RUNNING else f"it is {record.state}, not running"
    return WrongState(f"cannot {verb} job {record.id[:8]}: {why}", reason="JOB_NOT_RUNNING")
