"""The table of unit properties: what a job becomes, with the option and the man page of each.

Pure: no bus, no files. Values have the shape that ``StartTransientUnit`` wants
(org.freedesktop.systemd1(5)); durations are microseconds, sizes bytes.

What costs a start its time is mounts and seccomp (measured, docs/performance.md), so the sandbox
hides by not mounting: the root is a skeleton directory with the host's ``/usr`` in it, and what is
not there needs no ``Protect…``.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.limits import limit_properties
from joblet_agent.systemd.names import AGENT_UNIT, JOBS_SLICE
from joblet_agent.systemd.property import Property, Value

LAUNCHER: Final = "/usr/lib/joblet/joblet-launch"
ENVIRONMENT_PREFIX: Final = "JOBLET_ENV_"
ARGUMENT_PREFIX: Final = "JOBLET_ARG_"

_CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP, _CAP_SYS_ADMIN = 1 << 6, 1 << 7, 1 << 8, 1 << 21
_CLONE_NEWNS, _CLONE_NEWPID = 0x0002_0000, 0x2000_0000

_DENIED_SYSTEM_CALLS: Final[list[Value]] = [
    "@clock",
    "@cpu-emulation",
    "@debug",
    "@keyring",
    "@module",
    "@obsolete",
    "@raw-io",
    "@reboot",
    "@swap",
    "acct",
    "bpf",
    "chroot",
    "fanotify_init",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "open_by_handle_at",
    "quotactl",
    "setns",
    "syslog",
    "userfaultfd",
    "vhangup",
]


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What is the same for every job of this agent."""

    systemd_version: int
    stop_grace: timedelta
    max_tasks: int
    """Of a job whose record tells none: an agent without such limits wrote it."""
    tmp_size: int
    """Bytes of a job's ``/tmp`` and ``/dev/shm``, each."""


def unit_properties(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    """Return the properties of the job's unit, in the order they are told to people."""
    return [
        *_service(plan),
        *_command(plan),
        *_files(plan, settings),
        *_limits(plan, settings),
        *_namespaces(),
        *_privileges(settings),
    ]


def _service(plan: LaunchPlan) -> list[Property]:
    title = plan.spec.name or plan.job_id[:8]
    marks: list[Value] = [f"JOBLET_JOB_ID={plan.job_id}".encode()]
    return [
        Property("Description", "s", f"Joblet job {title}", "--name", "systemd.unit(5)"),
        Property("Type", "s", "exec", "the reply of a run comes after execve", "systemd.service(5)"),
        Property("RemainAfterExit", "b", True, "the result stays until it is stored", "systemd.service(5)"),
        Property("Slice", "s", JOBS_SLICE, "one place for all jobs", "systemd.resource-control(5)"),
        # Ordering only: at shutdown the jobs stop before the agent, which can still record them.
        Property("After", "as", [AGENT_UNIT], "jobs stop before the agent at shutdown", "systemd.unit(5)"),
        Property("SyslogIdentifier", "s", plan.spec.name or "joblet", "--name", "systemd.exec(5)"),
        Property("LogExtraFields", "aay", marks, "journalctl JOBLET_JOB_ID=…", "systemd.exec(5)"),
    ]


def _command(plan: LaunchPlan) -> list[Property]:
    count = 1 + len(plan.spec.args)
    argv: list[Value] = [LAUNCHER, str(plan.uid), str(plan.uid), str(count)]
    return [
        # Not the command itself: at a reload PID 1 reads the line again from the unit's file, which holds
        # 1 MiB at most, and 252 does not read back what it wrote for some arguments.
        Property("ExecStart", "a(sasb)", [[LAUNCHER, argv, False]], "COMMAND [ARG…]", "systemd.service(5)"),
        Property("WorkingDirectory", "s", plan.spec.work_dir or "/work", "--workdir", "systemd.exec(5)"),
        # Not Environment=: every local user reads that over D-Bus, and a line of the transient unit
        # file holds 1 MiB at most. PID 1 reads the file when it starts the job; then it is removed.
        Property(
            "EnvironmentFiles",
            "a(sb)",
            [[str(plan.environment_file), False]],
            "COMMAND [ARG…], --env",
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


def _files(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    small = f"size={settings.tmp_size},mode=1777,nosuid,nodev"
    memory: list[Value] = [["/tmp", small], ["/dev/shm", small]]  # noqa: S108
    work: list[Value] = [[str(plan.work), "/work", False, 0]]
    if plan.spec.work_size:  # without project quotas nothing else limits one directory
        own = f"size={plan.spec.work_size},mode=755,uid={plan.uid},gid={plan.uid},nosuid,nodev"
        memory, work = [*memory, ["/work", own]], []
    properties = [
        Property("RootDirectory", "s", str(plan.root), "jobs see a root of their own", "systemd.exec(5)"),
        Property("MountAPIVFS", "b", True, "own /proc, /dev, /run", "systemd.exec(5)"),
        Property(
            "BindReadOnlyPaths",
            "a(ssbt)",
            [["/usr", "/usr", False, 0]],
            "the host's programs",
            "systemd.exec(5)",
        ),
        Property(
            "TemporaryFileSystem",
            "a(ss)",
            memory,
            "jobs.tmp_size, --work-size",
            "systemd.exec(5)",
        ),
        Property("ProtectSystem", "s", "strict", "the root is read-only", "systemd.exec(5)"),
        # "+": below RootDirectory=
        Property("ReadWritePaths", "as", ["+/work"], "what a job may write to", "systemd.exec(5)"),
        Property("PrivateDevices", "b", True, "no devices of the host", "systemd.exec(5)"),
    ]
    if work:
        properties.append(Property("BindPaths", "a(ssbt)", work, "the job's own files", "systemd.exec(5)"))
    if settings.systemd_version >= 257:  # noqa: PLR2004 - 257 began to mount journald's sockets into roots
        properties.append(
            Property("BindLogSockets", "b", False, "no forged journal records", "systemd.exec(5)")
        )
    return properties


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


def _namespaces() -> list[Property]:
    return [
        Property("PrivateNetwork", "b", True, "--network=none", "systemd.exec(5)"),
        Property("PrivateIPC", "b", True, "own System V IPC and message queues", "systemd.exec(5)"),
        Property("ProtectHostname", "b", True, "own UTS namespace", "systemd.exec(5)"),
        Property(
            "RestrictNamespaces",
            "t",
            _CLONE_NEWNS | _CLONE_NEWPID,  # what the launcher makes; the command has no capability for more
            "PID namespace by the launcher, none by the job",
            "systemd.exec(5)",
        ),
    ]


def _privileges(settings: UnitSettings) -> list[Property]:
    return [
        Property("NoNewPrivileges", "b", True, "setuid programs gain nothing", "systemd.exec(5)"),
        Property(
            "CapabilityBoundingSet",
            "t",
            _CAP_SETGID | _CAP_SETUID | _CAP_SETPCAP | _CAP_SYS_ADMIN,
            "the launcher's, dropped before the command",
            "systemd.exec(5)",
        ),
        Property(
            "SystemCallArchitectures", "as", ["native"], "no second system call table", "systemd.exec(5)"
        ),
        Property(
            "SystemCallFilter",
            "(bas)",
            [False, _DENIED_SYSTEM_CALLS],
            "kernel interfaces jobs do not need",
            "systemd.exec(5)",
        ),
        Property("SystemCallErrorNumber", "i", 1, "denied calls fail with EPERM", "systemd.exec(5)"),
        Property(
            "RestrictAddressFamilies",
            "(bas)",
            [True, ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]],
            "no sockets that leave the network namespace",
            "systemd.exec(5)",
        ),
        Property("RestrictSUIDSGID", "b", True, "no setuid files", "systemd.exec(5)"),
        Property("RestrictRealtime", "b", True, "no scheduling above the host", "systemd.exec(5)"),
        Property("LockPersonality", "b", True, "no second ABI", "systemd.exec(5)"),
        Property("KeyringMode", "s", "private", "own kernel keyring", "systemd.exec(5)"),
    ]
