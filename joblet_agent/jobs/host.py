"""Facts of the host that limits depend on: its CPUs, its cgroup controllers, its disks, its addresses.

Read when they are needed, as CPUs come and go. All but the addresses are below /sys and /proc, where reading
does not wait for a device.
"""

import os
import socket
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.cpu_list import parse_cpu_list

_IN_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})
# systemd finds the device behind a subvolume (BTRFS_IOC_DEV_INFO); its number is as good as any.
_WITH_HIDDEN_DEVICE = frozenset({"btrfs"})


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, as proc_pid_mountinfo(5) tells it."""

    point: str
    filesystem: str
    options: frozenset[str]
    """Of the mount itself, as ``noexec``."""


@dataclass(frozen=True, slots=True)
class Storage:
    """What a path is stored on."""

    filesystem: str
    device: str = ""
    """MAJOR:MINOR of its block device; empty if it has none that can be told from here."""

    @property
    def does_io(self) -> bool:
        """False for what lives in memory."""
        return self.filesystem not in _IN_MEMORY

    @property
    def can_be_limited(self) -> bool:
        """True when the kernel counts its I/O on a block device of this host."""
        return bool(self.device) or self.filesystem in _WITH_HIDDEN_DEVICE


class HostFacts:
    """Reads the host; ``root`` is another directory in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._sys = root / "sys"
        self._mounts = root / "proc/self/mountinfo"

    def online_cpus(self) -> tuple[int, ...]:
        """Return the CPUs that run now."""
        return parse_cpu_list(_text(self._sys / "devices/system/cpu/online"))

    def controllers(self) -> frozenset[str]:
        """Return the cgroup controllers that systemd can use; cgroups(7)."""
        return frozenset(_text(self._sys / "fs/cgroup/cgroup.controllers").split())

    def storage(self, path: Path) -> Storage:
        """Return what the path, which must exist, is stored on."""
        device = path.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}" if os.major(device) else ""
        return Storage(self.mount(path).filesystem, number)

    def mount(self, path: Path) -> Mount:
        """Return the mount that the path is in; of several in one place, the last."""
        found = Mount("", "unknown", frozenset())
        for line in _text(self._mounts).splitlines():
            left, _, right = line.partition(" - ")
            fields = left.split()
            point = fields[4].encode().decode("unicode_escape")
            if path.is_relative_to(point) and len(point) >= len(found.point):
                found = Mount(point, right.split()[0], frozenset(fields[5].split(",")))
        return found

    def shares_by_weight(self, storage: Storage) -> bool:
        """Say whether the disk behind the storage is shared by IOWeight=.

        Only two things in the kernel do that: the scheduler bfq, and iocost where it is switched on.
        """
        disk = self._whole_disk(storage.device)
        scheduler = _text(disk / "queue/scheduler")
        costs = _text(self._sys / "fs/cgroup/io.cost.qos").splitlines()
        number = _text(disk / "dev")
        return "[bfq]" in scheduler or any(line.startswith(f"{number} enable=1") for line in costs)

    def has_address(self, address: str) -> bool:
        """Say whether the IP address is one of this host's own: whether something could listen on it."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
            try:
                probe.bind((address, 0))
            except OSError:
                return False
        return True

    def _whole_disk(self, number: str) -> Path:
        """Return the disk's directory in sysfs: past partitions, and past mappings to one device."""
        device = (self._sys / "dev/block" / number).resolve()
        while True:
            if (device / "partition").exists():
                device = device.parent
            below = list((device / "slaves").glob("*"))
            if len(below) != 1:
                return device
            device = below[0].resolve()


def _text(path: Path) -> str:
    """Return what the file says; nothing if there is no such file: then there is no such thing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
