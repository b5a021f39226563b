"""What the core needs from outside, as narrow Protocols. ``app.py`` joins them to adapters."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL
from typing import Protocol

from joblet_agent.model.audit import AuditEntry
from joblet_agent.model.event import JobEvent
from joblet_agent.model.job import (
    Explanation,
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
)
from joblet_agent.model.metrics import Usage
from joblet_agent.model.profile import Profile
from joblet_agent.model.schedule import Schedule, ScheduleId


class UnitPhase(StrEnum):
    """Where a job's unit is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    ENDED = "ended"
    GONE = "gone"
    """systemd no longer knows the unit."""


@dataclass(frozen=True, slots=True)
class UnitStatus:
    """What systemd says of a job's unit, in our words.

    ``exit_kind`` is ``exited``, ``killed``, ``dumped`` or empty when no process of the job ended;
    ``exit_status`` the exit status or the signal's number; ``result`` systemd's own word.
    """

    job_id: JobId
    phase: UnitPhase
    invocation_id: str = ""
    main_pid: int = 0
    exit_kind: str = ""
    exit_status: int = 0
    result: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    is_frozen: bool = False
    """None of its processes runs, until it is thawed."""


@dataclass(frozen=True, slots=True)
class Accounted:
    """What systemd knows of the use of an ended unit; 0 for what this version does not tell."""

    usage: Usage = field(default_factory=Usage)
    memory_max: int = 0
    """The unit's own memory ceiling, bytes; 0 for none."""


CREDENTIALS_DIRECTORY = "/run/secrets"
"""Where a job sees its secret files (systemd.exec(5), "$CREDENTIALS_DIRECTORY").

Not /run/credentials: systemd hides that from units without LoadCredential=, and mounts nothing there.
"""


UnitListener = Callable[[UnitStatus], None]


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """A job placed on the host: all that a unit manager needs to start it."""

    job_id: JobId
    spec: JobSpec
    uid: int
    """Host uid and gid of the command; 0 for a privileged job, and while none is assigned."""
    work: Path
    log: Path
    launch_report: Path
    """Where the launcher writes why the command could not be executed."""
    environment_file: Path
    root: Path
    disks: tuple[Path, ...] = ()
    """A directory on each disk that the job can reach, as the host sees them."""
    profile: Profile = Profile.DEFAULT
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The complete environment of the job, with its secrets."""
    credentials: Path | None = None
    """Directory of the job's secret files, mounted at CREDENTIALS_DIRECTORY; None if it has none."""


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """A command for a running job, placed on the host."""

    exec_id: str
    job: LaunchPlan
    """The job's own plan, with this command, directory, environment and environment file."""
    output: Path
    errors: Path
    report: Path


class ExecUnits(Protocol):
    """Transient units of commands that join a running job; each goes by itself when its command has ended."""

    async def start(self, plan: ExecPlan) -> None:
        """Ask systemd to start it. Raises LaunchFailed with systemd's words, HostUnavailable."""
        ...

    async def stop(self, exec_id: str) -> None:
        """Kill the command and what is in its process group; a unit that is gone is no error."""
        ...

    async def stop_all(self) -> int:
        """Stop all there are, return how many."""
        ...


class UnitManager(Protocol):
    """Transient units of jobs. Every call has a deadline and raises HostUnavailable beyond it."""

    def listen(self, listener: UnitListener, resync: Callable[[], None]) -> None:
        """Call ``listener`` on the event loop for every change of a job's unit.

        ``resync`` is called when changes may have been missed (the bus or systemd was restarted):
        compare with ``present`` again.
        """
        ...

    async def start(self, plan: LaunchPlan) -> None:
        """Ask systemd to start the job's unit; return once it accepted.

        Raises LaunchFailed with systemd's words if it refuses, HostUnavailable if it does not answer
        (the unit may then exist: ask ``status``).
        """
        ...

    async def set_limits(self, plan: LaunchPlan, names: Collection[str]) -> None:
        """Let these limits of the plan (fields of Resources) be in force for the unit that runs.

        Doing it twice is the same as once. Raises NotFound if there is no such unit, LaunchFailed with
        systemd's words if it refuses.
        """
        ...

    async def ceilings(self) -> Mapping[str, str]:
        """Return the limits on all jobs together, by systemd's name of each; only those that are set."""
        ...

    async def stop(self, job_id: JobId) -> None:
        """Send the stop signal to the whole control group; systemd kills what is left after the grace.

        A frozen unit is thawed first, so that the signal arrives.
        """
        ...

    async def kill(self, job_id: JobId, number: int = SIGKILL) -> None:
        """Send the signal to every process of the job at once; a unit that is gone is no error."""
        ...

    async def freeze(self, job_id: JobId) -> None:
        """Let every process of the job stand still; return when they do.

        Raises NotFound for a unit that is gone, LaunchFailed with systemd's words if it refuses.
        """
        ...

    async def thaw(self, job_id: JobId) -> None:
        """Let the job's processes go on; no error if they do already. Raises NotFound, LaunchFailed."""
        ...

    async def is_frozen(self, job_id: JobId) -> bool:
        """Return whether the job's processes stand still now. Raises NotFound for a unit that is gone."""
        ...

    async def release(self, job_id: JobId) -> None:
        """Let systemd forget the unit of an ended job; a unit that is gone is no error."""
        ...

    async def status(self, job_id: JobId) -> UnitStatus:
        """Return what systemd knows of the job's unit now; phase GONE if nothing."""
        ...

    async def present(self) -> Sequence[UnitStatus]:
        """Return the status of every unit of ours that systemd knows."""
        ...

    async def accounted(self, job_id: JobId) -> Accounted:
        """Return what systemd counted for a unit that has ended and is not released; a few calls."""
        ...

    def control_group(self, job_id: JobId) -> Path:
        """Return the directory of the unit's control group; it exists while something of the job runs."""
        ...

    async def tell_failure(self, job_id: JobId) -> None:
        """Start the unit that the configuration names for failed jobs, if it does.

        For jobs whose unit did not fail in systemd's eyes; for the others systemd starts it by itself.
        """
        ...

    async def host_is_stopping(self) -> bool:
        """Say whether the host is shutting down or rebooting."""
        ...

    def unit_name(self, job_id: JobId) -> str:
        """Return the name of the job's unit."""
        ...

    @property
    def slice_name(self) -> str:
        """The unit that all jobs are in."""
        ...

    def explain(self, plan: LaunchPlan) -> Explanation:
        """Tell a person which unit the plan becomes."""
        ...


class TimerKind(StrEnum):
    """What a timer wakes the agent for."""

    JOB = "job"
    SCHEDULE = "schedule"


@dataclass(frozen=True, slots=True)
class TimerId:
    """The timer of one scheduled job or of one recurring schedule."""

    kind: TimerKind
    id: str


class TimerPhase(StrEnum):
    """Where a timer is in its life."""

    WAITING = "waiting"
    TRIGGERED = "triggered"
    """It wakes the agent just now; when it will do so again is not known yet."""
    ELAPSED = "elapsed"
    """It will never wake the agent again."""
    GONE = "gone"
    """systemd no longer knows it."""


@dataclass(frozen=True, slots=True)
class TimerStatus:
    """What systemd says of a timer, in our words."""

    timer: TimerId
    phase: TimerPhase
    next_at: datetime | None = None
    """When it will wake the agent; None unless it waits."""


class TimerManager(Protocol):
    """Transient timers that wake the agent. Calls have a deadline and raise HostUnavailable beyond it."""

    def listen_timers(self, listener: Callable[[TimerStatus], None]) -> None:
        """Call ``listener`` on the event loop for every change of a timer, and when it wakes the agent."""
        ...

    async def start_timer(self, timer: TimerId, calendar: str, title: str) -> datetime | None:
        """Make a timer for the calendar expression; return its first time, None if it has none ahead.

        Raises InvalidRequest with systemd's words for an expression that systemd cannot read,
        LaunchFailed if it refuses for another reason.
        """
        ...

    async def stop_timer(self, timer: TimerId) -> None:
        """Take the timer away and return when it is gone; one that is gone already is no error."""
        ...

    async def present_timers(self) -> Sequence[TimerStatus]:
        """Return the status of every timer of ours that systemd knows."""
        ...


class JobStore(Protocol):
    """Durable job records: what was stored is there after kill -9 of the agent.

    Methods raise StoreFailed; ``save`` returns once the record is committed.
    """

    async def save(self, *records: JobRecord) -> None:
        """Insert or replace the records, all or none."""
        ...

    async def delete(self, ids: Sequence[JobId]) -> None:
        """Forget the records."""
        ...

    async def get(self, job_id: JobId) -> JobRecord | None:
        """Return the record of exactly this id."""
        ...

    async def submitted(self, caller: str, token: str) -> JobRecord | None:
        """Return the job that this caller's submission with this token made."""
        ...

    async def find(self, prefix: str, *, most: int) -> Sequence[JobId]:
        """Return up to ``most`` ids that begin with ``prefix`` (lower case)."""
        ...

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        """Return one page, newest first. Raises InvalidRequest for a token that is not ours."""
        ...

    async def unfinished(self) -> Sequence[JobRecord]:
        """Return every job that has not ended, oldest first."""
        ...

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[JobId]:
        """Return the ended jobs beyond the newest ``keep``, and those that ended before ``before``."""
        ...

    async def oldest_end(self) -> datetime | None:
        """Return when the job ended that ended first of all that are stored; None if none has."""
        ...

    async def ended_count(self) -> int:
        """Return how many ended jobs there are; costs milliseconds, so not for every job."""
        ...


class EventLog(Protocol):
    """The history of changes of jobs, each stored together with the change itself. Bounded: the oldest go."""

    @property
    def newest(self) -> int:
        """Number of the last event."""
        ...

    def listen(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` on the event loop whenever ``newest`` has grown, until ``forget``."""
        ...

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call it any more."""
        ...

    async def events(self, after: int, *, most: int) -> Sequence[JobEvent]:
        """Return the first events after a number, in order and without a gap. Raises EventsGone."""
        ...

    async def standing(self, ids: Sequence[JobId]) -> tuple[int, Sequence[JobEvent]]:
        """Return the last number and where jobs stand then: these, or without ids all that have not ended."""
        ...

    async def mentions(self, job_id: JobId, *, after: int) -> bool:
        """Tell whether an event after the number is about the job; slow."""


class ScheduleStore(Protocol):
    """Durable recurring schedules. Methods raise StoreFailed and return once all is committed."""

    async def save(self, schedule: Schedule) -> None:
        """Insert or replace the schedule."""
        ...

    async def claim(self, schedule: Schedule, *, due: datetime, job: JobRecord | None) -> bool:
        """Replace the schedule whose next start is ``due`` and store the job of that start, both or none.

        False, with nothing stored, if its next start is another one: somebody has claimed this one.
        """
        ...

    async def delete(self, schedule_id: ScheduleId) -> None:
        """Forget the schedule."""
        ...

    async def all(self) -> Sequence[Schedule]:
        """Return every schedule, oldest first; what is broken is left out, with an error in the log."""
        ...


class JournalCopy(Protocol):
    """Copies job output and events to the journal for people; never blocks, never fails a job."""

    def lines(self, record: JobRecord, lines: Sequence[bytes]) -> int:
        """Copy output lines (without their newline); return how many of the first were taken.

        Fewer than all when the journal is busy: offer the rest again later.
        """
        ...

    def event(self, record: JobRecord, event: str, text: str) -> None:
        """Write one record about the job's life: ``JOBLET_EVENT=event``."""
        ...


class AuditLog(Protocol):
    """Keeps who did what; never blocks, never fails a call."""

    def write(self, entry: AuditEntry) -> None:
        """Write a record; if the journal does not take it now, as soon as it does."""
        ...


class EndedInvocations(Protocol):
    """What the journal remembers of units that systemd no longer knows."""

    async def status(self, job_id: JobId, invocation_id: str) -> UnitStatus | None:
        """Return how that start of the job's unit ended, or None if the journal does not tell."""
        ...


class FileWatch(Protocol):
    """One file of one who waits for it."""

    def arm(self) -> None:
        """Wake once, soon after the next change of the file (or of its being there).

        Arm, then look, then wait: so no change is missed. Arming twice is the same as once.
        Raises HostUnavailable when the watcher is closed.
        """
        ...

    def close(self) -> None:
        """Wake no more."""
        ...


class FileWatcher(Protocol):
    """Tells when a file grows, without polling."""

    def watch(self, path: Path, wake: Callable[[], None]) -> FileWatch:
        """Return a watch of the file, which need not exist yet. ``wake`` is called on the event loop."""
        ...


class Clock(Protocol):
    """Time, so that tests own it."""

    def now(self) -> datetime:
        """Return the aware time in UTC."""
        ...
