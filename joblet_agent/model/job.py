"""Job values.

State machine (an arrow is written to the store before or with the act that causes it)::

    PENDING ──► INITIALIZING ──► RUNNING ──► COMPLETED   exit status 0
       │              │             ├──────► FAILED      anything else
       │              │             └─► STOPPING ──► STOPPED
       │              ├──► FAILED   (start-failed, lost, host-rebooted)
       │              └──► STOPPING ──► STOPPED
       ├──► CANCELED                (stopped while it waited in the queue)
       │
    SCHEDULED ──► CANCELED          (withdrawn, or its start was missed and is not wanted later)

An INITIALIZING job with a token becomes PENDING again when its agent died before systemd had it.
A SCHEDULED job becomes PENDING when it is due.

Must not know: proto messages, D-Bus names, SQL.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from joblet_agent.model.gpu import HeldGpus
from joblet_agent.model.ids import JobId, new_job_id
from joblet_agent.model.metrics import Usage
from joblet_agent.model.network import Attachment, PublishedPort
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.volume import HeldVolume, VolumeMount

__all__ = [
    "ExplainedProperty",
    "Explanation",
    "JobFilter",
    "JobId",
    "JobPage",
    "JobRecord",
    "JobSpec",
    "JobState",
    "LogQuery",
    "Outcome",
    "Reason",
    "Token",
    "age",
    "new_job_id",
]


class JobState(StrEnum):
    """States by their text on the wire (spec: job state strings)."""

    SCHEDULED = "SCHEDULED"
    PENDING = "PENDING"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELED = "CANCELED"

    @property
    def has_ended(self) -> bool:
        """True when nothing can change it any more."""
        return self in _ENDED

    @property
    def has_unit(self) -> bool:
        """True while a unit of the job may exist in systemd."""
        return self in _WITH_UNIT


_ENDED = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.STOPPED, JobState.CANCELED})
_WITH_UNIT = frozenset({JobState.INITIALIZING, JobState.RUNNING, JobState.STOPPING})


class Reason(StrEnum):
    """Why a job ended as it did; a stable word for programs."""

    NONE = ""
    EXIT_CODE = "exit-code"
    SIGNAL = "signal"
    OOM_KILL = "oom-kill"
    TIMEOUT = "timeout"
    STOPPED = "stopped"
    CANCELED = "canceled"
    START_FAILED = "start-failed"
    NOT_FOUND = "program-not-found"
    CANNOT_INVOKE = "program-not-executable"
    HOST_REBOOTED = "host-rebooted"
    LOST = "lost"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a user asked for, checked (jobs/check.py) but not yet placed on the host."""

    command: str
    args: tuple[str, ...] = ()
    name: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str = ""
    """Name of a network; empty for the configuration's default."""
    bandwidth: int = 0
    """Most bits per second on the network, each way; 0 for no limit."""
    ports: tuple[PublishedPort, ...] = ()
    """Ports of the host that lead to the job."""
    work_dir: str = ""
    """Absolute directory in the job; empty for ``/work``."""
    profile: str = ""
    """Isolation profile (model/profile.py); empty for the configuration's default, and never in a record."""
    schedule: str = ""
    """When to start, as asked for: RFC 3339 or a calendar expression; empty for at once."""
    skip_missed: bool = False
    """A start that was missed is left out instead of made up for."""
    resources: Resources = NOTHING
    """What the job may use; complete once jobs/limits.py has looked at it."""
    work_in_memory: bool = False
    """``/work`` is memory of its ``work_size``, and gone with the job; else it is a directory on disk."""
    uploads: tuple[str, ...] = ()
    """The first paths of the files that came with the job (jobs/upload_check.py, MOST_TOLD)."""
    secret_environment: tuple[str, ...] = ()
    """Names of secret variables; their values are never in a record (jobs/secrets.py)."""
    secret_files: tuple[str, ...] = ()
    """Names of secret files."""
    volumes: tuple[VolumeMount, ...] = ()
    runtime: str = ""
    """Runtime, as asked for; empty for none. Which one that is says the record."""
    gpus: int = 0
    """How many GPUs of the host, for itself alone."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: exit code, signal and reason kept apart."""

    state: JobState
    reason: Reason = Reason.NONE
    exit_code: int = 0
    """The command's exit status; -1 when it did not exit by itself."""
    signal: int = 0
    """Number of the signal that ended the command; 0 for none."""
    message: str = ""
    """One sentence for people; empty when the state says it all."""


@dataclass(frozen=True, slots=True)
class Token:
    """Marks a submission: whoever repeats it with the same text gets the same job."""

    text: str
    """What the caller chose; each caller has texts of their own."""
    digest: str
    """Hash of what was asked for: the same text with another request is a mistake."""

    def asking_for(self, more: str) -> "Token":
        """Return the token of a submission that asks for this, too."""
        digest = hashlib.sha256(f"{self.digest} {more}".encode()).hexdigest()
        return Token(self.text, digest)


@dataclass(frozen=True, slots=True)
class JobRecord:
    """Everything the agent knows of a job. Times are aware and in UTC."""

    id: JobId
    spec: JobSpec
    state: JobState
    created_at: datetime
    started_by: str = ""
    role: str = ""
    """Of who submitted it, then; empty in records of older agents."""
    uid: int = 0
    """Host uid and gid of the job's processes; 0 while none is assigned."""
    boot_id: str = ""
    """Kernel boot id under which the unit was made."""
    invocation_id: str = ""
    """systemd's id (32 hex digits) of this start of the unit, once known."""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    stop_requested: bool = False
    paused: bool = False
    """Its processes stand still. Not stored: systemd knows it as long as there are processes."""
    main_pid: int = 0
    log_truncated: bool = False
    journal_offset: int = 0
    """Bytes of the log already copied to the journal."""
    scheduled_at: datetime | None = None
    """When it is or was due; None for a job that was to start at once."""
    schedule_id: str = ""
    """The recurring schedule that it is an occurrence of; empty for none."""
    workflow_id: str = ""
    """The workflow that it is a job of; empty for none. Its name is that of the member."""
    dependencies: tuple[str, ...] = ()
    """Names of the workflow's jobs that it has waited for."""
    usage: Usage | None = None
    """What an ended job used; None if nothing of it ran, or nobody knows."""
    unapplied_limits: tuple[str, ...] = ()
    """Limits that were changed, and that systemd may not have taken over yet."""
    token: Token | None = None
    """What its submission is known by, so that a repeated one finds it."""
    attachment: Attachment | None = None
    """Its place on a network; None while it has none, and once it has ended."""
    volumes: tuple[HeldVolume, ...] = ()
    """The volumes that it has, once it starts."""
    runtime: PinnedRuntime | None = None
    """The runtime whose tree is its root, from its acceptance on; None for a job without."""
    pins: Mapping[str, PinnedRuntime] = field(default_factory=dict)
    """Of what a schedule of workflows begins with: their runtimes, by what the file asks for."""
    gpus: HeldGpus | None = None
    """Its GPUs, once it starts; None for a job without."""
    unknown: Mapping[tuple[str | int, ...], object] = field(default_factory=dict)
    """What a newer agent stored with it and this one does not know, by its place; it stays in the record."""

    @property
    def has_secrets(self) -> bool:
        """True when the job gets something that is not in this record."""
        return bool(self.spec.secret_environment or self.spec.secret_files)

    @property
    def has_ended(self) -> bool:
        """True when the outcome is final."""
        return self.state.has_ended


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which part of a log is wanted, in the order the filters apply."""

    offset: int = 0
    """First byte wanted."""
    since: datetime | None = None
    tail_lines: int | None = None
    """Last N lines of what is there at the time of the call; None for all."""
    grep: str = ""
    """Regular expression over the bytes of a line; empty for no filter."""
    follow: bool = True
    timestamps: bool = False
    """Say of each piece when it was written."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of jobs, newest first, and the token of the next one (empty: the last)."""

    jobs: tuple[JobRecord, ...]
    next_token: str = ""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Which jobs a listing wants; empty fields do not filter."""

    states: frozenset[JobState] = frozenset()
    id_prefix: str = ""
    name: str = ""
    schedule_prefix: str = ""
    """Only the occurrences of recurring schedules whose id begins so."""
    created_since: datetime | None = None
    started_by: str = ""
    """Name of who submitted them."""
    workflow_id: str = ""
    """Only the jobs of exactly this workflow."""


@dataclass(frozen=True, slots=True)
class ExplainedProperty:
    """One property of a job's unit and the option it comes from."""

    name: str
    value: str
    origin: str
    documentation: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """The unit of a job, told to a person who knows systemd."""

    unit: str
    properties: tuple[ExplainedProperty, ...]
    systemd_run: str
    notes: tuple[str, ...] = ()


def age(since: datetime, now: datetime) -> timedelta:
    """Return how long ago ``since`` was, never negative (the clock may step)."""
    return max(now - since, timedelta(0))
