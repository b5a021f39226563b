"""``ports.VolumeStore`` in memory."""

import asyncio
from collections.abc import Sequence

from joblet_agent.errors import StoreFailed
from joblet_agent.model.volume import Volume


class MemoryVolumeStore:
    """Keeps volumes in a dict."""

    def __init__(self) -> None:
        self.volumes: dict[str, Volume] = {}
        self.history: list[Volume] = []
        self.failure: StoreFailed | None = None

    async def save(self, volume: Volume) -> None:
        await self._write()
        self.volumes[volume.name] = volume
        self.history.append(volume)

    async def delete(self, name: str) -> None:
        await self._write()
        self.volumes.pop(name, None)

    async def all(self) -> Sequence[Volume]:
        return sorted(self.volumes.values(), key=lambda volume: volume.name)

    async def _write(self) -> None:
        await asyncio.sleep(0)  # a real one takes a moment, and so may lose its caller
        if self.failure is not None:
            raise self.failure
