"""Units of the steps of builds (runtimes/build/step.py): the table of their properties. Pure.

There are two kinds, and neither has anything of the host but what is named here.

PACKAGES: a root with the host's programs and the little of its ``/etc`` that package tools read. setpriv(1)
turns into the user ``joblet-build`` (not User=: systemd 252 sets NoNewPrivileges where that comes with a
filter of system calls, and newuidmap(1) could not do its work). Nothing has a capability; the bounding set is
what newuidmap takes up. What would lie over parts of ``/proc`` is left out: the kernel lets nobody mount
another ``/proc``, in a user namespace, where something of this one is hidden.

TREE: the tree is the root, read-only but for /opt/runtime, and what runs there is ``joblet-build`` without
anything. No sockets of the type AF_UNIX: abstract ones belong to the network, which is the host's.

No PrivatePIDs=: systemd 257 loses the exit status of some commands with it (docs/architecture.md), and a step
that has failed would be one that went well.
"""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from joblet_agent.runtimes.build.step import CA_FILE, INPUTS, OUT, SPACE, BuildStep, StepKind
from joblet_agent.systemd.names import BUILDS_SLICE
from joblet_agent.systemd.property import Property, Value

BUILD_USER: Final = "joblet-build"
HOST_FILES: Final = (
    *("/etc/alternatives", "/etc/ca-certificates", "/etc/ca-certificates.conf", "/etc/debian_version"),
    *("/etc/dpkg", "/etc/group", "/etc/host.conf", "/etc/hosts", "/etc/ld.so.cache", "/etc/ld.so.conf"),
    *("/etc/ld.so.conf.d", "/etc/nsswitch.conf", "/etc/passwd", "/etc/resolv.conf", "/etc/ssl/certs"),
    *("/etc/ssl/openssl.cnf", "/etc/subgid", "/etc/subuid"),
)
"""Of the host's /etc, where it has them, in steps that install packages."""
HOST_DIRECTORIES: Final = (
    *("dev", "etc", "etc/ssl", "etc/apt", "etc/apt/apt.conf.d", "etc/apt/preferences.d", "proc", "root"),
    *("run", "sys", "tmp", "usr", "var", "var/lib", "var/lib/dpkg", "var/tmp", SPACE.strip("/")),
)
HOST_LINKS: Final = {
    **{name: f"usr/{name}" for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin")},
    "etc/os-release": "../usr/lib/os-release",
    "etc/mtab": "../proc/self/mounts",
}
"""The skeleton that is the root of such steps."""

_CAPABILITIES: Final = 1 << 1 | 1 << 6 | 1 << 7 | 1 << 21  # DAC_OVERRIDE, SETGID, SETUID, SYS_ADMIN
_NAMESPACES: Final = 0x0002_0000 | 0x0400_0000 | 0x0800_0000 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000
"""Mounts, host name, IPC, users, processes: those that mmdebstrap(1) makes; and network, for none."""
_SHELL: Final = ("/bin/sh", "-eu", f"{INPUTS}/step")
_SETPRIV: Final = (
    *("/usr/bin/setpriv", f"--reuid={BUILD_USER}", f"--regid={BUILD_USER}", "--clear-groups"),
    "--inh-caps=-all",
)
_TMP: Final[Value] = ["/tmp", f"size={1 << 28},nr_inodes=100k,mode=1777,nosuid,nodev"]  # noqa: S108
# systemd 252 lets everybody write to the /run that it makes for a unit, half of the memory.
_RUN: Final[Value] = ["/run", f"size={1 << 24},nr_inodes=10k,mode=755,nosuid,nodev"]
_TASKS: Final = 4096
_KEEPS_ITS_SOCKETS: Final = 257  # began to mount journald's sockets into roots


def step_properties(step: BuildStep, environment_file: Path, version: int) -> list[Property]:
    """Return the properties of a step's unit. ``version`` is systemd's."""
    kind = _packages(step) if step.kind is StepKind.PACKAGES else _tree(step)
    return [*_service(step, environment_file), *kind, *_newer(version)]


def _service(step: BuildStep, environment_file: Path) -> list[Property]:
    log = str(step.place.log(step.name))
    argv: list[Value] = [*_SETPRIV, *_SHELL] if step.kind is StepKind.PACKAGES else [*_SHELL]
    return [
        Property(
            "Description",
            "s",
            f"Joblet build {step.place.build_id[:12]}: {step.name}",
            "",
            "systemd.unit(5)",
        ),
        Property("Type", "s", "exec", "", "systemd.service(5)"),
        Property("RemainAfterExit", "b", True, "the result stays until it is read", "systemd.service(5)"),
        Property("Slice", "s", BUILDS_SLICE, "what builds take together", "systemd.resource-control(5)"),
        Property("ExecStart", "a(sasb)", [[argv[0], argv, False]], "", "systemd.service(5)"),
        # Not Environment=: every local user reads that over D-Bus.
        Property("EnvironmentFiles", "a(sb)", [[str(environment_file), False]], "", "systemd.exec(5)"),
        Property("StandardInput", "s", "null", "", "systemd.exec(5)"),
        Property("StandardOutputFileToAppend", "s", log, "", "systemd.exec(5)"),
        Property("StandardErrorFileToAppend", "s", log, "", "systemd.exec(5)"),
        Property("RuntimeMaxUSec", "t", _usec(step.deadline), "limits.time", "systemd.service(5)"),
        # Nothing of a build is worth a moment: what it leaves is thrown away.
        Property("KillSignal", "i", 9, "a stop is at once", "systemd.kill(5)"),
        Property("KillMode", "s", "control-group", "nothing outlives it", "systemd.kill(5)"),
        Property("TimeoutStopUSec", "t", 5_000_000, "", "systemd.service(5)"),
        Property("OOMPolicy", "s", "kill", "a build out of memory ends as a whole", "systemd.service(5)"),
        Property("OOMScoreAdjust", "i", 500, "builds go before jobs and services", "systemd.exec(5)"),
        Property("TasksMax", "t", _TASKS, "processes without end", "systemd.resource-control(5)"),
        # Of the user, in whatever namespace: also where TasksMax= cannot be enforced.
        Property("LimitNPROC", "t", _TASKS, "processes without end", "systemd.exec(5)"),
        Property("LimitCORE", "t", 0, "", "systemd.exec(5)"),
        Property("UMask", "u", 0o022, "", "systemd.exec(5)"),
        Property("IgnoreSIGPIPE", "b", False, "pipes end as in a shell", "systemd.exec(5)"),
        Property("KeyringMode", "s", "private", "", "systemd.exec(5)"),
        Property("MountAPIVFS", "b", True, "own /proc, /dev, /run", "systemd.exec(5)"),
        Property("ProtectSystem", "s", "strict", "", "systemd.exec(5)"),
        Property("PrivateDevices", "b", True, "", "systemd.exec(5)"),
        Property("PrivateIPC", "b", True, "", "systemd.exec(5)"),
        Property("PrivateNetwork", "b", not step.network, "limits.network", "systemd.exec(5)"),
        Property("ProtectHostname", "b", True, "", "systemd.exec(5)"),
        Property("ProtectClock", "b", True, "", "systemd.exec(5)"),
        Property("RestrictRealtime", "b", True, "", "systemd.exec(5)"),
        Property("LockPersonality", "b", True, "", "systemd.exec(5)"),
        Property(
            "RestrictAddressFamilies",
            "(bas)",
            [True, ["AF_INET", "AF_INET6", "AF_NETLINK"]],
            "no socket of the host's services, abstract ones included",
            "systemd.exec(5)",
        ),
        Property("SystemCallArchitectures", "as", ["native"], "", "systemd.exec(5)"),
        Property("SystemCallErrorNumber", "i", 1, "", "systemd.exec(5)"),
    ]


def _packages(step: BuildStep) -> list[Property]:
    place = step.place
    hosts: list[Value] = [_shown("/usr"), *(_shown(name, may_lack=True) for name in HOST_FILES)]
    hosts += _inputs(step)
    return [
        Property("RootDirectory", "s", str(place.host), "nothing else of the host", "systemd.exec(5)"),
        Property("BindReadOnlyPaths", "a(ssbt)", hosts, "", "systemd.exec(5)"),
        Property("BindPaths", "a(ssbt)", [[str(place.space), SPACE, False, 0]], "", "systemd.exec(5)"),
        Property("ReadWritePaths", "as", [f"+{SPACE}"], "the build's space", "systemd.exec(5)"),
        Property("TemporaryFileSystem", "a(ss)", [_TMP, _RUN], "", "systemd.exec(5)"),
        Property("CapabilityBoundingSet", "t", _CAPABILITIES, "newuidmap takes them", "systemd.exec(5)"),
        Property("NoNewPrivileges", "b", False, "newuidmap has the set-user-ID bit", "systemd.exec(5)"),
        Property("RestrictNamespaces", "t", _NAMESPACES, "those of mmdebstrap", "systemd.exec(5)"),
        Property(
            "SystemCallFilter",
            "(bas)",
            [True, ["@system-service", "@mount", "@setuid", "setns", "unshare"]],
            "",
            "systemd.exec(5)",
        ),
    ]


def _tree(step: BuildStep) -> list[Property]:
    place = step.place
    shown = [_shown(name, may_lack=True) for name in ("/etc/resolv.conf", "/etc/hosts")]
    shown += _inputs(step)
    written: list[Value] = ["+/opt/runtime"] if step.is_writable else []
    written.append(f"+{OUT}")
    return [
        Property("RootDirectory", "s", str(place.tree), "the tree that grows", "systemd.exec(5)"),
        Property("BindReadOnlyPaths", "a(ssbt)", shown, "", "systemd.exec(5)"),
        Property("BindPaths", "a(ssbt)", [[str(place.out), OUT, False, 0]], "", "systemd.exec(5)"),
        Property("ReadWritePaths", "as", written, "what the step may write to", "systemd.exec(5)"),
        Property("TemporaryFileSystem", "a(ss)", [_TMP, _RUN], "", "systemd.exec(5)"),
        Property("User", "s", BUILD_USER, "", "systemd.exec(5)"),
        Property("CapabilityBoundingSet", "t", 0, "", "systemd.exec(5)"),
        Property("NoNewPrivileges", "b", True, "", "systemd.exec(5)"),
        Property("RestrictSUIDSGID", "b", True, "", "systemd.exec(5)"),
        Property("RestrictNamespaces", "t", 0, "", "systemd.exec(5)"),
        Property("ProtectProc", "s", "invisible", "", "systemd.exec(5)"),
        Property("ProtectKernelTunables", "b", True, "", "systemd.exec(5)"),
        Property("ProtectKernelModules", "b", True, "", "systemd.exec(5)"),
        Property("ProtectKernelLogs", "b", True, "", "systemd.exec(5)"),
        Property("ProtectControlGroups", "b", True, "", "systemd.exec(5)"),
        Property("SystemCallFilter", "(bas)", [True, ["@system-service"]], "", "systemd.exec(5)"),
    ]


def _newer(version: int) -> Sequence[Property]:
    if version < _KEEPS_ITS_SOCKETS:
        return []
    return [Property("BindLogSockets", "b", False, "no forged journal records", "systemd.exec(5)")]


def _inputs(step: BuildStep) -> list[Value]:
    inputs: list[Value] = [[str(step.place.inputs(step.name)), INPUTS, False, 0]]
    return inputs if step.ca_file is None else [*inputs, [str(step.ca_file), CA_FILE, False, 0]]


def _shown(path: str, *, may_lack: bool = False) -> Value:
    return [path, path, may_lack, 0]


def _usec(time: timedelta) -> int:
    return time // timedelta(microseconds=1)
