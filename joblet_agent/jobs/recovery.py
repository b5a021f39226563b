"""What an agent finds on the host: at its start, and when it may have missed something.

The order that makes kill -9 harmless between any two lines::

    recover  read the store → networks as it says → ask systemd for its units
             → for each job: adopt, end, or explain its absence
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from joblet_agent.jobs import files
from joblet_agent.jobs.belongings import Belongings
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.secrets import SecretKeeper
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tracker import JobTracker
from joblet_agent.jobs.uids import UidPool
from joblet_agent.model.job import JobId, JobRecord, JobState
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.pauses import GrowingPause, do_on_demand
from joblet_agent.ports import JobStore, UnitManager, UnitPhase, UnitStatus

_ALL = 2**31
_RUNS = frozenset({UnitPhase.STARTING, UnitPhase.RUNNING})

_log = logging.getLogger(__name__)


class Recovery:
    """Makes one of what the store knows and what systemd knows."""

    def __init__(
        self,
        *,
        registry: JobRegistry,
        store: JobStore,
        units: UnitManager,
        tracker: JobTracker,
        launcher: JobLauncher,
        control: UnitControl,
        keeper: LogKeeper,
        sampler: MetricsSampler,
        secrets: SecretKeeper,
        belongings: Belongings,
        paths: AgentPaths,
        uids: UidPool,
        networks: JobNetworks,
        boot_id: str,
        resync: asyncio.Event,
    ) -> None:
        """Whoever may have missed something sets ``resync``: systemd is asked again, soon."""
        self._registry = registry
        self._store = store
        self._units = units
        self._tracker = tracker
        self._launcher = launcher
        self._control = control
        self._keeper = keeper
        self._sampler = sampler
        self._secrets = secrets
        self._belongings = belongings
        self._paths = paths
        self._uids = uids
        self._networks = networks
        self._boot_id = boot_id
        self._wanted = resync
        self._tasks = Tasks()

    async def close(self) -> None:
        """Look no more."""
        await self._tasks.close()

    async def recover(self) -> None:
        """Adopt what the store and systemd know. Call once, before anything is launched."""
        on_disk = await asyncio.to_thread(files.homes, self._paths)  # later ones are of jobs on their way
        unfinished = await self._store.unfinished()
        for record in unfinished:
            if record.state is JobState.SCHEDULED:
                continue  # jobs/agenda.py has it until it is due
            if record.state is JobState.PENDING and not record.boot_id:
                self._registry.queue.append(record.id)
                continue
            job = self._registry.add(record)
            self._uids.keep(record.uid)
            if record.started_at is not None:
                job.begun.set()
        active = {job.record.id for job in self._registry}
        started = {job.record.id for job in self._registry if job.record.started_at is not None}
        await asyncio.to_thread(files.remove_leftovers, self._paths, active, started)
        await asyncio.to_thread(self._belongings.reconcile, [job.record for job in self._registry])
        to_start = {record.id for record in unfinished} - started
        await asyncio.to_thread(self._secrets.discard_all_but, to_start)
        await self._networks.recover(
            job.record for job in self._registry if job.record.boot_id == self._boot_id
        )
        await self._resync()
        self._tasks.start(
            do_on_demand(self._wanted, self._resync, "compare with systemd", GrowingPause()), "resync"
        )
        self._tasks.start(self._sweep(on_disk), "sweep")

    async def _sweep(self, on_disk: Sequence[JobId]) -> None:
        """Remove files of jobs that nobody knows, left by a crash between two lines."""
        known = set(await self._store.find("", most=_ALL))
        orphans = [job_id for job_id in on_disk if job_id not in known]
        for job_id in orphans:
            await asyncio.to_thread(files.remove_all, self._paths.job(job_id))
        if orphans:
            _log.info("removed the files of %d jobs without a record", len(orphans))

    async def _resync(self) -> None:
        before = [job for job in self._registry if not (job.is_launching or job.is_finishing)]
        present = {status.job_id: status for status in await self._units.present()}
        for job in before:
            status = present.get(job.record.id)
            if job.is_finishing:
                continue
            if status is None:
                self._explain_absence(job)
            elif _is_foreign(job.record, status):
                self._tracker.lost(job)
            else:
                self._keeper.keep(job.record, self._paths.job(job.record.id), job.end)
                self._tracker.on_unit(status)
                if status.phase in _RUNS and job.record.started_at is not None:
                    self._sampler.keep(job.record, self._paths.job(job.record.id))
                if status.phase in _RUNS:
                    await self._control.catch_up(job)
        for job_id in present.keys() - {job.record.id for job in self._registry}:
            await self._dismiss(present[job_id])

    async def _dismiss(self, status: UnitStatus) -> None:
        record = await self._store.get(status.job_id)
        if record is None:
            _log.warning("stopping unit of job %s: there is no record of it", status.job_id)
            await self._units.stop(status.job_id)
            await self._units.release(status.job_id)
        elif record.has_ended and not _is_foreign(record, status):
            await self._units.release(status.job_id)

    def _explain_absence(self, job: ActiveJob) -> None:
        record = job.record
        if record.boot_id == self._boot_id and (record.state is JobState.PENDING or _is_awaited(record)):
            job.is_finishing = True
            self._uids.give_back(record.uid)
            self._launcher.launch(replace(record, state=JobState.PENDING, uid=0, boot_id=""))
        else:
            self._tracker.absent(job)


def _is_foreign(record: JobRecord, status: UnitStatus) -> bool:
    return bool(
        record.invocation_id and status.invocation_id and record.invocation_id != status.invocation_id
    )


def _is_awaited(record: JobRecord) -> bool:
    """Tell whether a job that never started is started again: who repeats its token counts on it."""
    return bool(record.token and not record.invocation_id and not record.stop_requested)
