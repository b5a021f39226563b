"""What is known about a running machine, in its folder ``machines/NAME`` of the cache.

``lock`` is held as long as the machine's keeper lives; whoever finds it free may clear the folder
away. ``machine.json`` is there from the moment the machine is usable. ``cgroup`` says that the
machine's cgroup is its own: one of that name may belong to a machine of another cache.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from tests.testbed import cache, cgroups, locks, loops
from tests.testbed.deadline import Deadline
from tests.testbed.errors import NameTaken, TestbedError

CLEANUP_LIMIT = timedelta(seconds=30)
_PREFIX = "joblet-tb-"


@dataclass(frozen=True, slots=True)
class MachineRecord:
    """A machine that is up."""

    name: str
    release: str
    keeper_pid: int
    leader_pid: int

    @property
    def folder(self) -> Path:
        """Where the machine's files are."""
        return machine_folder(self.name)

    def write(self) -> None:
        """Publish the record; whoever reads it sees it whole."""
        partial = self.folder / "machine.json.partial"
        partial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        partial.rename(self.folder / "machine.json")


def machine_folder(name: str) -> Path:
    """The folder of the machine of that name."""
    return cache.subdirectory("machines") / name


def cgroup_name(name: str) -> str:
    """The cgroup of the machine of that name."""
    return _PREFIX + name


def read(name: str) -> MachineRecord:
    """The record of a machine that is up."""
    try:
        text = (machine_folder(name) / "machine.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        running = ", ".join(record.name for record in running_machines()) or "none"
        raise TestbedError(f"cannot find machine {name}: running are {running}") from None
    return MachineRecord(**json.loads(text))


def running_machines() -> list[MachineRecord]:
    """All machines of this cache that are up, by name."""
    records = []
    for folder in sorted(cache.subdirectory("machines").glob("[!.]*")):
        with contextlib.suppress(FileNotFoundError):
            records.append(MachineRecord(**json.loads((folder / "machine.json").read_text(encoding="utf-8"))))
    return records


def is_kept(name: str) -> bool:
    """Whether the machine's keeper lives."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = locks.acquire(machine_folder(name) / "lock", wait=False)
        if descriptor is None:
            return True
        os.close(descriptor)
    return False


def claim(name: str) -> int:
    """Make the machine's folder and return the descriptor that holds its lock.

    Clears away what dead keepers left first. Raises NameTaken.
    """
    with locks.held(cache.cache_dir() / "machines.lock"):
        _reap()
        folder = machine_folder(name)
        try:
            folder.mkdir()
        except FileExistsError:
            raise NameTaken(f"cannot start machine {name}: it is running") from None
        descriptor = locks.acquire(folder / "lock")
    assert descriptor is not None
    return descriptor


def reap() -> list[str]:
    """Clear away what dead keepers left; return the names of those machines."""
    with locks.held(cache.cache_dir() / "machines.lock"):
        return _reap()


def _reap() -> list[str]:
    """Needs ``machines.lock``: a folder without a lock must not be one that is being made."""
    reaped = []
    for folder in sorted(cache.subdirectory("machines").iterdir()):
        with contextlib.suppress(FileNotFoundError):
            descriptor = locks.acquire(folder / "lock", wait=False)
            if descriptor is None:
                continue
            clear(folder.name)
            os.close(descriptor)
            reaped.append(folder.name)
    return reaped


def clear(name: str) -> None:
    """End everything of a machine and remove its folder; needs the machine's lock."""
    folder = machine_folder(name)
    if (folder / "cgroup").exists():
        cgroups.destroy(cgroup_name(name), deadline=Deadline(CLEANUP_LIMIT))
    with contextlib.suppress(FileNotFoundError):
        loops.detach(int((folder / "root_device").read_text(encoding="ascii")))
    # Renamed first, so that nobody takes a half-removed folder for a machine.
    going = folder.with_name(f".{folder.name}.{os.getpid()}")
    folder.rename(going)
    shutil.rmtree(going, ignore_errors=True)
