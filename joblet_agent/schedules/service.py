"""The use cases of recurring schedules.

The order that makes kill -9 harmless between any two lines::

    create   keep what came along → make the timer, which tells the first start → store
    due      give the job its copy of what came along → store the job, PENDING, and the next start, in one
             transaction → the job is in the queue
    pause    store → stop the timer
    resume   make the timer → store
    remove   delete → stop the timer → discard what came along
    recover  read the store → see that each active one has its timer, and no other is there → what is due

A timer without a stored schedule starts nothing; it and files without one are taken away at the next start
of the agent, which does the same with files of a job that is not stored (jobs/recovery.py). A start
belongs to whoever moves the stored next start beyond it, so it happens once.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from joblet_agent.config import SchedulesConfig
from joblet_agent.errors import (
    AmbiguousId,
    InvalidRequest,
    JobletError,
    LimitReached,
    StoreFailed,
    WrongState,
)
from joblet_agent.jobs.agenda import MISSED_AFTER
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.jobs.profiles import require_permitted
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.submissions import Submissions
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.jobs.uploads import bring_uploads
from joblet_agent.jobs.when import EXAMPLES, read_when
from joblet_agent.model.files import NO_UPLOADS, Uploads
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobSpec, JobState, Token
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.schedule import Schedule, ScheduleId, ScheduleState
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import (
    Clock,
    JobRuntimes,
    JobStore,
    ScheduleStore,
    TimerId,
    TimerKind,
    TimerPhase,
    TimerStatus,
)
from joblet_agent.schedules.belongings import ScheduleBelongings
from joblet_agent.schedules.due import Claim, Follow, next_step
from joblet_agent.schedules.starts import Start, Starts

MOST_SPEC = 64 * 1024
"""Bytes of a recurring job's arguments, variables and names: schedules are kept in memory."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Accept(Protocol):
    """Checks a job with all that comes along and returns the record it begins with (JobService.accept)."""

    def __call__(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads,
        secrets: Secrets,
        token: Token | None,
        pins: Mapping[str, PinnedRuntime] = ...,
    ) -> JobRecord:
        """Raise InvalidRequest, NotPermitted, LimitReached; change nothing."""
        ...


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
        networks: JobNetworks,
        runtimes: JobRuntimes,
        store: ScheduleStore,
        jobs: JobStore,
        job_starts: Starts,
        workflow_starts: Starts,
        belongings: ScheduleBelongings,
        staging: UploadStaging,
        submissions: Submissions,
        timers: TimerKeeper,
        clock: Clock,
        config: SchedulesConfig,
    ) -> None:
        self._accept = accept
        self._networks = networks
        self._runtimes = runtimes
        self._store = store
        self._jobs = jobs
        self._job_starts = job_starts
        self._workflow_starts = workflow_starts
        self._belongings = belongings
        self._staging = staging
        self._submissions = submissions
        self._timers = timers
        self._clock = clock
        self._config = config
        self._entries: dict[ScheduleId, _Entry] = {}
        self._tasks = Tasks()
        timers.listen(TimerKind.SCHEDULE, self._on_timer)
        submissions.find_also(self._submitted)

    # -- the use cases -----------------------------------------------------------------------------

    async def create(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> Schedule:
        """Make a schedule and return it with its next start. Its jobs get copies of files and secrets.

        If the caller has submitted the token before, the answer is the schedule of that time as it is now.

        Raises InvalidRequest, with systemd's words for a calendar expression it cannot read, NotPermitted,
        LimitReached, StoreFailed, NotFound for an upload, HostUnavailable; there is no schedule then.
        """
        template = self._accept(spec, caller, uploads, secrets, token)
        with self._runtimes.hold([template]):
            return await self._create_of_jobs(template, caller, uploads, secrets)

    async def _create_of_jobs(
        self, template: JobRecord, caller: Identity, uploads: Uploads, secrets: Secrets
    ) -> Schedule:
        spec, token = template.spec, template.token
        calendar = read_when(spec.schedule)
        assert isinstance(calendar, str)
        _check_size(template.spec)
        admit = partial(self._admit, template, calendar, uploads, secrets)
        made = await self._submissions.make(caller.name, token, admit)
        return self._newest(made)

    async def create_of_workflows(
        self, template: JobRecord, calendar: str, keep: Callable[[ScheduleId], Awaitable[None]]
    ) -> Schedule:
        """Make a schedule of workflows and return it. ``keep`` stores what its workflows are made of.

        The caller has checked both, and sees to the token. Raises as ``create``, and what ``keep`` raises.
        """
        self._check_room()
        schedule_id = ScheduleId(str(uuid.uuid4()))
        template = replace(template, id=JobId(schedule_id), schedule_id=schedule_id, workflow_id=schedule_id)
        return self._newest(await self._create(_Entry(Schedule(schedule_id, calendar, template)), keep))

    async def _admit(
        self, template: JobRecord, calendar: str, uploads: Uploads, secrets: Secrets
    ) -> Schedule:
        self._check_room()
        schedule_id = ScheduleId(str(uuid.uuid4()))
        template = replace(template, id=JobId(schedule_id), state=JobState.SCHEDULED, schedule_id=schedule_id)
        # Last of all: from here on the schedule owns its files.
        brought = bring_uploads(template.spec, uploads, self._staging, template.started_by)
        paths, delivery = brought or ((), None)
        template = replace(template, spec=replace(template.spec, uploads=_first_of(paths)))
        entry = _Entry(Schedule(schedule_id, calendar, template))
        return await self._create(entry, lambda made: self._belongings.keep(made, delivery, secrets))

    def _check_room(self) -> None:
        most = self._config.max_recurring
        if len(self._entries) >= most:
            raise LimitReached(
                f"cannot schedule job: there are {most} recurring schedules (schedules.max_recurring)",
                reason="TOO_MANY_SCHEDULES",
                hint="remove those that are not needed: rnx schedule list",
            )

    async def _create(self, entry: _Entry, keep: Callable[[ScheduleId], Awaitable[None]]) -> Schedule:
        schedule = entry.schedule
        entry.is_stored = False  # but already there: its timer may trigger at once
        self._entries[schedule.id] = entry
        async with entry.lock:
            try:
                await keep(schedule.id)
                entry.schedule = replace(schedule, next_at=await self._first_start(schedule))
                await self._store.save(entry.schedule)
                entry.is_stored = True
            except BaseException as error:
                del self._entries[schedule.id]
                self._timers.stop(_timer(schedule.id))
                if isinstance(error, JobletError):  # who is cancelled leaves it to the next agent
                    await self._starts_of(schedule).discard(schedule.id)
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
        page = await self._jobs.page(JobFilter(schedule_prefix=schedule.id), size=most, token="")
        return page.jobs

    async def remove(self, given: str) -> ScheduleId:
        """Forget the schedule with its files and secrets; jobs that it has started stay as they are."""
        entry = self._resolve(given)
        return await self._shielded(self._remove(entry), f"remove-{entry.schedule.id}")

    async def _remove(self, entry: _Entry) -> ScheduleId:
        schedule_id = entry.schedule.id
        async with entry.lock:
            self._check_exists(entry)
            await self._store.delete(schedule_id)
            del self._entries[schedule_id]
            self._timers.stop(_timer(schedule_id))
            await self._starts_of(entry.schedule).discard(schedule_id)
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

    async def resume(self, given: str, caller: Identity) -> Schedule:
        """Go on with the next start from now; what was due meanwhile is not made up for.

        Raises NotPermitted for a schedule whose jobs the caller may not run (profile, the host's network),
        WrongState for one that is not paused, HostUnavailable, StoreFailed.
        """
        entry = self._resolve(given)
        act = f"cannot resume schedule {entry.schedule.id[:8]}"
        require_permitted(entry.schedule.spec.profile, caller, act)
        self._networks.require_host_permitted(entry.schedule.spec, caller.role, act)
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
        await self._belongings.discard_all_but(self._entries.keys())

    async def close(self) -> None:
        """Start no more; what is due is found again by the next ``recover``."""
        await self._belongings.close()
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
        pause = GrowingPause()
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
            await pause.wait()

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
        starts = self._starts_of(schedule)
        why_not = self._too_late(schedule, due) or await starts.why_not(schedule)
        start = None
        if not why_not:
            try:
                start = await starts.make(schedule, due)
            except StoreFailed:
                raise  # for now: it is tried again
            except JobletError as error:
                why_not = str(error)
        if start is None:
            schedule = replace(schedule, skipped=schedule.skipped + 1, skipped_reason=why_not)
        else:
            schedule = replace(schedule, started=schedule.started + 1, last_job=JobId(start.id))
        await self._store_claim(schedule, due, start)
        entry.schedule = schedule
        if start is None:
            _log.warning("schedule %s: the start at %s is left out: %s", schedule.id, due, why_not)
        else:
            starts.begin(start)
        if next_at is None:
            self._timers.stop(_timer(schedule.id))

    async def _store_claim(self, schedule: Schedule, due: datetime, start: Start | None) -> None:
        job, workflow = (None, None) if start is None else (start.job, start.workflow)
        try:
            is_ours = await self._store.claim(schedule, due=due, job=job, workflow=workflow)
        except StoreFailed:
            if start is not None:
                await self._starts_of(schedule).take_back(start)
            raise
        if not is_ours:
            raise AssertionError(f"the start of schedule {schedule.id} at {due} was claimed by somebody else")

    def _too_late(self, schedule: Schedule, due: datetime) -> str:
        late = self._clock.now() - due
        if schedule.spec.skip_missed and late > MISSED_AFTER:
            return f"it was missed by {late.total_seconds():.0f} s, and missed starts are not wanted"
        return ""

    def _starts_of(self, schedule: Schedule) -> Starts:
        return self._workflow_starts if schedule.is_of_workflows else self._job_starts

    # -- inside ------------------------------------------------------------------------------------

    async def _submitted(self, caller: str, token: str) -> Schedule | None:
        for entry in self._entries.values():
            made = entry.schedule
            if made.token and (made.template.started_by, made.token.text) == (caller, token):
                return made
        return None

    def _newest(self, schedule: Schedule) -> Schedule:
        entry = self._entries.get(schedule.id)
        return schedule if entry is None else entry.schedule

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


def _first_of(paths: Sequence[str]) -> tuple[str, ...]:
    sizes = accumulate(len(path.encode()) for path in paths)
    return tuple(path for path, size in zip(paths, sizes, strict=True) if size <= MOST_SPEC)


def _check_size(spec: JobSpec) -> None:
    texts = (
        spec.command,
        *spec.args,
        *spec.environment,
        *spec.environment.values(),
        *spec.secret_environment,
        *spec.secret_files,
    )
    size = sum(len(text.encode()) for text in texts)
    if size > MOST_SPEC:
        raise InvalidRequest(
            f"cannot schedule job: arguments, variables and names of secrets of a recurring job take "
            f"{size} bytes together, at most {MOST_SPEC} are allowed",
            reason="SCHEDULE_TOO_LARGE",
            hint="let the command read large data from a file",
        )
