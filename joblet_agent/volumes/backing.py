"""What holds volumes to their size, and where their files are: one method for each step of a volume's life.

Each step can be done again. Raises HostUnavailable, WrongState, LimitReached.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from joblet_agent.config import FilesystemBacking, VolumesConfig
from joblet_agent.durable import is_full, sync_directory
from joblet_agent.errors import HostUnavailable, InvalidRequest, WrongState
from joblet_agent.jobs.paths import AgentPaths, VolumePaths
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.model.volume import Backing, Volume, VolumeType
from joblet_agent.ports import ProjectQuotas, VolumeUnits
from joblet_agent.volumes import contents, images
from joblet_agent.volumes.image_backing import ImageBacking
from joblet_agent.volumes.mounts import Mounts, memory_options
from joblet_agent.volumes.putting import Put
from joblet_agent.volumes.steps import Steps, gone

_TOOLS = ("/usr/sbin/mke2fs", "/usr/sbin/e2fsck", "/usr/sbin/resize2fs", "/usr/sbin/losetup")

_log = logging.getLogger(__name__)


class Backings:
    """Quota, image and tmpfs."""

    def __init__(
        self, config: VolumesConfig, units: VolumeUnits, quotas: ProjectQuotas, paths: AgentPaths
    ) -> None:
        self._config = config
        self._units = units
        self._quotas = quotas
        self._paths = paths
        self._steps = Steps(paths)
        self._mounts = Mounts(self._steps, units, quotas)
        self.images = ImageBacking(self._steps, self._mounts, units)
        """Those that can have snapshots."""

    async def open(self) -> None:
        """Stop what still works for an agent that is gone."""
        await self._units.stop_tools()

    def close(self) -> None:
        """Let long copies end."""
        self._steps.close()

    async def choose(self, type_: VolumeType) -> Backing:
        """Return what a new volume of the type gets.

        Raises HostUnavailable if nothing would hold it to its size.
        """
        if type_ is VolumeType.MEMORY:
            return Backing.TMPFS
        wanted = self._config.filesystem
        if wanted is not FilesystemBacking.IMAGE and await asyncio.to_thread(self._quotas.are_enforced):
            return Backing.QUOTA
        no_quotas = f"the file system of {self._paths.volumes} has no project quotas"
        if wanted is FilesystemBacking.QUOTA:
            raise HostUnavailable(
                f"cannot create volume: {no_quotas}, and volumes.filesystem allows nothing else",
                reason="NO_VOLUME_BACKING",
                hint="to have them: docs/operations.md, Workspaces",
            )
        missing = [tool for tool in _TOOLS if not os.access(tool, os.X_OK)]
        if missing:
            raise HostUnavailable(
                f"cannot create volume: {no_quotas}, and there is no {missing[0]} to make an image",
                reason="NO_VOLUME_BACKING",
                hint="install the packages e2fsprogs and mount, or use --type=memory",
            )
        return Backing.IMAGE

    async def require_free(self, name: str) -> None:
        """Raise WrongState if there are files where those of a new volume would be: they may be missed."""
        home = self._paths.volume(name).home
        if await asyncio.to_thread(os.path.lexists, home):
            raise WrongState(
                f"cannot create volume {name}: there are files of an earlier volume at {home}",
                reason="VOLUME_FILES_LEFT",
                hint="look at them on the host and move them away, or choose another name",
            )

    async def make(self, volume: Volume) -> None:
        """Make the files of a new volume, and mount what is to be mounted."""
        own, act = self._steps.paths(volume), self._steps.act
        await act("create", volume, lambda: _begin(own))
        if volume.backing is Backing.IMAGE:
            await self.images.make(volume)
        elif volume.backing is Backing.QUOTA:
            await act("create", volume, lambda: images.check_room(own.home, volume.size))
        await self._mounts.attach(volume)
        await act("create", volume, lambda: sync_directory(own.home.parent))

    async def ready(self, volume: Volume, *, is_used: bool) -> str:
        """Let the volume be usable; return what a person should know of it, if anything.

        ``is_used``: jobs that run have it.
        """
        if volume.backing is Backing.QUOTA:
            return await self._ready_quota(volume)
        if volume.backing is Backing.IMAGE:
            return await self.images.ready(volume)
        return await self._ready_memory(volume, is_used=is_used)

    async def _ready_quota(self, volume: Volume) -> str:
        own = self._steps.paths(volume)
        if not await self._steps.act("use", volume, lambda: contents.exists(own.contents)):
            raise gone(volume, own.contents)
        await self._mounts.limit(volume, "use")
        await self._mounts.share(volume)
        return ""

    async def _ready_memory(self, volume: Volume, *, is_used: bool) -> str:
        own = self._steps.paths(volume)
        if await self._steps.act("use", volume, lambda: contents.is_mounted(own.mount)):
            await self._mounts.share(volume)
            return ""
        if is_used:
            raise WrongState(
                f"cannot use volume {volume.name}: it was unmounted, and jobs have what was in it",
                reason="VOLUME_BUSY",
                hint="stop them, or let them end; it is empty then",
            )
        await self._mounts.attach(volume)
        return "it was empty again after a reboot or an unmount: it is memory"

    async def grow(self, volume: Volume, *, is_used: bool) -> None:
        """Give a volume that is ready its size, which is larger than before."""
        if volume.backing is Backing.TMPFS:
            mount = self._steps.paths(volume).mount
            remounting = self._units.remount(mount, memory_options(volume.size))
            await self._steps.tool("grow", volume, remounting)
        elif volume.backing is Backing.QUOTA:
            await self._mounts.limit(volume, "grow")
        else:
            await self.images.grow(volume, is_used=is_used)

    async def put(self, volume: Volume, source: Path, parts: Sequence[str], put: Put) -> None:
        """Copy a tree of the agent's own into a volume that is ready."""
        own = self._steps.paths(volume)
        try:
            async with self._steps.long:
                await asyncio.to_thread(put.tree, source, own.contents, parts)
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.ENOTEMPTY}:
                raise InvalidRequest(
                    f"cannot copy into volume {volume.name}: something on the way is no directory, or a "
                    f"directory is where a file would be: {error.strerror}",
                    reason="BAD_PATH",
                    hint="look at what is there, and choose another path",
                ) from error
            no_room = is_full(error)
            raise HostUnavailable(
                f"cannot copy into volume {volume.name}: {error.strerror}; {put.count} files are there",
                reason="VOLUME_FULL" if no_room else "CANNOT_STORE_FILES",
                hint="remove what is not needed, or: rnx volume grow" if no_room else None,
            ) from error

    async def is_there(self, volume: Volume) -> bool:
        """Say whether its files can be read now."""
        own = self._steps.paths(volume)
        return await asyncio.to_thread(
            lambda: (
                (volume.backing is Backing.QUOTA or contents.is_mounted(own.mount))
                and contents.exists(own.contents)
            )
        )

    def contents(self, volume: Volume) -> Path:
        """Return the directory that jobs see."""
        return self._steps.paths(volume).contents

    async def release(self, volume: Volume) -> None:
        """Unmount the volume, if it is mounted. Nobody has it any more then, or it is as it was."""
        await self._mounts.release(volume)

    async def destroy(self, volume: Volume) -> None:
        """Delete what there is of a volume that is not mounted."""
        own, act = self._steps.paths(volume), self._steps.act
        failures = await act("remove", volume, lambda: remove_tree(own.home))
        if failures:
            raise HostUnavailable(
                f"cannot remove volume {volume.name} completely, first: {failures[0]}",
                reason="CANNOT_REMOVE_VOLUME",
                hint=f"look at {own.home} on the host, then remove the volume again",
            )
        if volume.project:
            await act("remove", volume, lambda: self._quotas.set_limit(volume.project, size=0, files=0))

    def used(self, volume: Volume) -> int:
        """Return how many bytes its files take; -1 if that is not known now. Blocking."""
        own = self._steps.paths(volume)
        try:
            if volume.backing is Backing.QUOTA:
                return self._quotas.usage(volume.project).size
            return contents.used_space(own.mount) if contents.is_mounted(own.mount) else -1
        except OSError as error:
            _log.debug("volume %s: %s", volume.name, error.strerror)
            return -1

    def unit(self, volume: Volume) -> str:
        """Return its mount unit; empty if it needs none."""
        own = self._steps.paths(volume)
        return "" if volume.backing is Backing.QUOTA else self._units.unit_name(own.mount)


def _begin(own: VolumePaths) -> None:
    own.home.mkdir(mode=0o700)
    own.mount.mkdir(mode=0o700)
