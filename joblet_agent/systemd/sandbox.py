"""What each isolation profile makes of a unit: one table for each, joined by the names of properties.

What costs a start its time is mounts and seccomp (measured, docs/performance.md), so the sandbox
hides by not mounting: the root is a skeleton directory with the host's ``/usr`` in it, and what is
not there needs no ``Protect…``. Those that are here all the same are second locks: they hold should the
launcher be at fault, and all together cost a start about a millisecond (docs/isolation.md, which also tells
people what the profiles promise).
"""

from collections.abc import Mapping
from pathlib import Path
from socket import AF_INET, AF_INET6
from typing import Final

from joblet_agent.model.network import BuiltIn
from joblet_agent.model.profile import Profile
from joblet_agent.systemd.property import Property, Value

PRIVILEGED_WORD: Final = "privileged"
"""Tells the launcher to leave the command the rights of root."""

_CAP_SETGID, _CAP_SETUID, _CAP_SETPCAP, _CAP_SYS_ADMIN = 1 << 6, 1 << 7, 1 << 8, 1 << 21
_CLONE_NEWNS, _CLONE_NEWPID = 0x0002_0000, 0x2000_0000

_EVERY_ADDRESS: Final[list[Value]] = [[AF_INET, bytes(4), 0], [AF_INET6, bytes(16), 0]]
_LOOPBACK: Final[list[Value]] = [[AF_INET, bytes([127, 0, 0, 0]), 8], [AF_INET6, bytes(15) + b"\1", 128]]

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
    "quotactl_fd",
    "setns",
    "syslog",
    "userfaultfd",
    "vhangup",
]

# @system-service without @aio's io_uring, @keyring, @resources, setns and userfaultfd; with what the launcher
# needs: mount, umount2, unshare (RestrictNamespaces= says of what).
_ALLOWED_SYSTEM_CALLS: Final[list[Value]] = [
    "@basic-io",
    "@chown",
    "@default",
    "@file-system",
    "@io-event",
    "@ipc",
    "@memlock",
    "@network-io",
    "@setuid",
    "@signal",
    "@sync",
    "@timer",
    "capget",
    "capset",
    "clone",
    "clone3",
    "copy_file_range",
    "execveat",
    "fadvise64",
    "flock",
    "fork",
    "get_mempolicy",
    "getcpu",
    "getpriority",
    "getrusage",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "ioctl",
    "ioprio_get",
    "kill",
    "madvise",
    "mount",
    "mremap",
    "name_to_handle_at",
    "personality",
    "pidfd_open",
    "pidfd_send_signal",
    "prctl",
    "readahead",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_yield",
    "sendfile",
    "setpgid",
    "setsid",
    "splice",
    "sysinfo",
    "tee",
    "tgkill",
    "times",
    "tkill",
    "umask",
    "umount2",
    "uname",
    "unshare",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
]


def _table(*entries: Property) -> dict[str, Property]:
    return {entry.name: entry for entry in entries}


_EVERY = _table(
    Property("PrivateIPC", "b", True, "own System V IPC and message queues", "systemd.exec(5)"),
    Property("KeyringMode", "s", "private", "own kernel keyring", "systemd.exec(5)"),
)

_DEFAULT = _table(
    Property("InaccessiblePaths", "as", ["+/sys"], "no facts of the host", "systemd.exec(5)"),
    Property("PrivateDevices", "b", True, "no devices of the host", "systemd.exec(5)"),
    Property("ProtectHome", "s", "yes", "no homes, should there be any", "systemd.exec(5)"),
    Property("ProtectProc", "s", "invisible", "no processes of the host", "systemd.exec(5)"),
    # Until the launcher mounts the job's own /proc. With it 257 has nothing left to cover for the next.
    Property("ProcSubset", "s", "pid", "no settings of the host", "systemd.exec(5)"),
    Property("ProtectKernelTunables", "b", True, "no settings of the host", "systemd.exec(5)"),
    Property("ProtectKernelLogs", "b", True, "no kernel log", "systemd.exec(5)"),
    Property("ProtectClock", "b", True, "no clock is set", "systemd.exec(5)"),
    Property("ProtectControlGroups", "b", True, "limits are not the job's to change", "systemd.exec(5)"),
    Property("ProtectKernelModules", "b", True, "no modules are loaded", "systemd.exec(5)"),
    Property("ProtectHostname", "b", True, "own UTS namespace", "systemd.exec(5)"),
    Property(
        "RestrictNamespaces",
        "t",
        _CLONE_NEWNS | _CLONE_NEWPID,  # what the launcher makes; the command has no capability for more
        "PID namespace by the launcher, none by the job",
        "systemd.exec(5)",
    ),
    Property("NoNewPrivileges", "b", True, "setuid programs gain nothing", "systemd.exec(5)"),
    Property(
        "CapabilityBoundingSet",
        "t",
        _CAP_SETGID | _CAP_SETUID | _CAP_SETPCAP | _CAP_SYS_ADMIN,
        "the launcher's, dropped before the command",
        "systemd.exec(5)",
    ),
    Property("SystemCallArchitectures", "as", ["native"], "no second system call table", "systemd.exec(5)"),
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
)

_STRICT = _table(
    Property(
        "MemoryDenyWriteExecute", "b", True, "--profile=strict: no code made at run time", "systemd.exec(5)"
    ),
    Property(
        "SystemCallFilter",
        "(bas)",
        [True, _ALLOWED_SYSTEM_CALLS],
        "--profile=strict: the kernel interfaces that jobs may use",
        "systemd.exec(5)",
    ),
    Property(
        "RestrictAddressFamilies",
        "(bas)",
        [True, ["AF_UNIX", "AF_INET", "AF_INET6"]],
        "--profile=strict: sockets of programs, none of the kernel",
        "systemd.exec(5)",
    ),
)

_NO_NETWORK = _table(
    Property("PrivateNetwork", "b", True, "--network=none", "systemd.exec(5)"),
)

# Should there be a network after all. Where the kernel has no BPF, systemd goes on without.
_NO_ADDRESSES = _table(
    Property("IPAddressDeny", "a(iayu)", _EVERY_ADDRESS, "--network=none", "systemd.resource-control(5)"),
    Property(
        "IPAddressAllow",
        "a(iayu)",
        _LOOPBACK,
        "programs of a job may talk to each other",
        "systemd.resource-control(5)",
    ),
)

_PROFILES: Final[Mapping[Profile, Mapping[str, Property]]] = {
    Profile.DEFAULT: _EVERY | _DEFAULT,
    Profile.STRICT: _EVERY | _DEFAULT | _STRICT,
    Profile.PRIVILEGED: _EVERY,
}


_NOT_WITH_RUNTIME: Final = frozenset({"ProtectHome"})
"""The homes in a tree are nobody's, and may have what a runtime needs; hiding them costs a mount each."""


def sandbox(
    profile: Profile,
    network: str = BuiltIn.NONE,
    namespace: Path | None = None,
    *,
    has_runtime: bool = False,
) -> list[Property]:
    """Return the properties that keep a job of this profile apart from the host.

    With a ``namespace`` its network is what that has. Without, it has none, unless it is on the host's own.
    With a runtime (``has_runtime``) nothing of the host's files is in its root.
    """
    left_out = _NOT_WITH_RUNTIME if has_runtime else frozenset()
    own = (each for each in _PROFILES[profile].values() if each.name not in left_out)
    return [*_network(profile, network, namespace), *own]


def _network(profile: Profile, network: str, namespace: Path | None) -> list[Property]:
    if namespace is not None:
        origin = f"--network={network}"
        return [
            Property("NetworkNamespacePath", "s", str(namespace), origin, "systemd.exec(5)"),
            # The path decides (252, 257); this tells systemd's tools that the namespace is not the host's.
            Property("PrivateNetwork", "b", True, origin, "systemd.exec(5)"),
        ]
    if network == BuiltIn.HOST:
        return []
    return [*_NO_NETWORK.values(), *(() if profile is Profile.PRIVILEGED else _NO_ADDRESSES.values())]
