"""Jobs with a start time of their own.

The order that makes kill -9 harmless between any two lines::

    add      store SCHEDULED → make the timer
    due      store PENDING → in the queue → stop the timer
    cancel   store CANCELED → stop the timer
    recover  read what is SCHEDULED → due: as above; not yet due: see that it has its timer

The store alone decides whether a job still is to start, so a timer that fires twice, late or for
nothing starts nothing; and whoever moves a job out of SCHEDULED is the only one who does.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from joblet_agent.config import SchedulesConfig
from joblet_agent.errors import HostUnavailable, JobletError, LimitReached, StoreFailed
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.model.audit import start_by_timer
from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobState, Outcome, Reason
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import AuditLog, Clock, JobStore, TimerId, TimerKind, TimerStatus

MISSED_AFTER = timedelta(minutes=1)
"""A start that is later than this was missed: the agent or the host was off."""

_PAGE = 1000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Entry:
    due: datetime
    skip_missed: bool
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by who moves the job out of SCHEDULED."""


class Agenda:
    """Starts each scheduled job once, when it is due."""

    def __init__(
        self,
        *,
        waiting: WaitingJobs,
        store: JobStore,
        timers: TimerKeeper,
        clock: Clock,
        audit: AuditLog,
        config: SchedulesConfig,
    ) -> None:
        self._waiting = waiting
        self._store = store
        self._timers = timers
        self._clock = clock
        self._audit = audit
        self._config = config
        self._entries: dict[JobId, _Entry] = {}
        self._tasks = Tasks()
        timers.listen(TimerKind.JOB, self._on_timer)

    def __len__(self) -> int:
        return len(self._entries)

    def check_room(self) -> None:
        """Raise LimitReached when no more jobs can be scheduled."""
        most = self._config.max_jobs
        if len(self._entries) >= most:
            raise LimitReached(
                f"cannot schedule job: {most} jobs are scheduled already (schedules.max_jobs)",
                reason="TOO_MANY_SCHEDULED",
                hint="try again later, or cancel scheduled jobs",
            )

    async def add(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets = NO_SECRETS) -> None:
        """Store the job, SCHEDULED, with its files and secrets, and wake for it; whoever asked may go away.

        Raises StoreFailed, NotDelivered, LaunchFailed; no job exists then. If systemd does not answer, the
        job is scheduled all the same, and gets its timer later.
        """
        await asyncio.shield(self._tasks.start(self._add(record, delivery, secrets), f"schedule-{record.id}"))

    async def _add(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets) -> None:
        entry = self._take_in(record)
        async with entry.lock:
            try:
                await self._waiting.store_unstarted(record, delivery, secrets)
            except JobletError:
                del self._entries[record.id]
                raise
            try:
                await self._timers.start(_timer(record.id), calendar_of(entry.due), _title(record))
            except HostUnavailable as error:
                _log.warning("job %s is scheduled, its timer comes later: %s", record.id, error)
                self._timers.expect(_timer(record.id), calendar_of(entry.due), _title(record))
                self._timers.request_resync()
            except JobletError:
                await self._waiting.unstore(record)
                del self._entries[record.id]
                raise
        self._look(record.id)  # it may have become due meanwhile, and no timer looks back

    async def cancel(self, job_id: JobId) -> JobRecord | None:
        """Withdraw the job and return its record; None if it does not wait here, perhaps no longer."""
        entry = self._entries.get(job_id)
        if entry is None:
            return None
        return await asyncio.shield(self._tasks.start(self._cancel(job_id, entry), f"cancel-{job_id}"))

    async def _cancel(self, job_id: JobId, entry: _Entry) -> JobRecord | None:
        async with entry.lock:
            record = await self._store.get(job_id)
            if job_id not in self._entries or record is None:
                return None
            outcome = Outcome(JobState.CANCELED, Reason.CANCELED, 0, 0, "withdrawn before it started")
            return await self._end(record, outcome)

    async def change(self, job_id: JobId, edit: Callable[[JobRecord], JobRecord]) -> JobRecord | None:
        """Store another record of the job and return it; None if it does not wait here, perhaps no longer.

        Raises StoreFailed, and what ``edit`` raises.
        """
        entry = self._entries.get(job_id)
        if entry is None:
            return None
        return await asyncio.shield(self._tasks.start(self._change(job_id, entry, edit), f"edit-{job_id}"))

    async def _change(
        self, job_id: JobId, entry: _Entry, edit: Callable[[JobRecord], JobRecord]
    ) -> JobRecord | None:
        async with entry.lock:
            record = await self._store.get(job_id)
            if job_id not in self._entries or record is None:
                return None
            record = edit(record)
            await self._store.save(record)
            return record

    async def recover(self) -> None:
        """Take over what the store has. Call once, after the jobs' and before the timers' ``recover``."""
        token = ""
        while True:
            page = await self._store.page(
                JobFilter(states=frozenset({JobState.SCHEDULED})), size=_PAGE, token=token
            )
            for record in page.jobs:
                entry = self._take_in(record)
                self._timers.expect(_timer(record.id), calendar_of(entry.due), _title(record))
            if not (token := page.next_token):
                break

    async def close(self) -> None:
        """Start no more; what is due is found again by the next ``recover``."""
        await self._tasks.close()

    def _take_in(self, record: JobRecord) -> _Entry:
        entry = _Entry(record.scheduled_at or record.created_at, record.spec.skip_missed)
        self._entries[record.id] = entry
        return entry

    def _on_timer(self, status: TimerStatus) -> None:
        self._look(JobId(status.timer.id))

    def _look(self, job_id: JobId) -> None:
        entry = self._entries.get(job_id)
        if entry is not None and self._clock.now() >= entry.due:
            self._tasks.start(self._start(job_id, entry), f"due-{job_id}")

    async def _start(self, job_id: JobId, entry: _Entry) -> None:
        pause = GrowingPause()
        async with entry.lock:
            while job_id in self._entries:
                try:
                    await self._move(job_id, entry)
                except StoreFailed as error:
                    _log.error("job %s is due and cannot start now, trying again: %s", job_id, error)
                    await pause.wait()

    async def _move(self, job_id: JobId, entry: _Entry) -> None:
        record = await self._store.get(job_id)
        if record is None or record.state is not JobState.SCHEDULED:
            self._forget(job_id)
        elif entry.skip_missed and (late := self._clock.now() - entry.due) > MISSED_AFTER:
            text = f"its start was missed by {late.total_seconds():.0f} s, and it was not to start later"
            await self._end(record, Outcome(JobState.CANCELED, Reason.MISSED, 0, 0, text))
        else:
            await self._store.save(replace(record, state=JobState.PENDING))
            self._audit.write(start_by_timer(record))
            self._waiting.take_in(job_id)
            self._forget(job_id)

    async def _end(self, record: JobRecord, outcome: Outcome) -> JobRecord:
        record = replace(record, state=outcome.state, outcome=outcome, ended_at=self._clock.now())
        await self._waiting.end_unstarted(record)
        self._forget(record.id)
        return record

    def _forget(self, job_id: JobId) -> None:
        self._entries.pop(job_id, None)
        self._timers.stop(_timer(job_id))


def calendar_of(due: datetime) -> str:
    """Return the calendar expression of one point in time (UTC), exact to the microsecond."""
    return f"{due:%Y-%m-%d %H:%M:%S.%f} UTC"


def _timer(job_id: JobId) -> TimerId:
    return TimerId(TimerKind.JOB, job_id)


def _title(record: JobRecord) -> str:
    return f"Start of Joblet job {record.spec.name or record.id[:8]}"
