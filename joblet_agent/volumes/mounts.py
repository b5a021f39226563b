"""Volumes where jobs get them: mounted, their directory shared, and held to their size.

Each step can be done again. Raises HostUnavailable.
"""

import asyncio
import errno
import os
from pathlib import Path

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.paths import VolumePaths
from joblet_agent.model.volume import Backing, Volume
from joblet_agent.model.workspace import most_files
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import MountPlan, ProjectQuotas, VolumeUnits
from joblet_agent.volumes import contents, images
from joblet_agent.volumes.steps import Steps

_DETACHED_WITHIN = 5.0
_OPTIONS = ("nosuid", "nodev")


class Mounts:
    """The mounts of volumes, and the directories in them."""

    def __init__(self, steps: Steps, units: VolumeUnits, quotas: ProjectQuotas) -> None:
        self._steps = steps
        self._units = units
        self._quotas = quotas

    async def attach(self, volume: Volume) -> None:
        """Mount the volume, if it is to be mounted, and let its directory be there."""
        own, act = self._steps.paths(volume), self._steps.act
        is_there = await act("use", volume, lambda: contents.is_mounted(own.mount))
        plan = None if is_there else await self._plan(volume, own)
        if plan is not None:
            await self._steps.tool("use", volume, self._units.mount(plan))
            if not await act("use", volume, lambda: contents.is_mounted(own.mount)):
                raise HostUnavailable(
                    f"cannot use volume {volume.name}: systemd has mounted it, and the agent does not see it",
                    reason="MOUNT_NOT_SEEN",
                    hint="mounts of the host must reach the agent: is its unit or the host's / made private?",
                )
        await self.share(volume)
        if volume.backing is Backing.QUOTA:
            await self.limit(volume, "use")

    async def _plan(self, volume: Volume, own: VolumePaths) -> MountPlan | None:
        title = f"Joblet volume {volume.name}"
        if volume.backing is Backing.TMPFS:
            return MountPlan(own.mount, "tmpfs", "tmpfs", memory_options(volume.size), title)
        if volume.backing is Backing.QUOTA:
            return None
        device = await self._steps.act("use", volume, lambda: images.attached_to(own.image))
        if device is not None:
            return MountPlan(own.mount, str(device), "ext4", _OPTIONS, title)
        return MountPlan(own.mount, str(own.image), "ext4", ("loop", *_OPTIONS), title)

    async def share(self, volume: Volume) -> None:
        """Let the directory that jobs see be there, and be its group's."""
        own, act = self._steps.paths(volume), self._steps.act

        def is_fine() -> bool:
            return contents.exists(own.contents) and contents.is_open_to_group(own.contents, volume.number)

        if not await act("use", volume, is_fine):
            making = self._units.make_directory(own.contents, volume.number, contents.MODE)
            await self._steps.tool("use", volume, making)
        await act("use", volume, lambda: contents.share(own.contents))

    async def limit(self, volume: Volume, act: str) -> None:
        """Let the project quota of the volume be its size."""
        own = self._steps.paths(volume)
        await self._steps.act(act, volume, lambda: self._limit(volume, own))

    def _limit(self, volume: Volume, own: VolumePaths) -> None:
        if not self._quotas.are_enforced():
            raise OSError(errno.EOPNOTSUPP, "its file system no longer has the project quotas that it needs")
        directory = os.open(own.contents, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if self._quotas.project(directory) != volume.project:
                self._quotas.assign(directory, volume.project)
        finally:
            os.close(directory)
        self._quotas.set_limit(volume.project, size=volume.size, files=most_files(volume.size))

    async def release(self, volume: Volume) -> None:
        """Unmount the volume, if it is mounted. Nobody has it any more then, or it is as it was."""
        own = self._steps.paths(volume)
        if volume.backing is Backing.QUOTA:
            return
        if await self._steps.act("release", volume, lambda: contents.is_mounted(own.mount)):
            await self._steps.tool("release", volume, self._units.unmount(own.mount))
        if volume.backing is Backing.IMAGE and (device := await self._still_attached(volume, own)):
            await self.attach(volume)
            raise HostUnavailable(
                f"cannot release volume {volume.name}: it is unmounted, but {device} has its image",
                reason="VOLUME_BUSY",
                hint=f"who has it: grep {device.name} /proc/*/mountinfo; if nobody: losetup -d {device}",
            )

    async def _still_attached(self, volume: Volume, own: VolumePaths) -> Path | None:
        """Return the loop device that has the image even a while after it was unmounted."""
        pause = GrowingPause(first=0.01, most=0.2)
        deadline = asyncio.get_running_loop().time() + _DETACHED_WITHIN
        while True:
            # udev looks into devices, which keeps them a moment longer.
            device = await self._steps.act("release", volume, lambda: images.attached_to(own.image))
            if device is None or asyncio.get_running_loop().time() > deadline:
                return device
            await pause.wait()


def memory_options(size: int) -> tuple[str, ...]:
    """Return the options of a tmpfs for the contents of a volume."""
    return (f"size={size}", f"nr_inodes={most_files(size)}", "mode=0700", *_OPTIONS)
