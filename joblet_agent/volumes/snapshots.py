"""Snapshots of volumes: copies of all that is in one, made and put back while nobody uses it.

The order that makes kill -9 harmless between any two lines::

    make      unmount → a whole copy → mount → store it
    restore   a whole copy beside the image → unmount → give it the image's name → mount
    remove    store without it → delete the copy

Copies that the store does not know are swept away by the next agent.
"""

from dataclasses import replace

from joblet_agent.errors import LimitReached, NotFound, NotOffered, WrongState
from joblet_agent.jobs.check import quoted
from joblet_agent.model.volume import Backing, Volume, VolumeSnapshot
from joblet_agent.ports import Clock
from joblet_agent.volumes.catalog import VolumeCatalog
from joblet_agent.volumes.check import check_name
from joblet_agent.volumes.image_backing import ImageBacking

_MOST_SNAPSHOTS = 100


class VolumeSnapshots:
    """What callers can do with snapshots."""

    def __init__(self, catalog: VolumeCatalog, images: ImageBacking, clock: Clock) -> None:
        self._catalog = catalog
        self._images = images
        self._clock = clock

    async def make(self, name: str, snapshot: str) -> VolumeSnapshot:
        """Keep a copy of what is in a volume that no job uses; without a name it gets the time.

        Raises NotFound, InvalidRequest, WrongState, NotOffered, LimitReached, HostUnavailable.
        """
        now = self._clock.now()
        snapshot = check_name(snapshot or f"{now:%Y%m%d-%H%M%S}", "snapshot")
        self._catalog.known(name, "make snapshot")
        return await self._catalog.finish(self._make(name, VolumeSnapshot(snapshot, now)), f"snapshot-{name}")

    async def _make(self, name: str, made: VolumeSnapshot) -> VolumeSnapshot:
        async with self._catalog.locked(name):
            volume = self._catalog.settled(name, "make snapshot")
            _require_image(volume)
            if any(each.name == made.name for each in volume.snapshots):
                raise WrongState(
                    f"cannot make snapshot: volume {name} has one named {made.name} already",
                    reason="SNAPSHOT_EXISTS",
                    hint=f"see: rnx volume snapshots {name}",
                )
            if len(volume.snapshots) >= _MOST_SNAPSHOTS:
                raise LimitReached(
                    f"cannot make snapshot: volume {name} has {_MOST_SNAPSHOTS} already",
                    reason="TOO_MANY_SNAPSHOTS",
                    hint=f"remove one: rnx volume snapshot {name} SNAPSHOT --remove",
                )
            await self._catalog.require_unused(name, "copy")
            volume = await self._catalog.ready(volume)
            await self._images.snapshot(volume, made.name)
            await self._catalog.save(replace(volume, snapshots=(*volume.snapshots, made)))
        return made

    async def restore(self, name: str, snapshot: str) -> None:
        """Let what is in a volume that no job uses be as in the snapshot, which stays.

        Raises NotFound, WrongState, HostUnavailable.
        """
        _snapshot_of(self._catalog.known(name, "restore volume"), snapshot, "restore volume")
        await self._catalog.finish(self._restore(name, snapshot), f"restore-{name}")

    async def _restore(self, name: str, snapshot: str) -> None:
        async with self._catalog.locked(name):
            volume = self._catalog.settled(name, "restore volume")
            _snapshot_of(volume, snapshot, "restore volume")
            await self._catalog.require_unused(name, "restore")
            await self._images.restore(volume, snapshot)
            self._catalog.clear_fault(name)

    async def remove(self, name: str, snapshot: str) -> None:
        """Remove the snapshot. Raises NotFound, HostUnavailable."""
        _snapshot_of(self._catalog.known(name, "remove snapshot"), snapshot, "remove snapshot")
        await self._catalog.finish(self._remove(name, snapshot), f"unsnapshot-{name}")

    async def _remove(self, name: str, snapshot: str) -> None:
        async with self._catalog.locked(name):
            volume = self._catalog.settled(name, "remove snapshot")
            gone = _snapshot_of(volume, snapshot, "remove snapshot")
            volume = replace(volume, snapshots=tuple(each for each in volume.snapshots if each != gone))
            await self._catalog.save(volume)
            await self._images.forget_snapshot(volume, snapshot)


def _snapshot_of(volume: Volume, name: str, act: str) -> VolumeSnapshot:
    for snapshot in volume.snapshots:
        if snapshot.name == name:
            return snapshot
    raise NotFound(
        f"cannot {act}: volume {volume.name} has no snapshot {quoted(name)}",
        reason="SNAPSHOT_NOT_FOUND",
        hint=f"see: rnx volume snapshots {volume.name}",
    )


def _require_image(volume: Volume) -> None:
    """Raise NotOffered for a volume whose copy would not be cheap, or not be whole."""
    why = {
        Backing.TMPFS: "it is memory",
        Backing.QUOTA: "it is a directory, not an image that can be copied as a whole",
    }.get(volume.backing)
    if why:
        raise NotOffered(
            f"cannot make snapshot: volume {volume.name} cannot have any: {why}",
            reason="SNAPSHOT_NOT_OFFERED",
            hint=f"copy what is in it: rnx volume cp {volume.name}: DIRECTORY",
        )
