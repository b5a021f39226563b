"""The table of unit properties: what a job becomes, with the option and the man page of each.

Pure: no bus, no files. Values have the shape that ``StartTransientUnit`` wants
(org.freedesktop.systemd1(5)); durations are microseconds, sizes bytes. How far a job is kept apart
from the host is in tables of its own: sandbox.py.
"""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from joblet_agent.model.job import JobId
from joblet_agent.model.profile import Profile
from joblet_agent.ports import CREDENTIALS_DIRECTORY, LaunchPlan
from joblet_agent.systemd.limits import limit_properties
from joblet_agent.systemd.names import AGENT_UNIT, JOBS_SLICE, control_group
from joblet_agent.systemd.property import Property, Value
from joblet_agent.systemd.sandbox import PRIVILEGED_WORD, sandbox

LAUNCHER: Final = "/usr/lib/joblet/joblet-launch"
ENVIRONMENT_PREFIX: Final = "JOBLET_ENV_"
ARGUMENT_PREFIX: Final = "JOBLET_ARG_"

_BYTES_PER_INODE: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class UnitSettings:
    """What is the same for every job of this agent."""

    systemd_version: int
    stop_grace: timedelta
    max_tasks: int
    """Of a job whose record tells none: an agent without such limits wrote it."""
    tmp_size: int
    """Bytes of a job's ``/tmp`` and ``/dev/shm``, each."""
    host_namespaces: tuple[str, ...] = ()
    """Namespaces (``net:[4026531840]``) that no job may be in; the launcher looks."""
    cgroup_root: str = ""
    """The Manager's ControlGroup property: where systemd's control groups begin."""
    on_failure: str = ""
    """Unit that systemd starts when a job's unit fails; empty for none."""


def unit_properties(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    """Return the properties of the job's unit, in the order they are told to people."""
    return [
        *_service(plan),
        *_hooks(plan.job_id, settings),
        *_command(plan, settings),
        *_files(plan, settings),
        *_limits(plan, settings),
        *sandbox(plan.profile),
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


def hook_unit(job_id: JobId, settings: UnitSettings) -> str:
    """Return the unit to start when the job fails; empty for none."""
    return settings.on_failure.replace("@.", f"@{job_id}.")


def _hooks(job_id: JobId, settings: UnitSettings) -> list[Property]:
    if not settings.on_failure:
        return []
    return [Property("OnFailure", "as", [hook_unit(job_id, settings)], "hooks.on_failure", "systemd.unit(5)")]


def _command(plan: LaunchPlan, settings: UnitSettings) -> list[Property]:
    count = 1 + len(plan.spec.args)
    argv: list[Value] = [LAUNCHER, str(plan.uid), str(plan.uid), str(count), *settings.host_namespaces]
    if plan.profile is Profile.PRIVILEGED:
        argv.append(PRIVILEGED_WORD)
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
    own_group = control_group(plan.job_id, settings.cgroup_root)
    # The control group for the launcher, which takes it away before the command begins. A start does not
    # depend on it: without it the final figures are less complete.
    read_only: list[Value] = [["/usr", "/usr", False, 0], [str(own_group), "/mnt", True, 0]]
    if plan.credentials is not None:
        # Not LoadCredential=: what it makes is readable by the unit's user alone, which is the launcher's
        # root, and not by the user that the launcher turns into.
        read_only.append([str(plan.credentials), CREDENTIALS_DIRECTORY, False, 0])
    # Inodes are memory, too: left alone, an eighth of the host's. So many as mke2fs(8) would make.
    inodes = settings.tmp_size // _BYTES_PER_INODE
    small = f"size={settings.tmp_size},nr_inodes={inodes},mode=1777,nosuid,nodev"
    memory: list[Value] = [["/tmp", small], ["/dev/shm", small]]  # noqa: S108
    if plan.spec.work_size:  # without project quotas nothing else limits one directory
        own = f"size={plan.spec.work_size},mode=755,uid={plan.uid},gid={plan.uid},nosuid,nodev"
        memory.append(["/work", own])
    properties = [
        Property("RootDirectory", "s", str(plan.root), "jobs see a root of their own", "systemd.exec(5)"),
        Property("MountAPIVFS", "b", True, "own /proc, /dev, /run", "systemd.exec(5)"),
        Property(
            "BindReadOnlyPaths",
            "a(ssbt)",
            read_only,
            "the host's programs; final figures" + ("; --secret-file" if plan.credentials else ""),
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
    ]
    if not plan.spec.work_size:
        properties += [
            Property(
                "BindPaths",
                "a(ssbt)",
                [[str(plan.work), "/work", False, 0]],
                "the job's own files",
                "systemd.exec(5)",
            ),
            # "+": below RootDirectory=. Not for memory: it would take the place of the TemporaryFileSystem=.
            Property("ReadWritePaths", "as", ["+/work"], "what a job may write to", "systemd.exec(5)"),
        ]
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
