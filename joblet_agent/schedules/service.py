"""The use cases of recurring schedules.

The order that makes kill -9 harmless between any two lines::

    create   make the timer, which tells the first start → store
    due      store the job, PENDING, and the next start, in one transaction → the job is in the queue
    pause    store → stop the timer
    resume   make the timer → store
    remove   delete → stop the timer
    recover  read the store → see that each active one has its timer, and no other is there → what is due

A timer without a stored schedule starts nothing and is taken away at the next start of the agent. A start
belongs to whoever moves the stored next start beyond it, so it happens once.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from joblet_agent.errors import (
    AmbiguousId,
    InvalidRequest,
    LimitReached,
    StoreFailed,
    WrongState,
)
from joblet_agent.jobs.agenda import MISSED_AFTER
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.jobs.when import EXAMPLES, read_when
from joblet_agent.model.audit import start_by_timer
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobSpec, JobState, new_job_id
from joblet_agent.model.schedule import Schedule, ScheduleId, ScheduleState
from joblet_agent.ports import (
    AuditLog,
    Clock,
    JobStore,
    ScheduleStore,
    TimerId,
    TimerKind,
    TimerPhase,
    TimerStatus,
)
from joblet_agent.schedules.due import Claim, Follow, next_step

MOST_SPEC = 64 * 1024
"""Bytes of arguments and variables of a recurring job: schedules are kept in memory."""

_RETRY_FIRST, _RETRY_MOST = 0.2, 5.0

T = TypeVar("T")

_log = logging.getLogger(__name__)

Accept = Callable[[JobSpec, Identity], JobRecord]
"""Checks a job and returns the record it begins with (JobService.accept)."""


class _Entry:
    """A schedule that there is, what its timer says, and the lock of whoever changes either."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.timer = TimerStatus(_timer(schedule.id), TimerPhase.TRIGGERED)
        self.lock = asyncio.Lock()
        self.is_looked_at = False
        self.is_stored = True


class ScheduleService:
    """What callers can do with recurring schedules. Ids may be shortened to a prefix that fits one only."""

    def __init__(
        self,
        *,
        accept: Accept,
        store: ScheduleStore,
        jobs: JobStore,
        waiting: WaitingJobs,
        timers: TimerKeeper,
        clock: Clock,
        audit: AuditLog,
        most: int,
    ) -> None:
        self._accept = accept
        self._store = store
        self._jobs = jobs
        self._waiting = waiting
        self._timers = timers
        self._clock = clock
        self._audit = audit
        self._most = most
        self._entries: dict[ScheduleId, _Entry] = {}
        self._tasks = Tasks()
        timers.listen(TimerKind.SCHEDULE, self._on_timer)

    # -- the use cases -----------------------------------------------------------------------------

    async def create(self, spec: JobSpec, caller: Identity) -> Schedule:
        """Make a schedule and return it with its next start.

        Raises InvalidRequest, with systemd's words for a calendar expression it cannot read, LimitReached,
        StoreFailed, HostUnavailable; there is no schedule then.
        """
        template = self._accept(spec, caller)
        calendar = read_when(spec.schedule)
        assert isinstance(calendar, str)
        _check_size(template.spec)
        if len(self._entries) >= self._most:
            raise LimitReached(
                f"cannot schedule job: there are {self._most} recurring schedules (schedules.max_recurring)",
                reason="TOO_MANY_SCHEDULES",
                hint="remove those that are not needed: rnx schedule list",
            )
        schedule_id = ScheduleId(str(uuid.uuid4()))
        template = replace(template, id=JobId(schedule_id), state=JobState.SCHEDULED, schedule_id=schedule_id)
        schedule = Schedule(schedule_id, calendar, template)
        return await self._shielded(self._create(_Entry(schedule)), f"create-{schedule_id}")

    async def _create(self, entry: _Entry) -> Schedule:
        schedule = entry.schedule
        entry.is_stored = False  # but already there: its timer may trigger at once
        self._entries[schedule.id] = entry
        async with entry.lock:
            try:
                entry.schedule = replace(schedule, next_at=await self._first_start(schedule))
                await self._store.save(entry.schedule)
                entry.is_stored = True
            except BaseException:
                del self._entries[schedule.id]
                self._timers.stop(_timer(schedule.id))
                raise
        self._look(entry)
        return entry.schedule

    async def _first_start(self, schedule: Schedule) -> datetime:
        try:
            first = await self._timers.start(_timer(schedule.id), schedule.calendar, _title(schedule))
        except InvalidRequest as error:
            raise InvalidRequest(
                f"cannot schedule job: {error}",
                reason=error.reason,
                hint=f"{EXAMPLES}; systemd-analyze calendar explains an expression",
            ) from error
        if first is None:
            raise InvalidRequest(
                f"cannot schedule job: {quoted(schedule.calendar)} is never due from now on",
                reason="NEVER_DUE",
                hint=EXAMPLES,
            )
        return first

    def all(self) -> Sequence[Schedule]:
        """Return every schedule, the next start first, those without one last."""
        schedules = [entry.schedule for entry in self._entries.values() if entry.is_stored]
        return sorted(
            schedules, key=lambda each: (each.next_at is None, each.next_at or each.created_at, each.id)
        )

    def get(self, given: str) -> Schedule:
        """Return the schedule. Raises NotFound, AmbiguousId."""
        return self._resolve(given).schedule

    async def jobs(self, schedule: Schedule, *, most: int) -> Sequence[JobRecord]:
        """Return the newest jobs of the schedule, newest first."""
        page = await self._jobs.page(JobFilter(schedule_id=schedule.id), size=most, token="")
        return page.jobs

    async def remove(self, given: str) -> ScheduleId:
        """Forget the schedule; jobs that it has started stay as they are."""
        entry = self._resolve(given)
        return await self._shielded(self._remove(entry), f"remove-{entry.schedule.id}")

    async def _remove(self, entry: _Entry) -> ScheduleId:
        schedule_id = entry.schedule.id
        async with entry.lock:
            self._check_exists(entry)
            await self._store.delete(schedule_id)
            del self._entries[schedule_id]
            self._timers.stop(_timer(schedule_id))
        return schedule_id

    async def pause(self, given: str) -> Schedule:
        """Start nothing until the schedule is resumed; a paused one stays as it is. Raises StoreFailed."""
        entry = self._resolve(given)
        return await self._shielded(self._pause(entry), f"pause-{entry.schedule.id}")

    async def _pause(self, entry: _Entry) -> Schedule:
        async with entry.lock:
            self._check_exists(entry)
            await self._save(entry, replace(entry.schedule, is_paused=True, next_at=None))
            await self._timers.stop_and_wait(_timer(entry.schedule.id))
            return entry.schedule

    async def resume(self, given: str) -> Schedule:
        """Go on with the next start from now; what was due meanwhile is not made up for.

        Raises WrongState for a schedule that is not paused, HostUnavailable, StoreFailed.
        """
        entry = self._resolve(given)
        return await self._shielded(self._resume(entry), f"resume-{entry.schedule.id}")

    async def _resume(self, entry: _Entry) -> Schedule:
        async with entry.lock:
            self._check_exists(entry)
            schedule = entry.schedule
            if not schedule.is_paused:
                raise WrongState(
                    f"cannot resume schedule {schedule.id[:8]}: it is {schedule.state}",
                    reason="SCHEDULE_NOT_PAUSED",
                )
            first = await self._first_start(schedule)
            try:
                await self._save(entry, replace(schedule, is_paused=False, next_at=first))
            except StoreFailed:
                self._timers.stop(_timer(schedule.id))
                raise
        self._look(entry)
        return entry.schedule

    # -- what is due -------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Take over what the store has. Call once, after the jobs' and before the timers' ``recover``."""
        for schedule in await self._store.all():
            self._entries[schedule.id] = _Entry(schedule)
            if schedule.state is ScheduleState.ACTIVE:
                self._timers.expect(_timer(schedule.id), schedule.calendar, _title(schedule))

    async def close(self) -> None:
        """Start no more; what is due is found again by the next ``recover``."""
        await self._tasks.close()

    def _on_timer(self, status: TimerStatus) -> None:
        entry = self._entries.get(ScheduleId(status.timer.id))
        if entry is not None:
            entry.timer = status
            self._look(entry)

    def _look(self, entry: _Entry) -> None:
        if not entry.is_looked_at:
            entry.is_looked_at = True
            self._tasks.start(self._see_to(entry), f"schedule-{entry.schedule.id}")

    async def _see_to(self, entry: _Entry) -> None:
        retry = _RETRY_FIRST
        while True:
            async with entry.lock:
                entry.is_looked_at = False
                try:
                    while entry.schedule.id in self._entries and await self._step(entry):
                        pass
                except StoreFailed as error:
                    _log.error("schedule %s cannot go on, trying again: %s", entry.schedule.id, error)
                else:
                    return
            await asyncio.sleep(retry)
            retry = min(retry * 2, _RETRY_MOST)

    async def _step(self, entry: _Entry) -> bool:
        match next_step(entry.schedule, entry.timer, self._clock.now()):
            case Claim(due, next_at):
                await self._claim(entry, due, next_at)
            case Follow(next_at, forgets_last):
                last_at = None if forgets_last else entry.schedule.last_at
                await self._save(entry, replace(entry.schedule, next_at=next_at, last_at=last_at))
            case None:
                return False
        return True

    async def _claim(self, entry: _Entry, due: datetime, next_at: datetime | None) -> None:
        schedule = replace(entry.schedule, last_at=due, next_at=next_at)
        why_not = await self._why_not(schedule, due)
        job = None if why_not else self._occurrence(schedule, due)
        if job is None:
            schedule = replace(schedule, skipped=schedule.skipped + 1, skipped_reason=why_not)
        else:
            schedule = replace(schedule, started=schedule.started + 1, last_job=job.id)
        if not await self._store.claim(schedule, due=due, job=job):
            raise AssertionError(f"the start of schedule {schedule.id} at {due} was claimed by somebody else")
        entry.schedule = schedule
        if job is None:
            _log.info("schedule %s: the start at %s is left out: %s", schedule.id, due, why_not)
        else:
            self._audit.write(start_by_timer(job))
            self._waiting.take_in(job.id)
        if next_at is None:
            self._timers.stop(_timer(schedule.id))

    async def _why_not(self, schedule: Schedule, due: datetime) -> str:
        late = self._clock.now() - due
        if schedule.spec.skip_missed and late > MISSED_AFTER:
            return f"it was missed by {late.total_seconds():.0f} s, and missed starts are not wanted"
        before = None if schedule.last_job is None else await self._jobs.get(schedule.last_job)
        if before is not None and not before.has_ended:
            return f"job {before.id} of the start before had not ended"
        return ""

    def _occurrence(self, schedule: Schedule, due: datetime) -> JobRecord:
        return replace(
            schedule.template,
            id=new_job_id(),
            state=JobState.PENDING,
            created_at=self._clock.now(),
            scheduled_at=due,
        )

    # -- inside ------------------------------------------------------------------------------------

    async def _save(self, entry: _Entry, schedule: Schedule) -> None:
        await self._store.save(schedule)
        entry.schedule = schedule

    async def _shielded(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Do it to its end, even if whoever asked goes away."""
        return await asyncio.shield(self._tasks.start(work, name))

    def _check_exists(self, entry: _Entry) -> None:
        if entry.schedule.id not in self._entries:
            raise not_found(quoted(entry.schedule.id), "schedule")

    def _resolve(self, given: str) -> _Entry:
        text = id_prefix(given, "schedule")
        found = [entry for key, entry in self._entries.items() if key.startswith(text) and entry.is_stored]
        if not found:
            raise not_found(quoted(given), "schedule")
        if len(found) > 1:
            raise AmbiguousId(
                f"id {text} fits more than one schedule",
                reason="SCHEDULE_ID_AMBIGUOUS",
                hint="give more characters",
            )
        return found[0]


def _timer(schedule_id: ScheduleId) -> TimerId:
    return TimerId(TimerKind.SCHEDULE, schedule_id)


def _title(schedule: Schedule) -> str:
    return f"Starts of Joblet schedule {schedule.spec.name or schedule.id[:8]}"


def _check_size(spec: JobSpec) -> None:
    texts = (spec.command, *spec.args, *spec.environment, *spec.environment.values())
    size = sum(len(text.encode()) for text in texts)
    if size > MOST_SPEC:
        raise InvalidRequest(
            f"cannot schedule job: arguments and variables of a recurring job take {size} bytes together, "
            f"at most {MOST_SPEC} are allowed",
            reason="SCHEDULE_TOO_LARGE",
            hint="let the command read large data from a file",
        )
