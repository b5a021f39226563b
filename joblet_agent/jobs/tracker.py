"""From unit events to job states: begin and end.

The order that makes kill -9 harmless between any two lines::

    launch   jobs/launch.py
    begin    signal: store RUNNING (invocation id, pid)
    end      signal: store the outcome → wake followers → release the unit → leave the network
             → remove what is private
    recover  jobs/recovery.py

The unit stays loaded until the outcome is stored, so whatever is lost here is found by the recovery.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from joblet_agent.errors import JobletError, LaunchFailed
from joblet_agent.jobs import files
from joblet_agent.jobs.belongings import Belongings
from joblet_agent.jobs.metrics import history
from joblet_agent.jobs.metrics.link import Links, Traffic
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.metrics.usage import (
    pieced_together,
    split_report,
    summary,
    with_memory_peak,
    with_traffic,
)
from joblet_agent.jobs.news import JobNews
from joblet_agent.jobs.outcome import (
    host_rebooted,
    lost,
    outcome_of,
    start_failed,
    stopped_before_start,
    stopped_meanwhile,
    with_full_work,
)
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.saving import save_until_done
from joblet_agent.jobs.survivors import survivors, with_survivors
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.uids import UidPool
from joblet_agent.model.job import JobId, JobRecord, JobState, Outcome, Reason
from joblet_agent.model.metrics import Usage
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.ports import (
    Accounted,
    Clock,
    EndedInvocations,
    JobRuntimes,
    JobStore,
    JournalCopy,
    UnitManager,
    UnitPhase,
    UnitStatus,
)

Collect: TypeAlias = Callable[[JobRecord], Awaitable[None]]
"""Takes what others are to have of a job of a workflow that has run, before its files are settled."""

_FINE = frozenset({"", "success"})
"""Results of a unit that is not "failed": systemd starts no OnFailure= for it."""
# What a stop by somebody else looks like. systemd stops a unit for other reasons as well
# (out of memory, a time limit), and those it tells.
_ENDS_BY_STOP = frozenset({Reason.NONE, Reason.EXIT_CODE, Reason.SIGNAL})

_MAY_BE_FULL = frozenset({Reason.EXIT_CODE, Reason.SIGNAL})
"""What a program ends with that could not write."""

_log = logging.getLogger(__name__)


class JobTracker:
    """Takes every job that systemd has accepted to its end."""

    def __init__(
        self,
        *,
        registry: JobRegistry,
        store: JobStore,
        units: UnitManager,
        invocations: EndedInvocations,
        sampler: MetricsSampler,
        links: Links,
        journal: JournalCopy,
        clock: Clock,
        belongings: Belongings,
        paths: AgentPaths,
        uids: UidPool,
        networks: JobNetworks,
        runtimes: JobRuntimes,
        retention: Retention,
        news: JobNews,
        collect: Collect,
        boot_id: str,
        resync: asyncio.Event,
    ) -> None:
        """``resync`` is set when systemd is to be asked again (jobs/recovery.py)."""
        self._registry = registry
        self._store = store
        self._units = units
        self._invocations = invocations
        self._sampler = sampler
        self._links = links
        self._journal = journal
        self._clock = clock
        self._belongings = belongings
        self._paths = paths
        self._uids = uids
        self._networks = networks
        self._runtimes = runtimes
        self._retention = retention
        self._news = news
        self._collect = collect
        self._boot_id = boot_id
        self._resync = resync
        self._tasks = Tasks()
        self._is_closed = False

    async def close(self) -> None:
        """Stop driving. Jobs go on; what was under way is found again by the next recovery."""
        self._is_closed = True
        await self._tasks.close()

    def on_unit(self, status: UnitStatus) -> None:
        """Take in what systemd tells of a job's unit; see ports.UnitManager.listen."""
        job = self._registry.get(status.job_id)
        if job is None or job.is_finishing or self._is_closed:
            return
        match status.phase:
            case UnitPhase.STARTING:
                return
            case UnitPhase.RUNNING:
                self._begin(job, status)
                self.note_pause(job, paused=status.is_frozen)
            case UnitPhase.STOPPING:
                # Behind the end of the main process it is no stop: systemd clears away what is left.
                job.was_stopping = job.was_stopping or not status.exit_kind
            case UnitPhase.GONE if job.record.invocation_id and not status.exit_kind:
                self.absent(job)
            case UnitPhase.ENDED | UnitPhase.GONE:
                job.is_finishing = True
                self._tasks.start(self._finish(job, status), f"finish-{status.job_id}")

    def note_pause(self, job: ActiveJob, *, paused: bool) -> None:
        """Take in that the job stands still, or goes on."""
        if job.is_finishing or job.record.paused is paused:
            return
        job.record = replace(job.record, paused=paused)
        event = "paused" if paused else "resumed"
        self._journal.event(job.record, event, f"job {job.record.id} is {event}")

    def _begin(self, job: ActiveJob, status: UnitStatus) -> None:
        if job.record.started_at is not None:
            return
        record = job.record
        job.record = replace(
            record,
            state=JobState.STOPPING if record.stop_requested else JobState.RUNNING,
            invocation_id=status.invocation_id,
            main_pid=status.main_pid,
            started_at=status.started_at or self._clock.now(),
        )
        job.begun.set()
        self._news.begun(job.record)
        self._sampler.keep(job.record, self._paths.job(record.id))
        self._tasks.start(self._record_begin(job), f"begin-{record.id}")

    async def _record_begin(self, job: ActiveJob) -> None:
        if not job.is_finishing:  # the end is stored with all that the beginning told
            await save_until_done(self._store, job)
        await asyncio.to_thread(self._belongings.discard_start, job.record)

    def absent(self, job: ActiveJob) -> None:
        """End a job whose unit is gone and told nothing, as far as others know how."""
        job.is_finishing = True
        self._tasks.start(self._explain_absence(job), f"absent-{job.record.id}")

    async def _explain_absence(self, job: ActiveJob) -> None:
        record = job.record
        if record.boot_id != self._boot_id:
            await self.conclude(job, host_rebooted())
        elif not record.invocation_id:
            never = start_failed("the agent was restarted before systemd had accepted the job")
            await self.conclude(job, stopped_before_start() if record.stop_requested else never)
        else:
            status = await self._invocations.status(record.id, record.invocation_id)
            if status is not None:
                await self._finish(job, status)
            else:
                await self.conclude(job, stopped_meanwhile() if record.stop_requested else lost())

    def lost(self, job: ActiveJob) -> None:
        """End a job whose unit is another one's now."""
        job.is_finishing = True
        self._tasks.start(self.conclude(job, lost()), f"lost-{job.record.id}")

    async def _finish(self, job: ActiveJob, status: UnitStatus) -> None:
        record = job.record
        text, left, traffic = await asyncio.to_thread(self._read_end, record)
        report, usage = split_report(text)
        outcome = outcome_of(
            status,
            stop_requested=record.stop_requested,
            launch_report=report,
            spec=record.spec,
            runtime=record.runtime,
        )
        if record.runtime is not None and outcome.reason is Reason.START_FAILED and not report:
            outcome = await self._start_failed_with(record.runtime, outcome)
        if job.was_stopping and not record.stop_requested and outcome.reason in _ENDS_BY_STOP:
            outcome = await self._stopped_by_others(outcome)
        if usage is None and report:
            usage = await self._usage_of_killed(record.id, status, outcome)
        usage = usage and with_traffic(usage, traffic)
        if outcome.reason in _MAY_BE_FULL and await asyncio.to_thread(self._belongings.work_is_full, record):
            outcome = with_full_work(outcome, record.spec.resources)
        outcome = with_survivors(with_memory_peak(outcome, usage), left)
        await self.conclude(job, outcome, status, usage)

    async def _start_failed_with(self, runtime: PinnedRuntime, outcome: Outcome) -> Outcome:
        """Name what is wrong with the runtime: it may have been damaged since the start began."""
        try:
            await asyncio.to_thread(self._runtimes.check, runtime)
        except LaunchFailed as error:
            return start_failed(str(error))
        return outcome

    def _read_end(self, record: JobRecord) -> tuple[str, list[int], Traffic]:
        """Return the launcher's report, which processes are left, and what went over the link. Blocking."""
        report = files.read_report(self._paths.job(record.id))
        group = self._units.control_group(record.id, record.workflow_id)
        return report, survivors(group), self._links.traffic(record.id)

    async def _usage_of_killed(self, job_id: JobId, status: UnitStatus, outcome: Outcome) -> Usage | None:
        """Piece together what a job used whose launcher was killed with it; None if nobody knows."""
        accounted, last = Accounted(), None
        try:
            last = await asyncio.to_thread(history.last, self._paths.job(job_id).metrics)
            if status.phase is UnitPhase.ENDED:
                accounted = await self._units.accounted(job_id)
        except (OSError, JobletError) as error:
            _log.warning("job %s: its final figures are not complete: %s", job_id, error)
        usage = pieced_together(accounted.usage, last)
        if outcome.reason is Reason.OOM_KILL:  # it had all that it may have
            ceiling = accounted.memory_max or (last.memory_limit if last else 0)
            usage = replace(usage, memory_peak=max(usage.memory_peak, ceiling))
        return usage if usage != Usage(is_partial=True) else None

    async def _stopped_by_others(self, outcome: Outcome) -> Outcome:
        try:
            is_reboot = await self._units.host_is_stopping()
            if is_reboot:
                self._registry.close_room()
        except JobletError:
            is_reboot = True  # the bus goes down with the host
        if is_reboot:
            return replace(
                outcome,
                state=JobState.FAILED,
                reason=Reason.HOST_REBOOTED,
                message="the host was shut down or rebooted",
            )
        return replace(
            outcome, state=JobState.STOPPED, reason=Reason.STOPPED, message="stopped with systemctl"
        )

    async def conclude(
        self, job: ActiveJob, outcome: Outcome, status: UnitStatus | None = None, usage: Usage | None = None
    ) -> None:
        """Store the outcome, then tell everybody, then let systemd and the disk forget.

        ``status`` is that of a unit that is to be released.
        """
        job.is_finishing = True
        ended_at = (status.ended_at if status else None) or self._clock.now()
        await self._sampler.conclude(job.record.id, usage, ended_at)
        has_files = await self._settle_work(job.record, status)
        record = job.record
        job.record = replace(
            record,
            state=outcome.state,
            outcome=outcome,
            invocation_id=record.invocation_id or (status.invocation_id if status else ""),
            started_at=record.started_at or (status.started_at if status else None),
            ended_at=ended_at,
            main_pid=0,
            usage=usage,
            paused=False,
            attachment=None,
        )
        if outcome.state is JobState.FAILED and (status is None or status.result in _FINE):
            await self._tell_failure(record.id)  # before it is stored: twice after a crash, never not at all
        await save_until_done(self._store, job)
        self._registry.announce_end(record.id)
        self._news.ended(job.record)
        job.begun.set()
        self._journal.event(job.record, "ended", _told(job.record))
        if status is not None:
            await self._release(record.id)
        await self._networks.leave(record.id)
        await asyncio.to_thread(files.remove_private, self._paths.job(record.id))
        self.forget(job)
        self._retention.job_ended(job.record, has_files=has_files)

    async def _settle_work(self, record: JobRecord, status: UnitStatus | None) -> bool:
        """Discard its secrets and keep what it has left, if it has run; return whether there is anything."""
        has_run = record.started_at is not None or (status is not None and status.started_at is not None)
        if has_run and record.workflow_id:
            await self._collect(record)
        keep = has_run and self._retention.keeps_work
        return await asyncio.to_thread(self._belongings.settle, record, keep=keep)

    async def _tell_failure(self, job_id: JobId) -> None:
        """Start the hook for a job that failed although systemd calls what its unit did a success."""
        try:
            await self._units.tell_failure(job_id)
        except JobletError as error:
            _log.error("job %s failed and its hook does not start: %s", job_id, error)

    async def _release(self, job_id: JobId) -> None:
        try:
            await self._units.release(job_id)
        except JobletError as error:
            _log.warning("unit of job %s is not released yet: %s", job_id, error)
            self._resync.set()

    def forget(self, job: ActiveJob) -> None:
        """Free what the job holds; nothing is left of it but what the store has."""
        job.begun.set()
        job.forgotten.set()
        self._registry.announce_end(job.record.id)
        self._uids.give_back(job.record.uid)
        self._networks.forget(job.record.id)
        self._registry.remove(job.record.id)


def _told(record: JobRecord) -> str:
    outcome = record.outcome
    assert outcome is not None
    told = f"job {record.id} {outcome.state}" + (f": {outcome.message}" if outcome.message else "")
    used = summary(record.usage) if record.usage else ""
    return f"{told} ({used})" if used else told
