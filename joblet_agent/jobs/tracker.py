"""From unit events to job states: launch, begin, end, and recovery after the agent was away.

The order that makes kill -9 harmless between any two lines::

    launch   what came along: files, secrets → store INITIALIZING (uid, boot id) → its other files
             → StartTransientUnit
    begin    signal: store RUNNING (invocation id, pid)
    end      signal: store the outcome → wake followers → release the unit → remove what is private
    recover  read the store → ask systemd for its units → for each job: adopt, end, or explain its absence

The unit stays loaded until the outcome is stored, so whatever is lost here is found there. A job
from the queue stays PENDING in the store until its command runs: a lost start is made again,
which is safe because a unit name is used once and systemd has answered that it does not know it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from joblet_agent.errors import (
    HostUnavailable,
    JobletError,
    LaunchFailed,
    LimitReached,
    NotFound,
    NotOffered,
    StoreFailed,
    WrongState,
)
from joblet_agent.jobs import files
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.metrics import history
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.jobs.metrics.usage import pieced_together, split_report, summary, with_memory_peak
from joblet_agent.jobs.outcome import outcome_of, start_failed
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.profiles import Profiles
from joblet_agent.jobs.registry import ActiveJob, JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.jobs.secrets import SecretKeeper, deliver_files
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.tree import sync_tree
from joblet_agent.jobs.uids import UidPool
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason
from joblet_agent.model.metrics import Usage
from joblet_agent.model.profile import Profile
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.ports import (
    Accounted,
    Clock,
    EndedInvocations,
    JobStore,
    JournalCopy,
    UnitManager,
    UnitPhase,
    UnitStatus,
)

_RETRY_FIRST, _RETRY_MOST = 0.2, 5.0
_ALL = 2**31
_FINE = frozenset({"", "success"})
"""Results of a unit that is not "failed": systemd starts no OnFailure= for it."""
_RUNS = frozenset({UnitPhase.STARTING, UnitPhase.RUNNING})
# What a stop by somebody else looks like. systemd stops a unit for other reasons as well
# (out of memory, a time limit), and those it tells.
_ENDS_BY_STOP = frozenset({Reason.NONE, Reason.EXIT_CODE, Reason.SIGNAL})

_log = logging.getLogger(__name__)


class NotDelivered(HostUnavailable):
    """What came with a job, files or secrets, cannot be stored; there is no such job."""


class JobTracker:
    """Drives every unfinished job from launch to end."""

    def __init__(
        self,
        *,
        registry: JobRegistry,
        store: JobStore,
        units: UnitManager,
        invocations: EndedInvocations,
        keeper: LogKeeper,
        sampler: MetricsSampler,
        journal: JournalCopy,
        clock: Clock,
        paths: AgentPaths,
        root: DefaultRoot,
        uids: UidPool,
        retention: Retention,
        secrets: SecretKeeper,
        boot_id: str,
        start_parallelism: int,
        profiles: Profiles,
    ) -> None:
        self._registry = registry
        self._store = store
        self._units = units
        self._invocations = invocations
        self._keeper = keeper
        self._sampler = sampler
        self._journal = journal
        self._clock = clock
        self._paths = paths
        self._root = root
        self._uids = uids
        self._retention = retention
        self._secrets = secrets
        self._boot_id = boot_id
        self._profiles = profiles
        self._starts = asyncio.Semaphore(start_parallelism)
        self._changes = asyncio.Lock()
        self._queue_edits = asyncio.Lock()
        self._tasks = Tasks()
        self._resync_wanted = asyncio.Event()
        self._room_wanted = asyncio.Event()
        self._ended = 0
        self._is_closed = False

    @property
    def ended_count(self) -> int:
        """How many jobs have ended since the agent started."""
        return self._ended

    async def close(self) -> None:
        """Stop driving. Jobs go on; what was under way is found again by the next recover()."""
        self._is_closed = True
        await self._tasks.close()

    # -- launch ----------------------------------------------------------------------------------

    def launch(
        self, record: JobRecord, delivery: Delivery | None = None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[ActiveJob]:
        """Take a slot and start the job in a task of the tracker's own, with the files of ``delivery``.

        ``secrets`` are those of a job that did not wait; one that did has them put away already.
        The caller may go away: the launch goes on. The task raises what refused the launch; the
        job is FAILED then, or unknown if what came with it or the store itself refused.
        """
        job = self._registry.add(record)
        job.is_launching = True
        return self._spawn(self._launch(job, delivery, secrets), f"launch-{record.id}")

    async def _launch(self, job: ActiveJob, delivery: Delivery | None, secrets: Secrets) -> ActiveJob:
        record = job.record
        own = self._paths.job(record.id)
        try:
            await self._bring(record, delivery, secrets, lasting=False)
            job.record = replace(record, uid=self._uid_for(record.spec), boot_id=self._boot_id)
            await self._store_launch(job)
            secrets = await asyncio.to_thread(self._prepare, job.record)
        except (StoreFailed, LimitReached, NotOffered, NotDelivered) as error:
            if record.state is JobState.PENDING:  # the store knows it already
                await self._conclude(job, start_failed(str(error)), None)
            else:
                await self._take_back(record)
                self._forget(job)
            raise
        except OSError as error:
            text = f"cannot prepare the files of the job: {error.strerror}"
            await self._conclude(job, start_failed(text), None)
            raise HostUnavailable(
                text, reason="CANNOT_PREPARE_FILES", hint=f"is the disk of {self._paths.state_dir} full?"
            ) from error
        self._keeper.keep(job.record, own, job.end)
        plan = launch_plan(job.record, self._paths, self._root.path, secrets.environment)
        try:
            async with self._starts:
                if job.record.stop_requested:
                    await self._conclude(job, _stopped_before_start(), None)
                    return job
                await self._units.start(plan)
        except LaunchFailed as error:
            await self._conclude(job, start_failed(str(error)), None)
            raise
        except HostUnavailable:
            self.request_resync()  # systemd may have begun: only it knows
            raise
        finally:
            job.is_launching = False
        if job.record.stop_requested:
            await self._units.stop(record.id)
        return job

    async def _bring(
        self, record: JobRecord, delivery: Delivery | None, secrets: Secrets, *, lasting: bool
    ) -> None:
        """Store what came with a job that has no record yet; ``lasting``: it survives a power cut."""
        if delivery is not None:
            await self._deliver(record, partial(_durably, delivery) if lasting else delivery)
        if secrets:
            await self._put_away(record, secrets, lasting=lasting)

    async def _take_back(self, record: JobRecord) -> None:
        """Remove what came with a job that gets no record."""
        await asyncio.to_thread(files.remove_all, self._paths.job(record.id))
        await self._discard_secrets(record)

    async def _deliver(self, record: JobRecord, delivery: Delivery) -> None:
        own = self._paths.job(record.id)
        try:
            await asyncio.to_thread(files.deliver, own, delivery)
        except OSError as error:
            raise NotDelivered(
                f"cannot run job: its files cannot be stored: {error.strerror}",
                reason="CANNOT_STORE_FILES",
                hint=f"is the disk of {self._paths.state_dir} full?",
            ) from error

    async def _put_away(self, record: JobRecord, secrets: Secrets, *, lasting: bool) -> None:
        try:
            await asyncio.to_thread(self._secrets.put, record.id, secrets, lasting=lasting)
        except OSError as error:
            place = self._paths.state_dir if lasting else self._paths.run_dir
            raise NotDelivered(
                f"cannot run job: its secrets cannot be stored: {error.strerror}",
                reason="CANNOT_STORE_SECRETS",
                hint=f"is there room below {place}? secrets leave a quarter of it free",
            ) from error

    async def _discard_secrets(self, record: JobRecord) -> None:
        if record.has_secrets:
            await asyncio.to_thread(self._secrets.discard, record.id)

    def _uid_for(self, spec: JobSpec) -> int:
        profile = Profile(spec.profile or Profile.DEFAULT)
        self._profiles.require_offered(profile)  # it may have waited while the configuration changed
        return 0 if profile is Profile.PRIVILEGED else self._uids.take()

    async def _store_launch(self, job: ActiveJob) -> None:
        if job.record.state is JobState.PENDING:  # accepted long ago: a full disk delays it
            await self._save_until_done(job)
        else:
            await self._store.save(job.record)

    def _prepare(self, record: JobRecord) -> Secrets:
        self._root.refresh()
        own = self._paths.job(record.id)
        files.prepare(own, record.uid)
        if not record.has_secrets:
            return NO_SECRETS
        secrets = self._secrets.get(record.id)
        if secrets.files:
            deliver_files(own.credentials, secrets.files, record.uid)
        return secrets

    def stop(self, job: ActiveJob, *, force: bool) -> asyncio.Task[None]:
        """Ask systemd to stop a job that has not ended, or with ``force`` to kill it.

        In a task of the tracker's own: whoever asked may go away. It ends before the job does and
        raises HostUnavailable, after which the stop is sent again as soon as systemd answers.
        """
        return self._spawn(self._stop(job, force=force), f"stop-{job.record.id}")

    async def _stop(self, job: ActiveJob, *, force: bool) -> None:
        if not job.record.stop_requested:
            await self._record_stop(job)
        if job.is_launching or job.is_finishing:
            return
        try:
            await (self._units.kill(job.record.id) if force else self._units.stop(job.record.id))
        except HostUnavailable:
            self.request_resync()
            raise

    async def _record_stop(self, job: ActiveJob) -> None:
        job.record = replace(job.record, stop_requested=True, state=JobState.STOPPING)
        try:
            await self._store.save(job.record)
        except StoreFailed as error:  # stop it all the same: it may be what fills the disk
            _log.error("the stop of job %s is not recorded: %s", job.record.id, error)

    def pause(self, job: ActiveJob) -> asyncio.Task[None]:
        """Freeze a running job, in a task of the tracker's own. Raises as ports.UnitManager.freeze."""
        return self._spawn(self._pause(job), f"pause-{job.record.id}")

    async def _pause(self, job: ActiveJob) -> None:
        await self._unless_it_ends(job, self._units.freeze(job.record.id))
        self._note_pause(job, paused=True)
        if job.record.stop_requested:  # meanwhile: a frozen job would wait for its kill
            await self._units.stop(job.record.id)

    def resume(self, job: ActiveJob) -> asyncio.Task[None]:
        """Thaw a paused job, in a task of the tracker's own. Raises as ports.UnitManager.thaw."""
        return self._spawn(self._resume(job), f"resume-{job.record.id}")

    async def _resume(self, job: ActiveJob) -> None:
        await self._unless_it_ends(job, self._units.thaw(job.record.id))
        self._note_pause(job, paused=False)

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
        self._note_pause(job, paused=await self._units.is_frozen(job.record.id))
        return job.record.paused

    def _note_pause(self, job: ActiveJob, *, paused: bool) -> None:
        if job.is_finishing or job.record.paused is paused:
            return
        job.record = replace(job.record, paused=paused)
        event = "paused" if paused else "resumed"
        self._journal.event(job.record, event, f"job {job.record.id} is {event}")

    # -- events ----------------------------------------------------------------------------------

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
                self._note_pause(job, paused=status.is_frozen)
            case UnitPhase.STOPPING:
                # Behind the end of the main process it is no stop: systemd clears away what is left.
                job.was_stopping = job.was_stopping or not status.exit_kind
            case UnitPhase.GONE if job.record.invocation_id and not status.exit_kind:
                job.is_finishing = True
                self._spawn(self._explain_absence(job), f"absent-{status.job_id}")
            case UnitPhase.ENDED | UnitPhase.GONE:
                job.is_finishing = True
                self._spawn(self._finish(job, status), f"finish-{status.job_id}")

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
        self._sampler.keep(job.record, self._paths.job(record.id))
        self._spawn(self._record_begin(job), f"begin-{record.id}")

    async def _record_begin(self, job: ActiveJob) -> None:
        if not job.is_finishing:  # the end is stored with all that the beginning told
            await self._save_until_done(job)
        await asyncio.to_thread(self._discard_start, job.record)

    def _discard_start(self, record: JobRecord) -> None:
        """Remove what nobody but systemd reads, and that before the command runs."""
        self._paths.job(record.id).environment.unlink(missing_ok=True)
        if record.has_secrets:
            self._secrets.discard(record.id)

    async def _finish(self, job: ActiveJob, status: UnitStatus) -> None:
        record = job.record
        text = await asyncio.to_thread(files.read_report, self._paths.job(record.id))
        report, usage = split_report(text)
        outcome = outcome_of(
            status,
            stop_requested=record.stop_requested,
            launch_report=report,
            spec=record.spec,
        )
        if job.was_stopping and not record.stop_requested and outcome.reason in _ENDS_BY_STOP:
            outcome = await self._stopped_by_others(outcome)
        if usage is None and report:
            usage = await self._usage_of_killed(record.id, status, outcome)
        await self._conclude(job, with_memory_peak(outcome, usage), status, usage)

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

    async def _conclude(
        self, job: ActiveJob, outcome: Outcome, status: UnitStatus | None, usage: Usage | None = None
    ) -> None:
        """Store the outcome, then tell everybody, then let systemd and the disk forget."""
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
        )
        if outcome.state is JobState.FAILED and (status is None or status.result in _FINE):
            await self._tell_failure(record.id)  # before it is stored: twice after a crash, never not at all
        await self._save_until_done(job)
        self._ended += 1
        self._registry.announce_end(record.id)
        job.begun.set()
        self._journal.event(job.record, "ended", _told(job.record))
        if status is not None:
            await self._release(record.id)
        await asyncio.to_thread(files.remove_private, self._paths.job(record.id))
        self._forget(job)
        self._retention.job_ended(job.record, has_files=has_files)

    async def _settle_work(self, record: JobRecord, status: UnitStatus | None) -> bool:
        """Discard its secrets and keep what it has left, if it has run; return whether there is anything."""
        has_run = record.started_at is not None or (status is not None and status.started_at is not None)
        keep = has_run and self._retention.keeps_work

        def settle() -> bool:
            own = self._paths.job(record.id)
            if record.has_secrets:  # the other private files go when the end is stored
                files.discard_secrets(own)
                self._secrets.discard(record.id)
            return files.settle_work(own, keep=keep)

        return await asyncio.to_thread(settle)

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
            self.request_resync()

    async def _save_until_done(self, job: ActiveJob) -> None:
        """Store the record; a full disk delays it, but the unit keeps the result meanwhile."""
        retry = _RETRY_FIRST
        while True:
            try:
                await self._store.save(job.record)
            except StoreFailed as error:
                _log.error("job %s is not recorded yet, trying again: %s", job.record.id, error)
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_MOST)
            else:
                return

    def _forget(self, job: ActiveJob) -> None:
        job.begun.set()
        job.forgotten.set()
        self._registry.announce_end(job.record.id)
        self._uids.give_back(job.record.uid)
        self._registry.remove(job.record.id)
        self.start_waiting()

    # -- limits ------------------------------------------------------------------------------------

    def change_limits(
        self, job: ActiveJob, edit: Callable[[JobRecord], JobRecord], names: tuple[str, ...]
    ) -> asyncio.Task[None]:
        """Give a job that runs other limits, ``names`` of them, as ``edit`` says; in a task of its own.

        Stored first: what the agent's death keeps from systemd is handed over by the next recover(). The
        task raises StoreFailed and LaunchFailed (nothing is changed), HostUnavailable (systemd is asked again
        as soon as it answers), WrongState if the job has ended, and what ``edit`` raises.
        """
        return self._spawn(self._change_limits(job, edit, names), f"limits-{job.record.id}")

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
                    await self._save_until_done(job)
                raise

    async def _apply_limits(self, job: ActiveJob) -> None:
        plan = launch_plan(job.record, self._paths, self._root.path)
        try:
            await self._units.set_limits(plan, job.record.unapplied_limits)
        except NotFound as error:
            raise _has_ended(job.record) from error
        except HostUnavailable:
            self.request_resync()
            raise
        job.record = replace(job.record, unapplied_limits=())
        if not job.is_finishing:  # the end is stored with all that is known
            await self._save_until_done(job)

    def change_waiting(
        self, job_id: JobId, edit: Callable[[JobRecord], JobRecord]
    ) -> asyncio.Task[JobRecord | None]:
        """Store another record of a job that waits; in a task of the tracker's own.

        The task returns the new record, or None if the job no longer waits; it raises StoreFailed, and what
        ``edit`` raises.
        """
        return self._spawn(self._change_waiting(job_id, edit), f"edit-{job_id}")

    async def _change_waiting(
        self, job_id: JobId, edit: Callable[[JobRecord], JobRecord]
    ) -> JobRecord | None:
        async with self._queue_edits:  # or it is launched with what it was before
            record = await self._store.get(job_id)
            if record is None or job_id not in self._registry.queue:  # last: it may be withdrawn meanwhile
                return None
            record = edit(record)
            await self._store.save(record)
            return record

    # -- the log -----------------------------------------------------------------------------------

    def log_was_truncated(self, job_id: JobId) -> None:
        """Mark in the record that output beyond the size limit was cut."""
        self._spawn(self._mark_truncated(job_id), f"truncated-{job_id}")

    async def _mark_truncated(self, job_id: JobId) -> None:
        job = self._registry.get(job_id)
        if job is not None:
            job.record = replace(job.record, log_truncated=True)
            await self._save_until_done(job)
        elif (record := await self._store.get(job_id)) is not None:
            await self._store.save(replace(record, log_truncated=True))

    def log_was_copied(self, job_id: JobId, offset: int) -> None:
        """Remember how far the journal's copy is; of a job that ends it is no longer needed."""
        job = self._registry.get(job_id)
        if job is not None and not job.is_finishing:
            job.record = replace(job.record, journal_offset=offset)
            self._spawn(self._save_until_done(job), f"copied-{job_id}")

    # -- the queue ---------------------------------------------------------------------------------

    def enqueue(
        self, record: JobRecord, delivery: Delivery | None = None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[None]:
        """Store the job, the files of ``delivery`` and its secrets, and let it wait.

        In a task of the tracker's own, which raises what refused; the job is unknown then.
        """
        return self._spawn(self._enqueue(record, delivery, secrets), f"enqueue-{record.id}")

    async def _enqueue(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets) -> None:
        await self._store_unstarted(record, delivery, secrets)
        self.take_in(record.id)

    def take_in(self, job_id: JobId) -> None:
        """Let a job wait in the queue that is stored as PENDING already."""
        self._registry.queue.append(job_id)
        self.start_waiting()

    def store_unstarted(
        self, record: JobRecord, delivery: Delivery | None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[None]:
        """Store a job that starts later, and what came with it; as ``enqueue``, but it is in no queue."""
        return self._spawn(self._store_unstarted(record, delivery, secrets), f"store-{record.id}")

    async def _store_unstarted(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets) -> None:
        try:
            await self._bring(record, delivery, secrets, lasting=True)
            await self._store.save(record)
        except (StoreFailed, NotDelivered):
            await self._take_back(record)
            raise

    async def unstore(self, record: JobRecord) -> None:
        """Forget a job that was stored and then refused, with what came with it. Raises StoreFailed."""
        await self._discard_secrets(record)
        await self._retention.delete([record.id])

    def withdraw(self, record: JobRecord) -> asyncio.Task[None]:
        """Store the end of a job that was taken out of the queue; it waits again if that fails."""
        return self._spawn(self._withdraw(record), f"withdraw-{record.id}")

    async def _withdraw(self, record: JobRecord) -> None:
        try:
            await self._end_unstarted(record)
        except StoreFailed:
            self.take_in(record.id)
            raise

    def end_unstarted(self, record: JobRecord) -> asyncio.Task[None]:
        """Store the end of a job that never started. The task raises StoreFailed; the job waits on then."""
        return self._spawn(self._end_unstarted(record), f"end-{record.id}")

    async def _end_unstarted(self, record: JobRecord) -> None:
        await self._store.save(record)
        await self._discard_secrets(record)
        self._registry.announce_end(record.id)
        await asyncio.to_thread(files.remove_work, self._paths.job(record.id))
        self._retention.job_ended(record, has_files=False)

    def start_waiting(self) -> None:
        """Launch jobs from the queue while there is room, soon."""
        self._room_wanted.set()

    async def _pump(self) -> None:
        while True:
            await self._room_wanted.wait()
            self._room_wanted.clear()
            try:
                await self._launch_waiting()
            except StoreFailed as error:
                _log.error("jobs from the queue cannot start now, trying again: %s", error)
                await asyncio.sleep(_RETRY_MOST)
                self._room_wanted.set()

    async def _launch_waiting(self) -> None:
        queue = self._registry.queue
        async with self._queue_edits:
            while self._registry.has_room and len(queue):
                job_id = queue.first()
                record = await self._store.get(job_id)
                if queue.remove(job_id) and record is not None and not record.has_ended:
                    self.launch(record)

    # -- recovery --------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Adopt what the store and systemd know. Call once, before the first launch."""
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
        to_start = {record.id for record in unfinished} - started
        await asyncio.to_thread(self._secrets.discard_all_but, to_start)
        await self._resync()
        self._spawn(self._resync_on_demand(), "resync")
        self._spawn(self._pump(), "queue")
        self._spawn(self._sweep(on_disk), "sweep")
        self.start_waiting()

    async def _sweep(self, on_disk: Sequence[JobId]) -> None:
        """Remove files of jobs that nobody knows, left by a crash between two lines."""
        known = set(await self._store.find("", most=_ALL))
        orphans = [job_id for job_id in on_disk if job_id not in known]
        for job_id in orphans:
            await asyncio.to_thread(files.remove_all, self._paths.job(job_id))
        if orphans:
            _log.info("removed the files of %d jobs without a record", len(orphans))

    def request_resync(self) -> None:
        """Compare with systemd again, soon: something may have been missed."""
        self._resync_wanted.set()

    async def _resync_on_demand(self) -> None:
        retry = _RETRY_FIRST
        while True:
            await self._resync_wanted.wait()
            self._resync_wanted.clear()
            try:
                await self._resync()
                retry = _RETRY_FIRST
            except JobletError as error:
                _log.warning("cannot compare with systemd, trying again: %s", error)
                self._resync_wanted.set()
                await asyncio.sleep(retry)
                retry = min(retry * 2, _RETRY_MOST)

    async def _resync(self) -> None:
        before = [job for job in self._registry if not (job.is_launching or job.is_finishing)]
        present = {status.job_id: status for status in await self._units.present()}
        for job in before:
            status = present.get(job.record.id)
            if job.is_finishing:
                continue
            if status is None:
                job.is_finishing = True
                self._spawn(self._explain_absence(job), f"absent-{job.record.id}")
            elif _is_foreign(job.record, status):
                job.is_finishing = True
                self._spawn(self._conclude(job, _lost(), None), f"lost-{job.record.id}")
            else:
                self._keeper.keep(job.record, self._paths.job(job.record.id), job.end)
                self.on_unit(status)
                if status.phase in _RUNS and job.record.started_at is not None:
                    self._sampler.keep(job.record, self._paths.job(job.record.id))
                if status.phase in _RUNS:
                    await self._catch_up(job)
        for job_id in present.keys() - {job.record.id for job in self._registry}:
            await self._dismiss(present[job_id])

    async def _catch_up(self, job: ActiveJob) -> None:
        """Ask systemd again for what was asked for, but perhaps never sent."""
        if job.record.unapplied_limits:
            try:
                await self._apply_limits(job)
            except (LaunchFailed, WrongState) as error:
                _log.warning("job %s keeps its earlier limits: %s", job.record.id, error)
        if job.record.stop_requested:
            await self._units.stop(job.record.id)

    async def _dismiss(self, status: UnitStatus) -> None:
        record = await self._store.get(status.job_id)
        if record is None:
            _log.warning("stopping unit of job %s: there is no record of it", status.job_id)
            await self._units.stop(status.job_id)
            await self._units.release(status.job_id)
        elif record.has_ended and not _is_foreign(record, status):
            await self._units.release(status.job_id)

    async def _explain_absence(self, job: ActiveJob) -> None:
        record = job.record
        if record.boot_id != self._boot_id:
            await self._conclude(job, _host_rebooted(), None)
        elif record.state is JobState.PENDING or _is_awaited(record):
            self._uids.give_back(record.uid)
            self.launch(replace(record, state=JobState.PENDING, uid=0, boot_id=""))
        elif not record.invocation_id:
            never = start_failed("the agent was restarted before systemd had accepted the job")
            await self._conclude(job, _stopped_before_start() if record.stop_requested else never, None)
        else:
            status = await self._invocations.status(record.id, record.invocation_id)
            if status is not None:
                await self._finish(job, status)
            else:
                await self._conclude(job, _stopped_meanwhile() if record.stop_requested else _lost(), None)

    def _spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        return self._tasks.start(work, name)


def _durably(delivery: Delivery, work: Path) -> None:
    delivery(work)
    sync_tree(work)


def _is_foreign(record: JobRecord, status: UnitStatus) -> bool:
    return bool(
        record.invocation_id and status.invocation_id and record.invocation_id != status.invocation_id
    )


def _has_ended(record: JobRecord) -> WrongState:
    return WrongState(f"cannot change job {record.id[:8]}: it has ended", reason="JOB_ENDED")


def _is_awaited(record: JobRecord) -> bool:
    """Tell whether a job that never started is started again: who repeats its token counts on it."""
    return bool(record.token and not record.invocation_id and not record.stop_requested)


def _stopped_before_start() -> Outcome:
    return Outcome(JobState.STOPPED, Reason.STOPPED, -1, 0, "stopped before its command ran")


def _stopped_meanwhile() -> Outcome:
    return Outcome(JobState.STOPPED, Reason.STOPPED, -1, 0, "stopped while the agent was not running")


def _lost() -> Outcome:
    return Outcome(
        JobState.FAILED, Reason.LOST, -1, 0, "its unit ended while the agent was away, nobody knows how"
    )


def _host_rebooted() -> Outcome:
    return Outcome(JobState.FAILED, Reason.HOST_REBOOTED, -1, 0, "the host was rebooted or lost power")


def _told(record: JobRecord) -> str:
    outcome = record.outcome
    assert outcome is not None
    told = f"job {record.id} {outcome.state}" + (f": {outcome.message}" if outcome.message else "")
    used = summary(record.usage) if record.usage else ""
    return f"{told} ({used})" if used else told
