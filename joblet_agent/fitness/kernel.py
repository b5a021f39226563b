"""The kernel: its version, namespaces, seccomp, watches of files."""

import re
from collections.abc import Sequence

from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, warning
from joblet_agent.fitness.scene import Scene

_OLDEST = (5, 3)  # pidfd_open(2), which the launcher uses
_TESTED = (6, 1)
_NAMESPACES = ("mnt", "pid", "net", "ipc", "uts")
_SPARE = 256
"""Namespaces and watches that others on the host may have."""


def _version(scene: Scene) -> Verdict:
    release = scene.host.text("/proc/sys/kernel/osrelease") or "unknown"
    match = re.match(r"(\d+)\.(\d+)", release)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    if version < _OLDEST:
        return failed(f"Linux {release}", "jobs do not start", "Linux 5.3 or newer, better 6.1")
    if version < _TESTED:
        return warning(
            f"Linux {release}",
            "the agent is tested with 6.1 and newer; before 5.14 there are no project quotas",
            "use the kernel of Debian 12 or newer",
        )
    return ok(f"Linux {release}")


def _namespaces(scene: Scene) -> Verdict:
    if missing := [name for name in _NAMESPACES if not scene.host.is_there(f"/proc/self/ns/{name}")]:
        return failed(
            f"no namespaces of kind {', '.join(missing)}",
            "jobs do not start",
            "a kernel with CONFIG_NAMESPACES",
        )
    most = scene.loaded.config.jobs.max_concurrent
    keys = {name: f"user.max_{name}_namespaces" for name in _NAMESPACES}
    limits = {name: scene.host.number(f"/proc/sys/{key.replace('.', '/')}") for name, key in keys.items()}
    low = {name: limit for name, limit in limits.items() if limit is not None and limit < most + _SPARE}
    if not low:
        return ok(", ".join(_NAMESPACES))
    text = ", ".join(f"{keys[name]} is {limit}" for name, limit in low.items())
    remedy = (
        f"sysctl -w {' '.join(f'{keys[name]}={most + _SPARE}' for name in low)}, and a file in /etc/sysctl.d"
    )
    if 0 in low.values():
        return failed(text, "jobs do not start", remedy)
    return warning(text, f"fewer jobs run at once than jobs.max_concurrent, {most}", remedy)


def _seccomp(scene: Scene) -> Verdict:
    if scene.host.is_there("/proc/sys/kernel/seccomp/actions_avail"):
        return ok("seccomp")
    return failed(
        "no seccomp filters",
        "jobs do not start: the launcher installs one",
        "a kernel with CONFIG_SECCOMP_FILTER",
    )


def _watches(scene: Scene) -> Verdict | None:
    most = scene.loaded.config.jobs.max_concurrent
    limit = scene.host.number("/proc/sys/fs/inotify/max_user_watches")
    if limit is None:
        return None
    if not scene.host.can_watch():
        return failed(
            "this user has no inotify instance left",
            "the agent does not start",
            "sysctl -w fs.inotify.max_user_instances=1024, and a file in /etc/sysctl.d",
        )
    if limit >= most + _SPARE:
        return ok(f"{limit} watches of files")
    return warning(
        f"fs.inotify.max_user_watches is {limit}",
        "logs beyond are polled, which takes more CPU time",
        f"sysctl -w fs.inotify.max_user_watches={most + _SPARE}, and a file in /etc/sysctl.d",
    )


PROBES: Sequence[Probe] = (
    Probe("KERNEL_VERSION", Subject.KERNEL, _version),
    Probe("KERNEL_NAMESPACES", Subject.KERNEL, _namespaces),
    Probe("KERNEL_SECCOMP", Subject.KERNEL, _seccomp),
    Probe("KERNEL_WATCHES", Subject.KERNEL, _watches),
)
