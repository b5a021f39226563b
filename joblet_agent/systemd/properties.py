"""The table of unit properties: what a job becomes, with the option and the man page of each.

Pure: no bus, no files. Values have the shape that ``StartTransientUnit`` wants
(org.freedesktop.systemd1(5)); durations are microseconds, sizes bytes. How far a job is kept apart
from the host is in tables of its own: sandbox.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Final

from joblet_agent.config import AgentConfig
from joblet_agent.model.gpu import LIBRARIES
from joblet_agent.model.job import JobId
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.profile import Profile
from joblet_agent.model.workspace import most_files
from joblet_agent.ports import CREDENTIALS_DIRECTORY, LaunchPlan, PlacedVolume
from joblet_agent.systemd.limits import limit_properties
from joblet_agent.systemd.names import AGENT_UNIT, control_group, slice_of
from joblet_agent.systemd.property import Property, Value, line_text
from joblet_agent.systemd.sandbox import PRIVILEGED_WORD, sandbox

LAUNCHER_HOME: Final = "/usr/lib/joblet"
LAUNCHER: Final = f"{LAUNCHER_HOME}/joblet-launch"
ENVIRONMENT_PREFIX: Final = "JOBLET_ENV_"
ARGUMENT_PREFIX: Final = "JOBLET_ARG_"
DIRECTORY_VARIABLE: Final = "JOBLET_DIR"
LAUNCH_VARIABLE: Final = "JOBLET_LAUNCH"
_PLACE_OPTIONS: Final = "ro,size=64k,mode=755,nosuid,nodev,noexec"


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What is the same for every job of this agent."""

    config: AgentConfig
    systemd_version: int = 0
    host_namespaces: tuple[str, ...] = ()
    """Namespaces (``net:[4026531840]``) that no job may be in; the launcher looks."""
    cgroup_root: str = ""
    """The Manager's ControlGroup property: where systemd's control groups begin."""
    has_user_records: bool = False
    """The host finds the users of jobs (users.py), so that units can have User=."""

    @property
    def stop_grace(self) -> timedelta:
        """Return the time from a job's stop signal to its kill."""
        return self.config.jobs.stop_grace

    @property
    def max_tasks(self) -> int:
        """Return the limit of a job whose record tells none: an agent without such limits wrote it."""
        return self.config.limits.default.max_tasks

    @property
    def tmp_size(self) -> int:
        """Return the bytes of a job's ``/tmp`` and ``/dev/shm``, each."""
        return self.config.jobs.tmp_size

    @property
    def on_failure(self) -> str:
        """Return the unit that systemd starts when a job's unit fails; empty for none."""
        return self.config.hooks.on_failure


def unit_properties(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    """Return the properties of the job's unit, in the order they are told to people."""
    return [
        *_service(plan),
        *_hooks(plan.job_id, settings),
        *_command(plan, settings),
        *_files(plan, settings),
        *_limits(plan, settings),
        *_devices(plan),
        *sandbox(plan.profile, plan.spec.network, plan.namespace, has_runtime=plan.runtime is not None),
    ]


def _service(plan: LaunchPlan) -> list[Property]:
    name = line_text(plan.spec.name)
    marks: list[Value] = [f"JOBLET_JOB_ID={plan.job_id}".encode()]
    return [
        Property("Description", "s", f"Joblet job {name or plan.job_id[:8]}", "--name", "systemd.unit(5)"),
        Property("Type", "s", "exec", "the reply of a run comes after execve", "systemd.service(5)"),
        Property("RemainAfterExit", "b", True, "the result stays until it is stored", "systemd.service(5)"),
        slice_property(plan),
        # Ordering only: at shutdown the jobs stop before the agent, which can still record them.
        Property("After", "as", [AGENT_UNIT], "jobs stop before the agent at shutdown", "systemd.unit(5)"),
        Property("SyslogIdentifier", "s", name or "joblet", "--name", "systemd.exec(5)"),
        Property("LogExtraFields", "aay", marks, "journalctl JOBLET_JOB_ID=…", "systemd.exec(5)"),
    ]


def slice_property(plan: LaunchPlan) -> Property:
    """Return the slice that the job's unit and those of commands in it are in."""
    origin = "jobs of a workflow are in one slice" if plan.workflow_id else "one place for all jobs"
    return Property("Slice", "s", slice_of(plan.workflow_id), origin, "systemd.resource-control(5)")


def hook_unit(job_id: JobId, settings: UnitSettings) -> str:
    """Return the unit to start when the job fails; empty for none."""
    return settings.on_failure.replace("@.", f"@{job_id}.")


def _hooks(job_id: JobId, settings: UnitSettings) -> list[Property]:
    if not settings.on_failure:
        return []
    return [Property("OnFailure", "as", [hook_unit(job_id, settings)], "hooks.on_failure", "systemd.unit(5)")]


def _command(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    return [
        *_user(plan, settings),
        # Not the command itself: at a reload PID 1 reads the line again from the unit's file, which holds
        # 1 MiB at most, and 252 does not read back what it wrote for some arguments. The drop-in of all jobs
        # (units/joblet-job-.service.d) has the same with the prefix "!".
        Property(
            "ExecStart", "a(sasb)", [[LAUNCHER, [LAUNCHER], False]], "COMMAND [ARG…]", "systemd.service(5)"
        ),
        # Not Environment=: every local user reads that over D-Bus, and a line of the transient unit
        # file holds 1 MiB at most. PID 1 reads the file when it starts the job; then it is removed.
        Property(
            "EnvironmentFiles",
            "a(sb)",
            [[str(plan.environment_file), False]],
            "COMMAND [ARG…], --env, --workdir",
            "systemd.exec(5)",
        ),
        Property("StandardInput", "s", "null", "jobs have empty input", "systemd.exec(5)"),
        Property("StandardOutputFileToAppend", "s", str(plan.log), "rnx log", "systemd.exec(5)"),
        # The launcher's own complaints; the command's standard error is its standard output.
        Property(
            "StandardErrorFileToAppend", "s", str(plan.launch_report), "why a start failed", "systemd.exec(5)"
        ),
        Property("IgnoreSIGPIPE", "b", False, "pipes end as in a shell", "systemd.exec(5)"),
        Property("UMask", "u", 0o022, "new files as in a shell", "systemd.exec(5)"),
    ]


def launcher_words(plan: LaunchPlan, settings: UnitSettings) -> list[str]:
    """Return what the launcher is told besides the command: how far to go down, and what to check."""
    user = str(plan.uid)
    forbidden = settings.host_namespaces
    if plan.spec.network == BuiltIn.HOST:
        forbidden = tuple(each for each in forbidden if not each.startswith("net:"))
    groups = [f"+{group}" for group in plan.groups]
    words = [user, user, str(1 + len(plan.spec.args)), *forbidden, *groups]
    return [*words, PRIVILEGED_WORD] if plan.profile is Profile.PRIVILEGED else words


def says_user(plan: LaunchPlan, settings: UnitSettings) -> bool:
    """Say whether the unit has User=: where the host knows the user."""
    return bool(plan.uid and settings.has_user_records)


def _user(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    if not says_user(plan, settings):
        return []
    return [Property("User", "s", str(plan.uid), "a user of its own", "systemd.exec(5)")]


def _files(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    own_group = control_group(plan.job_id, settings.cgroup_root, plan.workflow_id)
    # The control group for the launcher, which takes it away before the command begins. A start does not
    # depend on it: without it the final figures are less complete.
    programs: Value = ["/usr", "/usr", False, 0]
    if plan.kit is not None:
        programs = [str(plan.kit), LAUNCHER_HOME, False, 0]
    read_only: list[Value] = [programs, [str(own_group), "/mnt", True, 0]]
    if plan.credentials is not None:
        # Not LoadCredential=: what it makes is readable by the unit's user alone, which is the launcher's
        # root, and not by the user that the launcher turns into.
        read_only.append([str(plan.credentials), CREDENTIALS_DIRECTORY, False, 0])
    if plan.resolver is not None:
        read_only.append([str(plan.resolver), "/etc/resolv.conf", True, 0])
    read_only += _gpu_mounts(plan)
    written: list[Value] = []
    for volume in plan.volumes:
        shown: Value = [str(volume.source), volume.target, False, 0]
        (read_only if volume.is_read_only else written).append(shown)
    small = _tmpfs(settings.tmp_size, "mode=1777")
    memory: list[Value] = [["/tmp", small], ["/dev/shm", small]]  # noqa: S108
    if plan.spec.work_in_memory:
        rights = f"mode=755,uid={plan.uid},gid={plan.uid}"
        memory.append(["/work", _tmpfs(plan.spec.resources.work_size, rights)])
    # The root is shared by all jobs: without these, systemd would make the directories there.
    memory += [[place, _PLACE_OPTIONS] for place in _places(plan.volumes)]
    if plan.gpus is not None and plan.runtime is not None:
        memory.append([LIBRARIES, _PLACE_OPTIONS])
    properties = [
        Property("RootDirectory", "s", str(plan.root), _origin_of_root(plan), "systemd.exec(5)"),
        Property("MountAPIVFS", "b", True, "own /proc, /dev, /run", "systemd.exec(5)"),
        Property(
            "BindReadOnlyPaths",
            "a(ssbt)",
            read_only,
            ("the host's programs" if plan.kit is None else "the launcher")
            + "; final figures"
            + ("; --secret-file" if plan.credentials else "")
            + (f"; --network={plan.spec.network}" if plan.resolver else "")
            + ("; --volume" if len(written) < len(plan.volumes) else "")
            + ("; --gpu" if plan.gpus else ""),
            "systemd.exec(5)",
        ),
        Property(
            "TemporaryFileSystem",
            "a(ss)",
            memory,
            "jobs.tmp_size, --work-size" + ("; --volume" if plan.volumes else ""),
            "systemd.exec(5)",
        ),
        Property("ProtectSystem", "s", "strict", "the root is read-only", "systemd.exec(5)"),
    ]
    # "+": below RootDirectory=. Not for memory: it would take the place of the TemporaryFileSystem=.
    paths: list[Value] = [f"+{volume.target}" for volume in plan.volumes if not volume.is_read_only]
    if not plan.spec.work_in_memory:
        written.insert(0, [str(plan.work), "/work", False, 0])
        paths.insert(0, "+/work")
    if written:
        origin = "; --volume" if plan.volumes else ""
        properties += [
            Property("BindPaths", "a(ssbt)", written, "the job's own files" + origin, "systemd.exec(5)"),
            Property("ReadWritePaths", "as", paths, "what a job may write to", "systemd.exec(5)"),
        ]
    if settings.systemd_version >= 257:  # noqa: PLR2004 - 257 began to mount journald's sockets into roots
        properties.append(
            Property("BindLogSockets", "b", False, "no forged journal records", "systemd.exec(5)")
        )
    return properties


def _gpu_mounts(plan: LaunchPlan) -> list[Value]:
    """Return the nodes, and the driver's libraries; without a runtime these are in the host's /usr."""
    gpus = plan.gpus
    if gpus is None:
        return []
    mounts = [(node.host, node.target) for node in gpus.nodes]
    if plan.runtime is not None:
        mounts += [(host, f"{LIBRARIES}/{name}") for host, name in gpus.libraries]
    return [[source, target, False, 0] for source, target in mounts]


def _devices(plan: LaunchPlan) -> list[Property]:
    if plan.gpus is None or plan.profile is Profile.PRIVILEGED:  # which may use every device already
        return []
    allowed: list[Value] = [[node.host, "rw"] for node in plan.gpus.nodes]
    manual = "systemd.resource-control(5)"
    return [
        Property("DevicePolicy", "s", "closed", "--gpu: the job's own and no others", manual),
        Property("DeviceAllow", "a(ss)", allowed, "--gpu", manual),
    ]


def _origin_of_root(plan: LaunchPlan) -> str:
    runtime = plan.runtime
    if runtime is None:
        return "jobs see a root of their own"
    return f"--runtime={plan.spec.runtime or runtime}: {runtime}, sha256:{runtime.digest}"


def _places(volumes: Sequence[PlacedVolume]) -> list[str]:
    """Return the directories in which the volumes get theirs."""
    targets = [PurePosixPath(volume.target) for volume in volumes]
    tops = {"/var/lib" if target.is_relative_to("/var/lib") else f"/{target.parts[1]}" for target in targets}
    return sorted(tops - {str(target) for target in targets})


def _tmpfs(size: int, rights: str) -> str:
    # Inodes are memory, too: left alone, an eighth of the host's for each mount.
    return f"size={size},nr_inodes={most_files(size)},{rights},nosuid,nodev"


def _limits(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    grace_usec = int(settings.stop_grace / timedelta(microseconds=1))
    resources = plan.spec.resources
    resources = replace(resources, max_tasks=resources.max_tasks or settings.max_tasks)
    return [
        Property("TimeoutStopUSec", "t", grace_usec, "jobs.stop_grace", "systemd.service(5)"),
        Property("KillMode", "s", "control-group", "a stop reaches every process", "systemd.kill(5)"),
        # The other controllers are counted by default.
        Property("MemoryAccounting", "b", True, "final figures", "systemd.resource-control(5)"),
        Property("IOAccounting", "b", True, "final figures", "systemd.resource-control(5)"),
        Property("OOMPolicy", "s", "kill", "a job out of memory ends as a whole", "systemd.service(5)"),
        Property("LimitCORE", "t", 0, "memory of jobs is not written to disk", "systemd.exec(5)"),
        *limit_properties(resources, plan.disks),
    ]
