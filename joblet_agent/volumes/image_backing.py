"""Volumes that are an image, a file with a file system of its own; and their snapshots, copies of it.

Each step can be done again. Raises HostUnavailable, WrongState.
"""

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from joblet_agent.durable import sync_directory
from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed, WrongState
from joblet_agent.jobs.paths import VolumePaths
from joblet_agent.model.volume import Volume
from joblet_agent.model.workspace import most_files
from joblet_agent.ports import VolumeUnits
from joblet_agent.volumes import contents, images
from joblet_agent.volumes.mounts import Mounts
from joblet_agent.volumes.steps import Steps, gone

_PART = ".part"

_log = logging.getLogger(__name__)


class ImageBacking:
    """The images of volumes."""

    def __init__(self, steps: Steps, mounts: Mounts, units: VolumeUnits) -> None:
        self._steps = steps
        self._mounts = mounts
        self._units = units

    async def make(self, volume: Volume) -> None:
        """Make the image; under its name it is complete."""
        own, act = self._steps.paths(volume), self._steps.act
        async with self._steps.long:
            await act(
                "create", volume, lambda: images.make(own.new_image, volume.size, self._steps.is_closed)
            )
        making = self._units.make_file_system(own.new_image, most_files(volume.size))
        await self._steps.tool("create", volume, making)
        await act("create", volume, lambda: _complete(own))

    async def ready(self, volume: Volume) -> str:
        """Let the volume be usable; return what a person should know of it, if anything."""
        own, act = self._steps.paths(volume), self._steps.act
        if await act("use", volume, lambda: contents.is_mounted(own.mount)):
            await self._require_image(volume, own)
            await self._mounts.share(volume)
            return ""
        if not await act("use", volume, own.image.exists):
            raise gone(volume, own.image)
        if await act("use", volume, lambda: images.attached_to(own.image)):
            # Somebody has unmounted it while jobs use it: what they have is mounted again.
            await self._mounts.attach(volume)
            return ""
        was_clean = await act("use", volume, lambda: images.is_clean(own.image))
        try:
            is_repaired = await self._units.check_file_system(own.image)
        except LaunchFailed as error:
            raise WrongState(
                f"cannot use volume {volume.name}: its file system is damaged: {error}",
                reason="VOLUME_DAMAGED",
                hint=f"on the host: e2fsck -f {own.image}; or restore a snapshot, or remove the volume",
            ) from error
        await self._mounts.attach(volume)
        if was_clean and not is_repaired:
            return ""
        return "it was not unmounted cleanly (a crash or power cut); its file system was checked and repaired"

    async def _require_image(self, volume: Volume, own: VolumePaths) -> None:
        if not await self._steps.act("use", volume, own.image.exists):
            raise WrongState(
                f"cannot use volume {volume.name}: its image {own.image} was removed; "
                "what is in it is there until it is unmounted",
                reason="VOLUME_IMAGE_GONE",
                hint=f"fetch it: rnx volume cp {volume.name}: DIRECTORY; then remove the volume",
            )

    async def grow(self, volume: Volume, *, is_used: bool) -> None:
        """Give a volume that is ready its size, which is larger than before."""
        own, act = self._steps.paths(volume), self._steps.act
        device = await act("grow", volume, lambda: contents.loop_device(own.mount))
        if device is None:
            raise WrongState(
                f"cannot grow volume {volume.name}: something else is mounted on {own.mount}",
                reason="VOLUME_BUSY",
                hint=f"see: findmnt {own.mount}",
            )
        await act("grow", volume, lambda: images.extend(own.image, volume.size))
        try:
            await self._units.grow_file_system(own.mount, device)
        except LaunchFailed as error:
            if is_used:
                raise HostUnavailable(
                    f"cannot grow volume {volume.name} while jobs use it: {error}",
                    reason=error.reason,
                    hint="try again when no job uses it: it is grown while it is not mounted, then",
                ) from error
            _log.info("volume %s is not grown while it is mounted: %s", volume.name, error)
            await self._mounts.release(volume)
            await self._steps.tool("grow", volume, self._units.grow_unmounted(own.image))
            await self._mounts.attach(volume)

    async def snapshot(self, volume: Volume, name: str) -> None:
        """Keep a copy of what is in a volume that nobody uses."""
        own = self._steps.paths(volume)
        copy = own.snapshots / name
        async with self._steps.long:
            await self._unmounted(volume, lambda: self._copy(own.image, copy))

    async def restore(self, volume: Volume, name: str) -> None:
        """Let what is in a volume that nobody uses be as in the snapshot."""
        own, act = self._steps.paths(volume), self._steps.act
        copy = own.snapshots / name
        if not await act("restore", volume, copy.exists):
            raise WrongState(
                f"cannot restore volume {volume.name}: the file of snapshot {name} was removed: {copy}",
                reason="SNAPSHOT_GONE",
                hint=f"forget it: rnx volume snapshot {volume.name} {name} --remove",
            )
        async with self._steps.long:
            await act("restore", volume, lambda: self._copy(copy, own.new_image))
        try:
            if await act("restore", volume, lambda: own.new_image.stat().st_size < volume.size):
                await act("restore", volume, lambda: images.extend(own.new_image, volume.size))
                await self._steps.tool("restore", volume, self._units.grow_unmounted(own.new_image))
        except JobletError:
            await act("restore", volume, lambda: own.new_image.unlink(missing_ok=True))
            raise
        await self._unmounted(volume, lambda: _complete(own))

    async def _unmounted(self, volume: Volume, work: Callable[[], None]) -> None:
        """Do blocking work on the image while it is not mounted."""
        await self._mounts.release(volume)
        try:
            await self._steps.act("change", volume, work)
        finally:
            await self._mounts.attach(volume)

    def _copy(self, source: Path, target: Path) -> None:
        """Make a copy that is there as a whole or not at all. Blocking."""
        target.parent.mkdir(mode=0o700, exist_ok=True)
        part = target.with_name(f"{target.name}{_PART}")
        part.unlink(missing_ok=True)
        try:
            images.copy(source, part, self._steps.is_closed)
            part.rename(target)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        sync_directory(target.parent)

    async def forget_snapshot(self, volume: Volume, name: str) -> None:
        """Remove a snapshot; one that is gone is no error."""
        own = self._steps.paths(volume)
        await self._steps.act("change", volume, lambda: (own.snapshots / name).unlink(missing_ok=True))

    async def sweep(self, volume: Volume) -> None:
        """Remove what a crash has left of copies that nobody knows."""
        own = self._steps.paths(volume)
        known = {snapshot.name for snapshot in volume.snapshots}
        await self._steps.act("use", volume, lambda: _sweep(own, known))


def _complete(own: VolumePaths) -> None:
    own.new_image.rename(own.image)
    sync_directory(own.home)


def _sweep(own: VolumePaths, known: Collection[str]) -> None:
    left = [own.new_image, own.new_image.with_name(f"{own.new_image.name}{_PART}")]
    if own.snapshots.is_dir():
        left += [path for path in own.snapshots.iterdir() if path.name not in known]
    for path in left:
        path.unlink(missing_ok=True)
