"""Every key of the configuration, with its rule and its default. A field's name is its key in the file.

``units/agent.yml`` tells people the same; tests/unit/config holds the two together.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from joblet_agent.config.rules import AbsolutePath, Count, Duration, OneOf, Size, Switch, Word
from joblet_agent.model.profile import Profile
from joblet_agent.model.resources import INT32_MAX, LEAST_TASKS, LONGEST_TIME, MOST_CPUS, MOST_TASKS
from joblet_agent.model.units import GIB, KIB, LARGEST_SIZE, MIB, TIB

# sun_path holds 108 bytes, one of them for the NUL; unix(7).
_SOCKET_PATH_BYTES = 107
_GROUP = r"[a-z_][a-z0-9_-]{0,31}"
_NETWORK = r"[A-Za-z0-9_-]{1,15}"
_HOOK = r"(?:[A-Za-z0-9:_.-]{1,150}@?\.service)?"
_FOREVER = timedelta(days=36500)


class LogLevel(StrEnum):
    """How much the agent tells of itself."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SocketConfig:
    """The local way in."""

    path: Annotated[Path, AbsolutePath(_SOCKET_PATH_BYTES)] = Path("/run/joblet/agent.sock")
    group: Annotated[str, Word("a group's name", _GROUP)] = "joblet"
    """Members may do everything, as root may."""


@dataclass(frozen=True, slots=True)
class RoleSocketConfig:
    """A further local way in, whose callers have one role."""

    path: Annotated[Path | None, AbsolutePath(_SOCKET_PATH_BYTES, may_be_empty=True)] = None
    """None: there is no such socket."""
    group: Annotated[str, Word("a group's name", _GROUP)] = "root"


@dataclass(frozen=True, slots=True)
class SocketsConfig:
    """Further local ways in, by the role that they give."""

    operator: RoleSocketConfig = field(default_factory=RoleSocketConfig)
    viewer: RoleSocketConfig = field(default_factory=RoleSocketConfig)


class Listening(StrEnum):
    """When there is the way in over the network."""

    AUTO = "auto"
    """When the certificates are there."""
    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """The way in over the network."""

    enabled: Annotated[Listening, OneOf(Listening)] = Listening.AUTO
    address: Annotated[str, Word("an IP address", r"[0-9A-Fa-f.:]{2,45}")] = "0.0.0.0"  # noqa: S104 - as published
    port: Annotated[int, Count(1, 65535)] = 50051


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates."""

    directory: Annotated[Path, AbsolutePath()] = Path("/etc/joblet/pki")


@dataclass(frozen=True, slots=True)
class ViewerConfig:
    """What callers with the role viewer may do beyond looking."""

    files: Annotated[bool, Switch("yes", "no")] = False
    """Fetch files of jobs."""


class Visibility(StrEnum):
    """Which jobs and schedules operators see and control."""

    ALL = "all"
    OWN = "own"
    """Those that they have started themselves."""


@dataclass(frozen=True, slots=True)
class JobsConfig:
    """What jobs get, and how many there may be."""

    max_concurrent: Annotated[int, Count(1, 100_000)] = 1000
    """Jobs that have a unit; more wait."""
    max_waiting: Annotated[int, Count(0, 1_000_000)] = 100_000
    stop_grace: Annotated[timedelta, Duration(timedelta(0), timedelta(days=1))] = timedelta(seconds=10)
    """From the stop signal to the kill."""
    default_network: Annotated[str, Word("a network's name", _NETWORK)] = "none"
    default_profile: Annotated[Profile, OneOf(Profile)] = Profile.DEFAULT
    """Isolation of a job that asks for none."""
    uid_first: Annotated[int, Count(65536, 2**32 - 3)] = 1879048192
    """First of the host uids and gids that jobs run under, one each."""
    uid_count: Annotated[int, Count(1, 2**31)] = 65536
    start_parallelism: Annotated[int, Count(1, 1000)] = 24
    """Units that systemd is asked to start at the same time."""
    tmp_size: Annotated[int, Size(64 * KIB, TIB)] = GIB
    """Of a job's private ``/tmp``."""
    visibility: Annotated[Visibility, OneOf(Visibility)] = Visibility.ALL
    """For operators; admins and viewers see all."""


class Unenforced(StrEnum):
    """What happens with a limit that this host cannot enforce."""

    REFUSE = "refuse"
    ACCEPT = "accept"


@dataclass(frozen=True, slots=True)
class MaximaConfig:
    """The most that jobs of a role may ask for, and get; zero is no maximum."""

    max_cpu: Annotated[int, Count(0, 100 * MOST_CPUS)] = 0
    """Percent of one core."""
    max_memory: Annotated[int, Size(0, LARGEST_SIZE)] = 0
    max_io_bps: Annotated[int, Size(0, INT32_MAX)] = 0
    """Bytes per second."""
    max_tasks: Annotated[int, Count(0, MOST_TASKS)] = 0
    """Processes and threads."""
    timeout: Annotated[timedelta, Duration(timedelta(0), LONGEST_TIME)] = timedelta(0)


@dataclass(frozen=True, slots=True)
class DefaultsConfig(MaximaConfig):
    """What a job gets that asks for nothing; zero is no limit."""

    max_tasks: Annotated[int, Count(LEAST_TASKS, MOST_TASKS)] = 4096


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Limits of single jobs."""

    unenforced: Annotated[Unenforced, OneOf(Unenforced)] = Unenforced.REFUSE
    """What happens with a limit that this host cannot enforce."""
    default: DefaultsConfig = field(default_factory=DefaultsConfig)
    admin: MaximaConfig = field(default_factory=MaximaConfig)
    operator: MaximaConfig = field(default_factory=MaximaConfig)


@dataclass(frozen=True, slots=True)
class ProfilesConfig:
    """Which isolation profiles there are; a switch for each."""

    default: Annotated[bool, Switch()] = True
    strict: Annotated[bool, Switch()] = True
    privileged: Annotated[bool, Switch()] = False
    """Root with the host's capabilities and devices, for callers with the role admin."""

    def offers(self, profile: Profile) -> bool:
        """Say whether the profile's switch is on."""
        return bool(getattr(self, profile.value))


@dataclass(frozen=True, slots=True)
class LogsConfig:
    """What is kept of a job's output."""

    max_size: Annotated[int, Size(4 * KIB, 16 * TIB)] = GIB
    """Of one job's log."""
    journal: Annotated[bool, Switch()] = True
    """Copy the lines to the journal."""
    journal_lines_per_second: Annotated[int, Count(1, 1_000_000)] = 200
    """Of one job, on average."""
    journal_burst: Annotated[int, Count(1, 10_000_000)] = 2000
    """Lines of one job that may come at once."""


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """What is sampled of running jobs. Final figures are in the status in any case."""

    enabled: Annotated[bool, Switch()] = True
    interval: Annotated[timedelta, Duration(timedelta(seconds=1), timedelta(hours=1))] = timedelta(seconds=5)
    """Between two samples of a job."""
    history: Annotated[int, Count(100, 100_000)] = 4000
    """Samples that are kept of one job; beyond, the older ones are thinned out."""


@dataclass(frozen=True, slots=True)
class UploadsConfig:
    """What callers may send along with jobs."""

    max_size: Annotated[int, Size(KIB, 16 * TIB)] = 64 * GIB
    """Of all files of one streamed upload; in a request ``rpc.max_message`` is the limit."""
    max_entries: Annotated[int, Count(1, 10_000_000)] = 100_000
    """Files and directories of one job."""
    max_at_once: Annotated[int, Count(1, 1000)] = 16
    """Streams."""
    idle_timeout: Annotated[timedelta, Duration(timedelta(seconds=1), timedelta(hours=1))] = timedelta(
        seconds=30
    )
    """Between two pieces of a stream."""
    keep_for: Annotated[timedelta, Duration(timedelta(seconds=1), timedelta(days=1))] = timedelta(minutes=1)
    """From the end of a stream until a job must have taken the files."""


@dataclass(frozen=True, slots=True)
class HooksConfig:
    """What systemd starts when something happens to jobs."""

    on_failure: Annotated[str, Word("a service unit, or nothing", _HOOK)] = ""
    """Unit for each job that fails; ``x@.service`` gets the job's UUID as its instance."""


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """How long ended jobs stay; whichever limit is reached first lets one go."""

    keep_ended: Annotated[int, Count(0, 10_000_000)] = 100_000
    keep_for: Annotated[timedelta, Duration(timedelta(minutes=1), _FOREVER)] = timedelta(days=30)
    keep_work: Annotated[bool, Switch()] = True
    """Keep what jobs have left in ``/work``."""
    work_for: Annotated[timedelta, Duration(timedelta(seconds=1), _FOREVER)] = timedelta(days=7)
    work_size: Annotated[int, Size(0, 1024 * TIB)] = 10 * GIB
    """Of all kept work directories together; those of the jobs that ended first go first."""


@dataclass(frozen=True, slots=True)
class SchedulesConfig:
    """How much there may be to start later."""

    max_jobs: Annotated[int, Count(0, 10_000)] = 1000
    """Jobs that wait for their start time; each has a timer in systemd."""
    max_recurring: Annotated[int, Count(0, 10_000)] = 500
    """Recurring schedules; likewise."""


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Limits of the API."""

    max_message: Annotated[int, Size(64 * KIB, GIB)] = 128 * MIB
    max_concurrent: Annotated[int, Count(1, 100_000)] = 1000
    """Calls that are served at once, streams included."""
    max_per_client: Annotated[int, Count(1, 100_000)] = 500
    """Of them those of one name in a certificate, and those over one local socket."""
    reflection: Annotated[bool, Switch("yes", "no")] = False
    """Tell admins of services and messages, as gRPC defines it."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The whole configuration."""

    state_dir: Annotated[Path, AbsolutePath()] = Path("/var/lib/joblet")
    run_dir: Annotated[Path, AbsolutePath()] = Path("/run/joblet")
    socket: SocketConfig = field(default_factory=SocketConfig)
    sockets: SocketsConfig = field(default_factory=SocketsConfig)
    listener: ListenerConfig = field(default_factory=ListenerConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    viewer: ViewerConfig = field(default_factory=ViewerConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    profiles: ProfilesConfig = field(default_factory=ProfilesConfig)
    logs: LogsConfig = field(default_factory=LogsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    uploads: UploadsConfig = field(default_factory=UploadsConfig)
    schedules: SchedulesConfig = field(default_factory=SchedulesConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)
    rpc: RpcConfig = field(default_factory=RpcConfig)
    log_level: Annotated[LogLevel, OneOf(LogLevel)] = LogLevel.INFO
