"""Volumes as they are told to people."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.job import JobRecord
from joblet_agent.model.volume import Volume, VolumeState
from joblet_agent.volumes.backing import Backings
from joblet_agent.volumes.catalog import VolumeCatalog


@dataclass(frozen=True, slots=True)
class VolumeView:
    """A volume as it is now."""

    volume: Volume
    path: str
    """Directory on the host."""
    unit: str
    """Its mount unit; empty if it needs none."""
    jobs: tuple[JobRecord, ...]
    """Those that use it."""
    used: int
    """Bytes that its files take; -1 if that is not known."""
    warning: str


class VolumeViews:
    """Views of the volumes in the catalog."""

    def __init__(self, catalog: VolumeCatalog, backings: Backings, paths: AgentPaths) -> None:
        self._catalog = catalog
        self._backings = backings
        self._paths = paths

    async def of(self, volume: Volume) -> VolumeView:
        """Return the volume as it is now."""
        (view,) = await self._views([volume.name])
        return view

    async def all(self) -> list[VolumeView]:
        """Return every volume, by name."""
        return await self._views(sorted(volume.name for volume in self._catalog))

    async def _views(self, names: Sequence[str]) -> list[VolumeView]:
        volumes = [volume for name in names if (volume := self._catalog.get(name)) is not None]
        used = await asyncio.to_thread(lambda: [self._backings.used(volume) for volume in volumes])
        return [
            VolumeView(
                volume=volume,
                path=str(self._paths.volume(volume.name).contents),
                unit=self._backings.unit(volume),
                jobs=tuple(self._catalog.users(volume.name)),
                used=figure,
                warning=self._warning(volume, is_known=figure >= 0),
            )
            for volume, figure in zip(volumes, used, strict=True)
        ]

    def _warning(self, volume: Volume, *, is_known: bool) -> str:
        if volume.state is not VolumeState.READY:
            return f"it is {volume.state}"
        fault = self._catalog.fault(volume.name)
        if fault is not None:
            return fault
        if not is_known:
            return volume.warning or "it is not mounted; the next job that uses it mounts it"
        return volume.warning
