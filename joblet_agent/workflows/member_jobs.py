"""What is done to the jobs of a workflow together: stop, withdraw, let stand still and go on.

What is wished is stored with the workflow before; after the agent's death it is done again, and each of it
may be done twice.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from joblet_agent.errors import HostUnavailable, JobletError, NotFound, WrongState
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobId, JobRecord

_TOGETHER = 32

_log = logging.getLogger(__name__)


class Jobs(Protocol):
    """What is needed of JobService."""

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        """See JobService."""
        ...

    async def cancel(self, given: str) -> JobRecord:
        """See JobService."""
        ...


class MemberJobs:
    """Acts on jobs of workflows, on several at once, and not longer than its owner is there."""

    def __init__(self, jobs: Jobs, registry: JobRegistry, control: UnitControl) -> None:
        self._jobs = jobs
        self._registry = registry
        self._control = control
        self._slots = asyncio.Semaphore(_TOGETHER)
        self._tasks = Tasks()

    async def close(self) -> None:
        """Do nothing more."""
        await self._tasks.close()

    def stop(self, ids: Iterable[JobId]) -> None:
        """Stop those that run, withdraw those that wait; their ends are told by the jobs' news."""
        for job_id in ids:
            self._registry.queue.release(job_id)
            self._start(self._unless_ended(self._jobs.stop(job_id, force=False), job_id, "stop"), job_id)

    def withdraw(self, ids: Iterable[JobId]) -> None:
        """Withdraw those that wait."""
        for job_id in ids:
            if job_id in self._registry.queue:
                self._registry.queue.release(job_id)
                self._start(self._unless_ended(self._jobs.cancel(job_id), job_id, "cancel"), job_id)

    def hold(self, ids: Iterable[JobId]) -> None:
        """Let those that wait go on waiting, until ``resume``."""
        for job_id in ids:
            self._registry.queue.hold(job_id)

    def pause(self, ids: Iterable[JobId], is_wanted: Callable[[], bool]) -> list[asyncio.Task[None]]:
        """Let those that wait go on waiting, and those that run stand still as long as ``is_wanted``."""
        several = list(ids)
        self.hold(several)
        return [
            self._start(self._pause(job, is_wanted), job_id)
            for job_id in several
            if (job := self._registry.get(job_id)) is not None
        ]

    def resume(self, ids: Iterable[JobId], is_wanted: Callable[[], bool]) -> list[asyncio.Task[None]]:
        """Let those that wait start in their turn, and those that stand still go on."""
        several = list(ids)
        for job_id in several:
            self._registry.queue.release(job_id)
        self._registry.room_wanted.set()
        return [
            self._start(self._resume(job, is_wanted), job_id)
            for job_id in several
            if (job := self._registry.get(job_id)) is not None
        ]

    def _start(self, work: Coroutine[Any, Any, None], job_id: JobId) -> asyncio.Task[None]:
        return self._tasks.start(work, f"member-{job_id}")

    async def _pause(self, job: ActiveJob, is_wanted: Callable[[], bool]) -> None:
        await job.begun.wait()  # outside of the slots: a start may take long
        async with self._slots:
            if is_wanted() and not _is_over(job) and not await self._is_paused(job):
                await self._unless_ended(self._control.pause(job), job.record.id, "pause")

    async def _resume(self, job: ActiveJob, is_wanted: Callable[[], bool]) -> None:
        async with self._slots:
            if is_wanted() and not _is_over(job) and await self._is_paused(job):
                await self._unless_ended(self._control.resume(job), job.record.id, "resume")

    async def _is_paused(self, job: ActiveJob) -> bool:
        try:
            return await self._control.is_paused(job)
        except (NotFound, HostUnavailable):
            return job.record.paused

    async def _unless_ended(
        self, act: Coroutine[Any, Any, Any] | asyncio.Task[None], job_id: JobId, verb: str
    ) -> None:
        try:
            await act
        except (NotFound, WrongState):
            pass  # it has ended meanwhile, or another one did the same
        except JobletError as error:
            _log.warning("cannot %s job %s of a workflow: %s", verb, job_id, error)


def _is_over(job: ActiveJob) -> bool:
    return job.is_finishing or job.record.has_ended
