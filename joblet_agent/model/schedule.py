"""Recurring schedules: a calendar expression, and the job that starts whenever it is due.

Must not know: proto messages, D-Bus names, SQL.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from joblet_agent.model.job import JobId, JobRecord, JobSpec

ScheduleId = NewType("ScheduleId", str)
"""Lower-case version-4 UUID of 36 characters."""


class ScheduleState(StrEnum):
    """States by their text on the wire."""

    ACTIVE = "ACTIVE"
    PAUSED = "PAUSED"
    ENDED = "ENDED"
    """The calendar has no further start."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Everything the agent knows of a recurring schedule. Times are aware and in UTC."""

    id: ScheduleId
    calendar: str
    """Calendar expression, systemd.time(7), as it was typed."""
    template: JobRecord
    """What each of its jobs begins with; the id and the time of creation are the schedule's own."""
    is_paused: bool = False
    next_at: datetime | None = None
    """The next start; None while paused, and when the calendar has no more."""
    last_at: datetime | None = None
    """The newest start that was due, whether a job came of it or not."""
    last_job: JobId | None = None
    started: int = 0
    """Jobs it has started."""
    skipped: int = 0
    """Starts that were left out."""
    skipped_reason: str = ""
    """Why the last of them was, for people."""

    @property
    def spec(self) -> JobSpec:
        """What its jobs run."""
        return self.template.spec

    @property
    def created_at(self) -> datetime:
        """When it was made."""
        return self.template.created_at

    @property
    def state(self) -> ScheduleState:
        """Whether it will start anything."""
        if self.is_paused:
            return ScheduleState.PAUSED
        return ScheduleState.ENDED if self.next_at is None else ScheduleState.ACTIVE
