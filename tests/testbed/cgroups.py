"""One cgroup per machine, in the host's unified hierarchy.

Without it machines booted side by side would share one tree, and stopping a unit in one
would stop the unit of the same name in the others. It also is the one handle that reaches
every process of a machine.
"""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

from tests.testbed.deadline import Deadline
from tests.testbed.errors import NameTaken, TestbedError


def create(name: str) -> Path:
    """Make the cgroup and return its folder."""
    path = unified_mount() / name
    try:
        path.mkdir()
    except FileExistsError:
        raise NameTaken(f"cannot create cgroup {path}: it exists, so a machine of that name runs") from None
    return path


def destroy(name: str, *, deadline: Deadline) -> None:
    """Kill everything in the machine's cgroup and remove it in every hierarchy.

    nspawn mirrors the path into the ``name=systemd`` hierarchy of hosts that have one.
    """
    unified = unified_mount() / name
    if unified.is_dir():
        _kill(unified, deadline)
    for mount in mounts():
        _remove(mount / name)


def _kill(path: Path, deadline: Deadline) -> None:
    """Kill the processes and wait for their end.

    The end of each, and not for an empty cgroup: the machine's PID 1 leaves its cgroup before it
    has waited for the rest of its PID namespace, to which commands from outside belong too.
    """
    with contextlib.ExitStack() as opened:
        alive = set()
        for pid in _processes(path):
            with contextlib.suppress(ProcessLookupError):
                descriptor = os.pidfd_open(pid)
                opened.callback(os.close, descriptor)
                alive.add(descriptor)
        (path / "cgroup.kill").write_text("1", encoding="ascii")
        while alive:
            ended = select.select(alive, [], [], deadline.seconds())[0]
            if not ended:
                raise TestbedError(f"cannot empty cgroup {path}: its processes do not end")
            alive.difference_update(ended)
        _wait_empty(path, deadline)


def _processes(path: Path) -> list[int]:
    return [
        int(pid) for file in path.rglob("cgroup.procs") for pid in file.read_text(encoding="ascii").split()
    ]


def _wait_empty(path: Path, deadline: Deadline) -> None:
    """Wait until the kernel has noticed, as until then the folder cannot be removed."""
    with (path / "cgroup.events").open(encoding="ascii") as events:
        poller = select.poll()
        poller.register(events, select.POLLPRI)
        while "populated 0" not in events.read():
            if not poller.poll(deadline.milliseconds()):
                raise TestbedError(f"cannot empty cgroup {path}: its processes do not end")
            events.seek(0)


def _remove(path: Path) -> None:
    """Remove a cgroup and those below it, deepest first."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(folder)


def unified_mount() -> Path:
    """The root of the unified hierarchy."""
    for mount in mounts(kind="cgroup2"):
        return mount
    raise TestbedError("cannot find a cgroup2 file system: mount one, /sys/fs/cgroup/unified is usual")


def mounts(kind: str = "cgroup") -> list[Path]:
    """Mount points of file systems whose type begins with ``kind``, in mount order."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        left, _, right = line.partition(" - ")
        if right.startswith(kind):
            found.append(Path(left.split()[4]))
    return found
