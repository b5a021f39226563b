"""What is asked of the units of running jobs: stop, pause, resume, other limits.

The order that makes kill -9 harmless between any two lines::

    stop     store the wish → StopUnit or KillUnit
    limits   store them, and that systemd does not have them → SetUnitProperties → store that it has

What was stored and perhaps never sent is sent by the next recovery (``catch_up``). A pause is not stored:
it is the state of the unit's freezer.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from joblet_agent.errors import HostUnavailable, LaunchFailed, NotFound, StoreFailed, WrongState
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.registry import ActiveJob
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.saving import save_until_done
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.model.job import JobRecord, JobState
from joblet_agent.ports import JobStore, UnitManager

_log = logging.getLogger(__name__)


class UnitControl:
    """Asks systemd to act on the units of jobs that have not ended, each time in a task of its own."""

    def __init__(
        self,
        *,
        store: JobStore,
        units: UnitManager,
        tracker: JobTracker,
        paths: AgentPaths,
        root: DefaultRoot,
        resync: asyncio.Event,
    ) -> None:
        """``resync`` is set when systemd is to be asked again (jobs/recovery.py)."""
        self._store = store
        self._units = units
        self._tracker = tracker
        self._paths = paths
        self._root = root
        self._resync = resync
        self._changes = asyncio.Lock()
        self._tasks = Tasks()

    async def close(self) -> None:
        """Ask for nothing any more; what was under way is found again by the next recovery."""
        await self._tasks.close()

    def stop(self, job: ActiveJob, *, force: bool) -> asyncio.Task[None]:
        """Ask systemd to stop a job that has not ended, or with ``force`` to kill it.

        In a task of its own: whoever asked may go away. It ends before the job does and
        raises HostUnavailable, after which the stop is sent again as soon as systemd answers.
        """
        return self._tasks.start(self._stop(job, force=force), f"stop-{job.record.id}")

    async def _stop(self, job: ActiveJob, *, force: bool) -> None:
        if not job.record.stop_requested:
            await self._record_stop(job)
        if job.is_launching or job.is_finishing:
            return
        try:
            await (self._units.kill(job.record.id) if force else self._units.stop(job.record.id))
        except HostUnavailable:
            self._resync.set()
            raise

    async def _record_stop(self, job: ActiveJob) -> None:
        job.record = replace(job.record, stop_requested=True, state=JobState.STOPPING)
        try:
            await self._store.save(job.record)
        except StoreFailed as error:  # stop it all the same: it may be what fills the disk
            _log.error("the stop of job %s is not recorded: %s", job.record.id, error)

    def pause(self, job: ActiveJob) -> asyncio.Task[None]:
        """Freeze a running job, in a task of its own. Raises as ports.UnitManager.freeze."""
        return self._tasks.start(self._pause(job), f"pause-{job.record.id}")

    async def _pause(self, job: ActiveJob) -> None:
        await self._unless_it_ends(job, self._units.freeze(job.record.id))
        self._tracker.note_pause(job, paused=True)
        if job.record.stop_requested:  # meanwhile: a frozen job would wait for its kill
            await self._units.stop(job.record.id)

    def resume(self, job: ActiveJob) -> asyncio.Task[None]:
        """Thaw a paused job, in a task of its own. Raises as ports.UnitManager.thaw."""
        return self._tasks.start(self._resume(job), f"resume-{job.record.id}")

    async def _resume(self, job: ActiveJob) -> None:
        await self._unless_it_ends(job, self._units.thaw(job.record.id))
        self._tracker.note_pause(job, paused=False)

    @staticmethod
    async def _unless_it_ends(job: ActiveJob, call: Coroutine[Any, Any, None]) -> None:
        """Await the call, but not beyond the end of the job.

        systemd 252 never answers a freeze or thaw of a unit that ends meanwhile, as a paused job does
        that was sent TERM and is resumed.
        """
        tasks = [asyncio.create_task(call), asyncio.create_task(job.end.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                await tasks[0]
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def is_paused(self, job: ActiveJob) -> bool:
        """Ask systemd: it does not tell of every freeze by others (252 of none)."""
        self._tracker.note_pause(job, paused=await self._units.is_frozen(job.record.id))
        return job.record.paused

    def change_limits(
        self, job: ActiveJob, edit: Callable[[JobRecord], JobRecord], names: tuple[str, ...]
    ) -> asyncio.Task[None]:
        """Give a job that runs other limits, ``names`` of them, as ``edit`` says; in a task of its own.

        Stored first: what the agent's death keeps from systemd is handed over by the next recovery. The
        task raises StoreFailed and LaunchFailed (nothing is changed), HostUnavailable (systemd is asked again
        as soon as it answers), WrongState if the job has ended, and what ``edit`` raises.
        """
        return self._tasks.start(self._change_limits(job, edit, names), f"limits-{job.record.id}")

    async def _change_limits(
        self, job: ActiveJob, edit: Callable[[JobRecord], JobRecord], names: tuple[str, ...]
    ) -> None:
        async with self._changes:
            before = job.record
            if job.is_finishing or before.has_ended:
                raise _has_ended(before)
            job.record = replace(edit(before), unapplied_limits=names)
            try:
                await self._store.save(job.record)
                await self._apply_limits(job)
            except (StoreFailed, LaunchFailed):
                job.record = replace(job.record, spec=before.spec, unapplied_limits=())
                if not job.is_finishing:
                    await save_until_done(self._store, job)
                raise

    async def _apply_limits(self, job: ActiveJob) -> None:
        plan = launch_plan(job.record, self._paths, self._root.path)
        try:
            await self._units.set_limits(plan, job.record.unapplied_limits)
        except NotFound as error:
            raise _has_ended(job.record) from error
        except HostUnavailable:
            self._resync.set()
            raise
        job.record = replace(job.record, unapplied_limits=())
        if not job.is_finishing:  # the end is stored with all that is known
            await save_until_done(self._store, job)

    async def catch_up(self, job: ActiveJob) -> None:
        """Ask systemd again for what was asked for, but perhaps never sent."""
        if job.record.unapplied_limits:
            try:
                await self._apply_limits(job)
            except (LaunchFailed, WrongState) as error:
                _log.warning("job %s keeps its earlier limits: %s", job.record.id, error)
        if job.record.stop_requested:
            await self._units.stop(job.record.id)


def _has_ended(record: JobRecord) -> WrongState:
    return WrongState(f"cannot change job {record.id[:8]}: it has ended", reason="JOB_ENDED")
