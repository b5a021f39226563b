"""Recurring schedules: a calendar expression, and the job or the workflow that starts whenever it is due.

Must not know: proto messages, D-Bus names, SQL.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NewType

from joblet_agent.model.job import JobId, JobRecord, JobSpec, Token

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
    """What each of its jobs begins with; the id and the time of creation are the schedule's own.

    Of a workflow it has the name, who asked for it, and the network that not everybody may use.
    """
    is_paused: bool = False
    next_at: datetime | None = None
    """The next start; None while paused, and when the calendar has no more."""
    last_at: datetime | None = None
    """The newest start that was due, whether a job came of it or not."""
    last_job: JobId | None = None
    """Or workflow: the newest that it has started."""
    started: int = 0
    """Jobs, or workflows, it has started."""
    skipped: int = 0
    """Starts that were left out."""
    skipped_reason: str = ""
    """Why the last of them was, for people."""

    @property
    def is_of_workflows(self) -> bool:
        """Say whether it starts workflows."""
        return bool(self.template.workflow_id)

    @property
    def spec(self) -> JobSpec:
        """What its jobs run."""
        return self.template.spec

    @property
    def token(self) -> Token | None:
        """What its submission is known by; its jobs have none."""
        return self.template.token

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
