"""Every key of the configuration, with its rule and its default. A field's name is its key in the file.

Values are frozen for all but a reload (live.py), which changes them in place: whoever holds a section reads
from it what counts now. Keys marked RESTART keep their value until the agent is started again.

``units/agent.yml`` tells people the same; tests/unit/config holds the two together.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated

from joblet_agent.config.address_rules import Hosts, Range4, Range6
from joblet_agent.config.rules import (
    RESTART,
    AbsolutePath,
    Count,
    Duration,
    OneOf,
    Size,
    Switch,
    Word,
)
from joblet_agent.config.web_rules import WebAddress
from joblet_agent.cpu_list import MOST_CPUS
from joblet_agent.model.identity import Role
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.profile import Profile
from joblet_agent.model.resources import INT32_MAX, LEAST_TASKS, MOST_TASKS
from joblet_agent.model.workspace import MOST_WORK
from joblet_agent.units import GIB, KIB, LARGEST_SIZE, LONGEST_TIME, MIB, TIB

# sun_path holds 108 bytes, one of them for the NUL; unix(7).
_SOCKET_PATH_BYTES = 107
_GROUP = r"[a-z_][a-z0-9_-]{0,31}"
_NETWORK = r"[A-Za-z0-9_-]{1,15}"
_HOOK = r"(?:[A-Za-z0-9:_.-]{1,150}@?\.service)?"
_BRIDGE_RANGE, _ISOLATED_RANGE = IPv4Network("172.20.0.0/16"), IPv4Network("10.255.0.0/16")
_FOREVER = timedelta(days=36500)
MOST_VOLUMES = 10_000


class LogLevel(StrEnum):
    """How much the agent tells of itself."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class SocketConfig:
    """The local way in."""

    path: Annotated[Path, AbsolutePath(_SOCKET_PATH_BYTES), RESTART] = Path("/run/joblet/agent.sock")
    group: Annotated[str, Word("a group's name", _GROUP), RESTART] = "joblet"
    """Members may do everything, as root may."""


@dataclass(frozen=True, slots=True)
class RoleSocketConfig:
    """A further local way in, whose callers have one role."""

    path: Annotated[Path | None, AbsolutePath(_SOCKET_PATH_BYTES, may_be_empty=True), RESTART] = None
    """None: there is no such socket."""
    group: Annotated[str, Word("a group's name", _GROUP), RESTART] = "root"


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

    enabled: Annotated[Listening, OneOf(Listening), RESTART] = Listening.AUTO
    address: Annotated[str, Word("an IP address", r"[0-9A-Fa-f.:]{2,45}"), RESTART] = "0.0.0.0"  # noqa: S104 - as published
    port: Annotated[int, Count(1, 65535), RESTART] = 50051
    max_connections: Annotated[int, Count(16, 30_000), RESTART] = 2000
    """Connections that there are at once; beyond, those that nobody uses are closed."""
    handshake_timeout: Annotated[timedelta, Duration(timedelta(seconds=1), timedelta(minutes=2)), RESTART] = (
        timedelta(seconds=10)
    )
    """From the connection to the end of the handshakes of TLS and HTTP/2."""
    idle_timeout: Annotated[timedelta, Duration(timedelta(seconds=10), timedelta(days=1)), RESTART] = (
        timedelta(minutes=15)
    )
    """Until a connection without a call is closed."""


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Certificates."""

    directory: Annotated[Path, AbsolutePath(), RESTART] = Path("/etc/joblet/pki")
    names: Annotated[tuple[str, ...], Hosts()] = ()
    """In the agent's certificate, besides what the host is called; names of DNS, and addresses."""


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
    default_network: Annotated[str, Word("a network's name", _NETWORK)] = BuiltIn.BRIDGE.value
    default_profile: Annotated[Profile, OneOf(Profile)] = Profile.DEFAULT
    """Isolation of a job that asks for none."""
    uid_first: Annotated[int, Count(65536, 2**32 - 3), RESTART] = 1879048192
    """First of the host uids and gids that jobs run under, one each."""
    uid_count: Annotated[int, Count(1, 2**31), RESTART] = 65536
    project_first: Annotated[int, Count(1, 2**32 - 2), RESTART] = 1879048192
    """First of the project ids that limit work directories, one each as long as it is there."""
    project_count: Annotated[int, Count(1, 2**31), RESTART] = 1048576
    start_parallelism: Annotated[int, Count(1, 1000), RESTART] = 24
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
    work_size: Annotated[int, Size(0, MOST_WORK)] = 0
    """Bytes in ``/work``."""


@dataclass(frozen=True, slots=True)
class DefaultsConfig(MaximaConfig):
    """What a job gets that asks for nothing; zero is no limit."""

    max_tasks: Annotated[int, Count(LEAST_TASKS, MOST_TASKS)] = 4096
    work_size: Annotated[int, Size(0, MOST_WORK)] = 20 * GIB
    """Only where the file system of ``state_dir`` has project quotas."""


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


class HostNetwork(StrEnum):
    """Whose jobs may be on the host's own network."""

    NOBODY = "nobody"
    ADMIN = "admin"
    OPERATOR = "operator"
    """Operators and admins."""

    def allows(self, role: str) -> bool:
        """Say whether jobs of the role may; an empty role is nobody's."""
        match self:
            case HostNetwork.NOBODY:
                return False
            case HostNetwork.ADMIN:
                return role == Role.ADMIN
            case HostNetwork.OPERATOR:
                return role in {Role.ADMIN, Role.OPERATOR}


@dataclass(frozen=True, slots=True)
class NetworksConfig:
    """Which networks there are, and what jobs may do with them."""

    bridge: Annotated[IPv4Network, Range4(8, 24), RESTART] = _BRIDGE_RANGE
    """Addresses of the network ``bridge``."""
    isolated: Annotated[IPv4Network, Range4(8, 24), RESTART] = _ISOLATED_RANGE
    """Addresses of the network ``isolated``."""
    ula: Annotated[IPv6Network | None, Range6(48), RESTART] = None
    """IPv6 addresses of all networks; None: a random unique local range that stays."""
    custom: Annotated[bool, Switch()] = True
    """Networks that admins make."""
    max_custom: Annotated[int, Count(0, 1000)] = 50
    publish: Annotated[bool, Switch()] = True
    """Ports of the host that lead to jobs."""
    host: Annotated[HostNetwork, OneOf(HostNetwork)] = HostNetwork.NOBODY
    """Whose jobs may be on the host's own network."""


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

    enabled: Annotated[bool, Switch(), RESTART] = True
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


class FilesystemBacking(StrEnum):
    """What holds volumes of the type filesystem to their size."""

    AUTO = "auto"
    """Project quotas where there are any, else images."""
    QUOTA = "quota"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class VolumesConfig:
    """Storage that outlives jobs."""

    enabled: Annotated[bool, Switch()] = True
    """There are volumes: off, none is made, and no job starts with one."""
    most: Annotated[int, Count(0, MOST_VOLUMES)] = 200
    """Volumes that there may be."""
    max_size: Annotated[int, Size(0, 1024 * TIB)] = 0
    """Of one; 0 for no maximum."""
    filesystem: Annotated[FilesystemBacking, OneOf(FilesystemBacking)] = FilesystemBacking.AUTO
    uid_first: Annotated[int, Count(65536, 2**32 - 3), RESTART] = 1879113728
    """First of the host uids and gids of volumes, one each."""
    project_first: Annotated[int, Count(1, 2**32 - 2), RESTART] = 1880096768
    """First of the project ids of volumes, one each."""


class Trust(StrEnum):
    """What must vouch for a runtime that is installed from an index."""

    SIGNATURE = "signature"
    """A signature of the index by a key in ``keys``, and the digests in it."""
    DIGEST = "digest"
    """The digest of the archive in the index."""
    NONE = "none"
    """Nothing, where the index is a file of this host; elsewhere as DIGEST."""


@dataclass(frozen=True, slots=True)
class MirrorsConfig:
    """Where builds of runtimes get packages; empty: where the tools look by themselves."""

    debian: Annotated[str, WebAddress()] = ""
    debian_security: Annotated[str, WebAddress()] = ""
    ubuntu: Annotated[str, WebAddress()] = ""
    pip_index: Annotated[str, WebAddress()] = ""
    npm_registry: Annotated[str, WebAddress()] = ""


@dataclass(frozen=True, slots=True)
class RuntimesConfig:
    """Root file systems with a language in them, for jobs."""

    registry: Annotated[str, WebAddress(may_be_file=True)] = ""
    """Where runtimes are installed from unless a caller names another place; empty: nowhere."""
    require: Annotated[Trust, OneOf(Trust)] = Trust.DIGEST
    keys: Annotated[Path, AbsolutePath()] = Path("/etc/joblet/runtime-keys")
    """Directory with the keys whose signatures count."""
    proxy: Annotated[str, WebAddress(is_proxy=True)] = ""
    """For whatever runtimes are built and installed from; empty: none."""
    no_proxy: Annotated[tuple[str, ...], Hosts()] = ()
    """Names and addresses that are reached without it."""
    max_size: Annotated[int, Size(MIB, 16 * TIB)] = 20 * GIB
    """Of one: its archive, and its files."""
    mirrors: MirrorsConfig = field(default_factory=MirrorsConfig)
    ca_file: Annotated[Path | None, AbsolutePath(may_be_empty=True)] = None
    """Certificates that builds and installations trust, instead of those that the host trusts."""
    auth_file: Annotated[Path | None, AbsolutePath(may_be_empty=True)] = None
    """Credentials for registries of images, containers-auth.json(5)."""
    collect_every: Annotated[timedelta, Duration(timedelta(0), _FOREVER)] = timedelta(days=1)
    """How often files go that no runtime and no job needs any more; zero: only when somebody says so."""
    max_builds: Annotated[int, Count(1, 100)] = 1
    """Builds at once; others wait."""
    max_disk: Annotated[int, Size(64 * MIB, 16 * TIB)] = 8 * GIB
    """Of one build, what it throws away again included."""
    max_time: Annotated[timedelta, Duration(timedelta(minutes=1), timedelta(days=7))] = timedelta(hours=1)
    """Of one build."""


@dataclass(frozen=True, slots=True)
class HooksConfig:
    """What systemd starts when something happens to jobs."""

    on_failure: Annotated[str, Word("a service unit, or nothing", _HOOK)] = ""
    """Unit for each job that fails; ``x@.service`` gets the job's UUID as its instance."""


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """How long what has ended stays; whichever limit is reached first lets a job or a workflow go."""

    keep_ended: Annotated[int, Count(0, 10_000_000)] = 100_000
    keep_workflows: Annotated[int, Count(0, 100_000)] = 1000
    """Those that have ended; their jobs go by the limits of jobs, which may be earlier."""
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
class WorkflowsConfig:
    """How much there may be of workflows."""

    max_active: Annotated[int, Count(0, 10_000)] = 500
    """Workflows that have not ended."""
    max_outputs: Annotated[int, Size(0, 16 * TIB)] = 100 * MIB
    """Of the files that one job leaves to others."""


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Limits of the API."""

    max_message: Annotated[int, Size(64 * KIB, GIB), RESTART] = 128 * MIB
    max_metadata: Annotated[int, Size(8 * KIB, 16 * MIB), RESTART] = 64 * KIB
    """Headers of one call."""
    request_timeout: Annotated[timedelta, Duration(timedelta(seconds=1), timedelta(hours=1))] = timedelta(
        minutes=2
    )
    """From the beginning of a call until its request has arrived."""
    max_concurrent: Annotated[int, Count(1, 100_000), RESTART] = 1000
    """Calls that are served at once, streams included."""
    max_per_client: Annotated[int, Count(1, 100_000)] = 500
    """Of them those of one name in a certificate, and those over one local socket."""
    reflection: Annotated[bool, Switch("yes", "no"), RESTART] = False
    """Tell admins of services and messages, as gRPC defines it."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """The whole configuration."""

    state_dir: Annotated[Path, AbsolutePath(), RESTART] = Path("/var/lib/joblet")
    run_dir: Annotated[Path, AbsolutePath(), RESTART] = Path("/run/joblet")
    socket: SocketConfig = field(default_factory=SocketConfig)
    sockets: SocketsConfig = field(default_factory=SocketsConfig)
    listener: ListenerConfig = field(default_factory=ListenerConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)
    viewer: ViewerConfig = field(default_factory=ViewerConfig)
    jobs: JobsConfig = field(default_factory=JobsConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    profiles: ProfilesConfig = field(default_factory=ProfilesConfig)
    networks: NetworksConfig = field(default_factory=NetworksConfig)
    logs: LogsConfig = field(default_factory=LogsConfig)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    uploads: UploadsConfig = field(default_factory=UploadsConfig)
    schedules: SchedulesConfig = field(default_factory=SchedulesConfig)
    workflows: WorkflowsConfig = field(default_factory=WorkflowsConfig)
    volumes: VolumesConfig = field(default_factory=VolumesConfig)
    runtimes: RuntimesConfig = field(default_factory=RuntimesConfig)
    hooks: HooksConfig = field(default_factory=HooksConfig)
    rpc: RpcConfig = field(default_factory=RpcConfig)
    log_level: Annotated[LogLevel, OneOf(LogLevel)] = LogLevel.INFO
