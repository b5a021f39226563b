"""Workflow values: jobs that depend on one another, as they are run.

State machine of a member (an arrow is in the store before anything comes of it)::

    WAITING ──► ACTIVE      its job is stored, PENDING
       │          ├──► COMPLETED, FAILED, STOPPED, CANCELED   as its job has ended
       │          └──► WAITING      it failed and has a retry left
       ├──► CANCELED        what it requires cannot come true any more, it waited too long, or so asked for
       ├──► SKIPPED         it was for a failure that has not come
       └──► FAILED          no job could be made of it

Must not know: proto messages, D-Bus names, SQL.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from joblet_agent.model.ids import JobId, WorkflowId, new_workflow_id
from joblet_agent.model.job import JobRecord, Token
from joblet_agent.workflow_file.expression import Condition, End
from joblet_agent.workflow_file.values import NEVER, NO_RETRIES, NOTHING_REQUIRED, Retries

__all__ = [
    "Change",
    "Counts",
    "Member",
    "MemberPlan",
    "MemberState",
    "NewMember",
    "NewWorkflow",
    "Progress",
    "Wish",
    "Workflow",
    "WorkflowFilter",
    "WorkflowId",
    "WorkflowState",
    "new_workflow_id",
]


class WorkflowState(StrEnum):
    """States by their text on the wire."""

    SCHEDULED = "SCHEDULED"
    """It waits for its time (``Workflow.scheduled_at``)."""
    PENDING = "PENDING"
    """Nothing of it has started."""
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELED = "CANCELED"

    @property
    def has_ended(self) -> bool:
        """True when it goes on only by a retry."""
        return self in _ENDED


_ENDED = frozenset(
    {WorkflowState.COMPLETED, WorkflowState.FAILED, WorkflowState.STOPPED, WorkflowState.CANCELED}
)


class MemberState(StrEnum):
    """States by their text in the store; the ends are those of conditions (workflow_file.expression.End)."""

    WAITING = "WAITING"
    ACTIVE = "ACTIVE"
    """Its job waits in the queue of jobs, or runs: the job says which."""
    COMPLETED = "COMPLETED"
    SKIPPED = "SKIPPED"
    CANCELED = "CANCELED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def end(self) -> End | None:
        """How it ended; None while it has not."""
        return None if self in {MemberState.WAITING, MemberState.ACTIVE} else End(self.value)


class Wish(StrEnum):
    """What somebody wants of a whole workflow; stored before it is done."""

    NONE = ""
    STOP = "stop"
    """What runs is stopped, what waits is canceled."""
    CANCEL = "cancel"
    """What waits is canceled, what runs goes on to its end."""


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """What never changes of a job of a workflow. What it runs is in its template, a job's record (ports)."""

    number: int
    """Its place in the file, from 0."""
    name: str
    group: str
    """The name in the file: the same for all of one matrix."""
    requires: Condition = NOTHING_REQUIRED
    """Names in it are members' or groups'."""
    is_for_failure: bool = False
    """``when: failure``: if what it requires has not failed it is skipped, not canceled."""
    retries: Retries = NO_RETRIES
    max_wait: timedelta = NEVER
    """Longest wait for what it requires, from the start of the workflow; 0 for any."""
    upload_files: tuple[str, ...] = ()
    """Paths, as written in the file, of the files of the workflow that it gets a copy of."""
    upload_directories: tuple[str, ...] = ()
    output_files: tuple[str, ...] = ()
    """Paths in its ``/work`` that members which wait for it get."""
    has_outputs: bool = False
    """Somebody waits for its output files or refers to its outputs."""
    inputs: tuple[str, ...] = ()
    """Names of members whose output files it gets, in ``/work/inputs/NAME``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What has become of a member."""

    state: MemberState = MemberState.WAITING
    job_id: JobId | None = None
    """Of its newest job."""
    tries: int = 0
    """Jobs that were made of it."""
    not_before: datetime | None = None
    """When its retry is due."""
    started_at: datetime | None = None
    """Of its newest job, once that has ended."""
    ended_at: datetime | None = None
    exit_code: int = 0
    message: str = ""
    """Why it ended so, for people; empty where the state says it all."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """What it wrote to ``$JOBLET_OUTPUT``."""


@dataclass(frozen=True, slots=True)
class Member:
    """A job of a workflow."""

    plan: MemberPlan
    progress: Progress = Progress()


@dataclass(frozen=True, slots=True)
class NewMember:
    """A member of a workflow that is to be stored."""

    plan: MemberPlan
    template: JobRecord
    """What each of its jobs begins with; its texts may refer to outputs of others (``${jobs.NAME.KEY}``)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Members of a workflow by what has become of them."""

    total: int = 0
    active: int = 0
    completed: int = 0
    skipped: int = 0
    canceled: int = 0
    stopped: int = 0
    failed: int = 0

    @property
    def ended(self) -> int:
        """How many nothing more comes of."""
        return self.completed + self.skipped + self.canceled + self.stopped + self.failed


@dataclass(frozen=True, slots=True)
class Workflow:
    """Everything the agent knows of a workflow but its members and its text. Times are aware and in UTC."""

    id: WorkflowId
    created_at: datetime
    name: str = ""
    """For people: from the file, or the name of what was picked of it."""
    file: str = ""
    """Name of the file it is from, for people."""
    description: str = ""
    state: WorkflowState = WorkflowState.PENDING
    started_by: str = ""
    role: str = ""
    """Of who submitted it, then."""
    scheduled_at: datetime | None = None
    """When it is or was due; None for one that was to start at once."""
    started_at: datetime | None = None
    """When its first job was stored."""
    ended_at: datetime | None = None
    counts: Counts = Counts()
    max_parallel: int = 0
    """Members that are active at once; 0 for no bound of its own."""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Names of the members of each matrix."""
    is_paused: bool = False
    """Nothing of it starts, and what runs stands still."""
    wish: Wish = Wish.NONE
    has_files: bool = False
    """Files or secrets came with it (workflows/belongings.py)."""
    schedule_id: str = ""
    """The recurring schedule that it is an occurrence of; empty for none."""
    token: Token | None = None
    """What its submission is known by."""
    unknown: Mapping[tuple[str | int, ...], object] = field(default_factory=dict)
    """What a newer agent stored with it and this one does not know."""


@dataclass(frozen=True, slots=True)
class NewWorkflow:
    """A workflow that is to be stored."""

    workflow: Workflow
    text: str
    """Of its file, as people may see it."""
    members: Sequence[NewMember]


@dataclass(frozen=True, slots=True)
class WorkflowFilter:
    """Which workflows a listing wants; empty fields do not filter."""

    include_ended: bool = True
    id_prefix: str = ""
    started_by: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What a watcher is told: the workflow as it is now, and the members that have changed."""

    workflow: Workflow
    members: Sequence[Member]
