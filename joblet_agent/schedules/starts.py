"""What a recurring schedule starts: jobs here, workflows in workflows/starts.py."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.model.audit import start_by_timer
from joblet_agent.model.job import JobId, JobRecord, JobState, new_job_id
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.workflow import NewWorkflow
from joblet_agent.ports import AuditLog, Clock
from joblet_agent.schedules.belongings import ScheduleBelongings


@dataclass(frozen=True, slots=True)
class Start:
    """What one start makes: a job or a workflow, which is not stored yet."""

    id: str
    job: JobRecord | None = None
    workflow: NewWorkflow | None = None


class Starts(Protocol):
    """Makes what schedules of one kind start."""

    async def why_not(self, schedule: Schedule) -> str:
        """Say why nothing can start now: the one before has not ended; empty if it can."""
        ...

    async def make(self, schedule: Schedule, due: datetime) -> Start:
        """Make the start that is due, with what comes along. Raises JobletError, and nothing is left."""
        ...

    async def take_back(self, start: Start) -> None:
        """Remove what came along with a start that was not stored."""
        ...

    def begin(self, start: Start) -> None:
        """Let a start that is stored begin."""
        ...

    async def discard(self, schedule_id: ScheduleId) -> None:
        """Remove what belongs to a schedule that is gone."""
        ...


class JobStarts:
    """Starts jobs: each gets a copy of the schedule's files and secrets."""

    def __init__(
        self,
        *,
        belongings: ScheduleBelongings,
        get: Callable[[JobId], Awaitable[JobRecord | None]],
        waiting: WaitingJobs,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._belongings = belongings
        self._get = get
        self._waiting = waiting
        self._audit = audit
        self._clock = clock

    async def why_not(self, schedule: Schedule) -> str:
        """See Starts."""
        before = None if schedule.last_job is None else await self._get(schedule.last_job)
        if before is not None and not before.has_ended:
            return f"job {before.id} of the start before had not ended"
        return ""

    async def make(self, schedule: Schedule, due: datetime) -> Start:
        """See Starts."""
        job = replace(
            schedule.template,
            id=new_job_id(),
            state=JobState.PENDING,
            created_at=self._clock.now(),
            scheduled_at=due,
            token=None,
        )
        await self._belongings.give(schedule.id, job)
        return Start(job.id, job=job)

    async def take_back(self, start: Start) -> None:
        """See Starts."""
        assert start.job is not None
        await self._belongings.take_back(start.job)

    def begin(self, start: Start) -> None:
        """See Starts."""
        assert start.job is not None
        self._audit.write(start_by_timer(start.job))
        self._waiting.take_in(start.job.id)

    async def discard(self, schedule_id: ScheduleId) -> None:
        """See Starts."""
        await self._belongings.discard(schedule_id)
