"""What the core needs from outside, as narrow Protocols. ``app.py`` joins them to adapters."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from signal import SIGKILL
from typing import Protocol

from joblet_agent.model.audit import AuditEntry
from joblet_agent.model.event import JobEvent
from joblet_agent.model.execution import TerminalSize
from joblet_agent.model.gpu import HeldGpus
from joblet_agent.model.job import (
    Explanation,
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
)
from joblet_agent.model.metrics import Usage
from joblet_agent.model.network import Attachment, IPAddress, Network
from joblet_agent.model.profile import Profile
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.volume import HeldVolume, Volume, VolumeMount
from joblet_agent.model.workflow import (
    Member,
    NewMember,
    NewWorkflow,
    Progress,
    Workflow,
    WorkflowFilter,
    WorkflowId,
)


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
class PlacedVolume:
    """A volume in a job."""

    source: Path
    """Directory on the host."""
    target: str
    """Directory in the job."""
    is_read_only: bool = False


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
    namespace: Path | None = None
    """Network namespace of the job; None: one of its own with nothing but loopback."""
    resolver: Path | None = None
    """The host's file that the job sees as ``/etc/resolv.conf``; None for an empty one."""
    volumes: tuple[PlacedVolume, ...] = ()
    groups: tuple[int, ...] = ()
    """Host gids that the command has besides its own."""
    workflow_id: str = ""
    """The workflow whose slice the unit is in; empty for the slice of all jobs."""
    runtime: PinnedRuntime | None = None
    """The runtime whose tree ``root`` is; None for the root with the host's programs in it."""
    gpus: HeldGpus | None = None
    kit: Path | None = None
    """Directory with a launcher that needs nothing of the root (runtimes/launch_kit.py); with a runtime."""


@dataclass(frozen=True, slots=True)
class ExecPlan:
    """A command for a running job, placed on the host."""

    exec_id: str
    job: LaunchPlan
    """The job's own plan, with this command, directory, environment and environment file."""
    output: Path
    errors: Path
    report: Path
    orders: Path
    input: Path | None = None
    """Socket to which the launcher sends the other end of the command's input; None for empty input."""
    terminal: TerminalSize | None = None
    """Size of the terminal that is its input, output and errors; None for pipes."""


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


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """What the files of a project take, and what they may; 0 for no limit."""

    project: int
    size: int = 0
    files: int = 0
    most_size: int = 0
    most_files: int = 0


class ProjectQuotas(Protocol):
    """Limits of directory trees on one file system: a number, the project, is on each of their files.

    Blocking. Methods raise OSError.
    """

    def are_enforced(self) -> bool:
        """Say whether the file system holds trees of our own to their limits now."""
        ...

    def set_limit(self, project: int, *, size: int, files: int) -> None:
        """Limit the bytes and the number of the project's files; zeros lift both limits."""
        ...

    def usage(self, project: int) -> ProjectUsage:
        """Return what is known of the project; zeros if it has no file and no limit."""
        ...

    def known(self, first: int, last: int) -> Iterator[ProjectUsage]:
        """Yield the projects of the range that have files or a limit."""
        ...

    def assign(self, descriptor: int, project: int) -> None:
        """Let an open file or directory be of the project, and what is made in the directory from now on."""
        ...

    def project(self, descriptor: int) -> int:
        """Return the project of an open file or directory; 0 for none."""
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

    def control_group(self, job_id: JobId, workflow_id: str = "") -> Path:
        """Return the directory of the unit's control group; it exists while something of the job runs.

        ``workflow_id`` is the job's workflow, in whose slice its unit is; empty for none.
        """
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


@dataclass(frozen=True, slots=True)
class StoredNetwork:
    """A network that somebody made, as the store has it."""

    network: Network
    is_removed: bool = False
    """Nobody may use it any more; it is forgotten when the kernel has forgotten it."""


class NetworkStore(Protocol):
    """Durable networks; as JobStore. Methods raise StoreFailed."""

    async def save(self, stored: StoredNetwork) -> None:
        """Insert or replace the network of this name."""
        ...

    async def delete(self, name: str) -> None:
        """Forget the network."""
        ...

    async def all(self) -> Sequence[StoredNetwork]:
        """Return every network, oldest first; what is broken is left out, with an error in the log."""
        ...

    async def host_range(self, fresh: IPv6Network) -> IPv6Network:
        """Return the range that IPv6 ranges of this host's networks are parts of.

        The first call stores ``fresh``; all later ones return that.
        """
        ...


class NetworkBackend(Protocol):
    """The networks of the kernel: bridges, namespaces, rules, limits.

    The service behind it (joblet_agent/netlink) remembers nothing: ``apply`` tells it everything that is
    wanted, and the other methods change that. Every call has a deadline. Methods raise HostUnavailable when
    the service does not answer or the kernel refuses, with the kernel's words.
    """

    def listen(self, restarted: Callable[[], None]) -> None:
        """Call ``restarted`` on the event loop when the service forgot what it was told: ``apply`` again."""
        ...

    async def apply(
        self, networks: Sequence[Network], attachments: Sequence[Attachment]
    ) -> Mapping[JobId, str]:
        """Let exactly these be there; repair what is damaged, remove what else is ours.

        Return why attachments are not whole, by job; those are left as they are. What others have made is
        never touched.
        """
        ...

    async def create(self, network: Network) -> None:
        """Make the network's bridge and its rules. Doing it twice is the same as once."""
        ...

    async def remove(self, network: Network) -> None:
        """Leave nothing of the network in the kernel; one that is gone is no error."""
        ...

    async def attach(self, attachment: Attachment) -> Path:
        """Make the job's namespace, ready for use; return its path, for ``NetworkNamespacePath=``.

        Raises LimitReached (PORT_TAKEN) if a published port is in use on the host.
        """
        ...

    async def detach(self, job_id: JobId) -> None:
        """Leave nothing of the job in the kernel; one that is gone is no error."""
        ...

    async def occupied(self) -> Sequence[IPv4Network | IPv6Network]:
        """Return the ranges of the host's own addresses and routes; not default routes, and not ours."""
        ...

    def interface(self, job_id: JobId) -> str:
        """Return the name of the host's end of the job's link: its counters are in /sys/class/net.

        What the job sends is what this end receives.
        """
        ...


class NameServers(Protocol):
    """Answers jobs when they ask for names: one server to a network, on the network's gateway.

    Methods raise HostUnavailable. Which names jobs have: networks/names.py.
    """

    async def serve(self, network: Network) -> None:
        """Let the network's server run; returns once it answers. Doing it twice is the same as once."""
        ...

    async def dismiss(self, network: Network) -> None:
        """Stop the server and remove its files; one that is gone is no error."""
        ...

    async def tell(self, network: Network, names: Mapping[str, Sequence[IPAddress]]) -> None:
        """Let the server know exactly these names; a few milliseconds later it answers so, if it runs."""
        ...

    async def keep_only(self, networks: Collection[Network]) -> None:
        """Dismiss what is there for all other networks: whatever an agent before has left."""
        ...

    def resolver(self, network: Network) -> Path:
        """Return the host's file that is ``/etc/resolv.conf`` of jobs on the network."""
        ...


class TimerKind(StrEnum):
    """What a timer wakes the agent for."""

    JOB = "job"
    SCHEDULE = "schedule"
    WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class TimerId:
    """The timer of one scheduled job or workflow, or of one recurring schedule."""

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

    async def claim(
        self,
        schedule: Schedule,
        *,
        due: datetime,
        job: JobRecord | None = None,
        workflow: NewWorkflow | None = None,
    ) -> bool:
        """Replace the schedule whose next start is ``due`` and store what that starts, all or nothing.

        False, with nothing stored, if its next start is another one: somebody has claimed this one.
        """
        ...

    async def delete(self, schedule_id: ScheduleId) -> None:
        """Forget the schedule."""
        ...

    async def all(self) -> Sequence[Schedule]:
        """Return every schedule, oldest first; what is broken is left out, with an error in the log."""
        ...


class WorkflowStore(Protocol):
    """Durable workflows. Methods raise StoreFailed and return once all is committed."""

    async def create(self, workflow: Workflow, text: str, members: Sequence[NewMember]) -> None:
        """Store a new workflow, all or nothing. ``text`` is what people are shown of its file.

        Of a template, id, state, name, workflow and time of creation are not kept: see ``templates``.
        """
        ...

    async def save(
        self,
        workflow: Workflow,
        progress: Mapping[int, Progress],
        jobs: Sequence[JobRecord] = (),
    ) -> None:
        """Replace the workflow and the progress of members by number, and insert jobs: all or nothing.

        Costs the same whatever else the workflow has. Its groups, who started it, its token and its time of
        creation stay as they were created. Raises StoreFailed (WORKFLOW_NOT_STORED) if it is not there.
        """
        ...

    async def get(self, workflow_id: WorkflowId) -> Workflow | None:
        """Return the workflow, None if there is none."""
        ...

    async def submitted(self, caller: str, token: str) -> Workflow | None:
        """Return what this caller's submission with this text as token made."""
        ...

    async def find(self, prefix: str, *, most: int) -> Sequence[WorkflowId]:
        """Return ids that begin so."""
        ...

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        """Return the workflows, newest first; what is broken is left out, with an error in the log."""
        ...

    async def unfinished(self) -> Sequence[Workflow]:
        """Return those that have not ended, oldest first."""
        ...

    async def members(self, workflow_id: WorkflowId) -> Sequence[Member]:
        """Return all of the workflow's, by number; nothing for one that is not there.

        Raises StoreFailed (WORKFLOW_BROKEN) if one of them cannot be read: trying again does not help, and
        without it nobody knows how the workflow goes on.
        """
        ...

    async def templates(self, workflow_id: WorkflowId, numbers: Collection[int]) -> Mapping[int, JobRecord]:
        """Return what the jobs of these members begin with.

        A template has the workflow's id, as its own as well, and its time of creation, the member's name,
        and is PENDING. What is not there, or broken, is left out, the latter with an error in the log.
        """
        ...

    async def text(self, workflow_id: WorkflowId) -> str:
        """Return what people are shown of its file; empty for one that is not there."""
        ...

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[WorkflowId]:
        """Return the ended ones beyond the newest ``keep``, and those that ended before."""
        ...

    async def oldest_end(self) -> datetime | None:
        """Return when the workflow ended that ended first of all that are stored; None if none has."""
        ...

    async def jobs_of(self, workflow_id: WorkflowId) -> Sequence[JobId]:
        """Return every job of the workflow that is still stored, those of earlier tries included."""
        ...

    async def delete(self, workflow_id: WorkflowId) -> None:
        """Forget the workflow with its members; its jobs stay."""
        ...


class WorkflowSlices(Protocol):
    """The slices that units of workflows' jobs are in. Calls have a deadline and raise HostUnavailable."""

    async def make(self, workflow_id: WorkflowId, title: str) -> None:
        """Start the slice with a title for people; one that is there is no error, and keeps its title.

        A job that is started without makes the slice too, without a title. Raises LaunchFailed with systemd's
        words if it refuses.
        """
        ...

    async def remove(self, workflow_id: WorkflowId) -> None:
        """Stop the slice, which nothing is in any more; return when it is gone, which is no error before.

        What is in it is stopped with it. Raises HostUnavailable if some unit keeps it.
        """
        ...

    async def present(self) -> Sequence[WorkflowId]:
        """Return the workflows whose slices systemd knows."""
        ...

    def slice_name(self, workflow_id: WorkflowId) -> str:
        """Return the name of the slice."""
        ...


class VolumeStore(Protocol):
    """Durable volumes. Methods raise StoreFailed and return once all is committed."""

    async def save(self, volume: Volume) -> None:
        """Insert or replace the volume."""
        ...

    async def delete(self, name: str) -> None:
        """Forget the volume."""
        ...

    async def all(self) -> Sequence[Volume]:
        """Return every volume, by name; what is broken is left out, with an error in the log."""
        ...


@dataclass(frozen=True, slots=True)
class MountPlan:
    """A file system that is to be mounted."""

    where: Path
    what: str
    type: str
    options: tuple[str, ...]
    title: str


class VolumeUnits(Protocol):
    """File systems of volumes: mount units, and programs that make, check and grow file systems.

    Each call has a deadline, and leaves no unit of a program behind. Raises HostUnavailable if systemd does
    not answer, LaunchFailed with the words of what failed.
    """

    async def stop_tools(self) -> None:
        """Stop the programs that an earlier agent has begun; return when none works on a file any more."""
        ...

    async def mount(self, plan: MountPlan) -> None:
        """Mount it, as a unit; return when it is."""
        ...

    async def unmount(self, where: Path) -> None:
        """Unmount it; what is not mounted is no error. Raises LaunchFailed if somebody uses it."""
        ...

    def unit_name(self, where: Path) -> str:
        """Return the name of the mount unit."""
        ...

    async def make_directory(self, path: Path, number: int, mode: int) -> None:
        """Let there be the directory, with this owner and group, and this mode (also set-group-ID)."""
        ...

    async def make_file_system(self, image: Path, files: int) -> None:
        """Make a file system for so many files in a file; its blocks stay the file's."""
        ...

    async def check_file_system(self, image: Path) -> bool:
        """Check one that is not mounted, and repair what can be; return whether there was anything.

        Raises LaunchFailed for what takes a person.
        """
        ...

    async def grow_unmounted(self, image: Path) -> None:
        """Let the file system in the file, which is not mounted, take all of it."""
        ...

    async def grow_file_system(self, where: Path, device: Path) -> None:
        """Let the file system that is mounted there from a loop device take all of its file."""
        ...

    async def remount(self, where: Path, options: Sequence[str]) -> None:
        """Give what is mounted there other options; its unit keeps those that it was made with."""
        ...


class JobVolumes(Protocol):
    """The volumes of jobs."""

    def check(self, mounts: Sequence[VolumeMount], profile: Profile) -> None:
        """Raise NotFound, NotPermitted, InvalidRequest if a job with these cannot be submitted now."""
        ...

    async def hold(self, record: JobRecord) -> tuple[HeldVolume, ...]:
        """Let the volumes of a job that starts be ready; they stay as long as the job is active.

        Raises NotFound, NotPermitted, WrongState, InvalidRequest, HostUnavailable.
        """
        ...


class JobRuntimes(Protocol):
    """The runtimes of jobs."""

    def admit(self, asked: str) -> PinnedRuntime | None:
        """Return the runtime that a job gets which is accepted now; None for an empty text.

        Raises InvalidRequest and NotFound with the nearest names; takes memory alone.
        """
        ...

    def hold(self, records: Iterable[JobRecord]) -> AbstractContextManager[None]:
        """Keep the runtimes of jobs that are about to be stored, until their records speak for them."""
        ...

    def check(self, runtime: PinnedRuntime) -> None:
        """Raise LaunchFailed if no job can start with it: it is gone, or damaged. Blocking."""
        ...


class JobGpus(Protocol):
    """The GPUs of jobs."""

    async def refresh(self) -> None:
        """Look again which the host has."""
        ...

    def check(self, count: int, *, needed_by: str = "") -> None:
        """Raise InvalidRequest if a job can never have so many.

        ``needed_by`` is the runtime that wants one of whoever uses it. Takes memory alone.
        """
        ...

    def take(self, count: int, busy: Collection[int]) -> HeldGpus | None:
        """Return GPUs whose indices are not ``busy``; None for 0. Raises InvalidRequest, LimitReached."""
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
