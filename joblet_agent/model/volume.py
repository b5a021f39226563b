"""Volumes: storage that outlives a job and can be in several.

A volume has a number that is uid and gid of its own on the host; its directory belongs to them. A job gets
the group, and where no other job has it, the user, too.

Must not know: proto messages, D-Bus names, SQL.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class VolumeType(StrEnum):
    """What callers choose."""

    FILESYSTEM = "filesystem"
    MEMORY = "memory"


class Backing(StrEnum):
    """What holds a volume to its size."""

    QUOTA = "quota"
    """A directory with a project quota."""
    IMAGE = "image"
    """A file with a file system of its own."""
    TMPFS = "tmpfs"


class VolumeState(StrEnum):
    """Where a volume is in its life; what is neither nor is completed or undone by the next agent."""

    CREATING = "creating"
    READY = "ready"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class VolumeMount:
    """A volume that a job wants to have."""

    volume: str
    target: str
    """Absolute directory in the job."""
    is_read_only: bool = False

    def __str__(self) -> str:
        """Return what ``--volume`` takes."""
        return f"{self.volume}:{self.target}" + (":ro" if self.is_read_only else "")


@dataclass(frozen=True, slots=True)
class HeldVolume:
    """What a job that has a volume must know of it."""

    volume: str
    number: int
    """Its gid, and its uid."""
    is_device: bool = False
    """Its files are on a block device of its own."""


@dataclass(frozen=True, slots=True)
class VolumeSnapshot:
    """A copy of what was in a volume at one time."""

    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume. Times are aware and in UTC."""

    name: str
    type: VolumeType
    backing: Backing
    size: int
    """Most bytes that it may take."""
    size_text: str
    """The size as it was given."""
    number: int
    """Host uid and gid that its directory belongs to."""
    created_at: datetime
    state: VolumeState = VolumeState.CREATING
    project: int = 0
    """Project id of its files; 0 for none."""
    warning: str = ""
    """What is wrong with it, or was lost, in one sentence."""
    snapshots: tuple[VolumeSnapshot, ...] = ()
    """Oldest first."""

    @property
    def held(self) -> HeldVolume:
        """What a job must know of it."""
        return HeldVolume(self.name, self.number, self.backing is Backing.IMAGE)


def names_of(mounts: Iterable[VolumeMount]) -> list[str]:
    """Return the volumes of the mounts, each once, in their order."""
    return list(dict.fromkeys(mount.volume for mount in mounts))
