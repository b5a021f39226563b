"""Which volumes there are now, who has them, and why some cannot be used.

A volume is used by the jobs that are active (jobs/registry.py), from the beginning of their launch on; those
that wait do not count. Whoever makes, readies, changes or removes a volume has its lock, and a removal looks
for users behind it: so either the removal is refused, or the jobs are.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

from joblet_agent.config import VolumesConfig
from joblet_agent.errors import JobletError, NotFound, NotOffered, WrongState
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobRecord
from joblet_agent.model.volume import Volume, VolumeState
from joblet_agent.ports import VolumeStore
from joblet_agent.volumes.backing import Backings

_MOST_SHOWN = 3

T = TypeVar("T")

_log = logging.getLogger(__name__)


class VolumeCatalog:
    """All volumes by name, and the work on them."""

    def __init__(
        self, config: VolumesConfig, store: VolumeStore, registry: JobRegistry, backings: Backings
    ) -> None:
        self._config = config
        self._store = store
        self._registry = registry
        self._backings = backings
        self._volumes: dict[str, Volume] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._faults: dict[str, str] = {}
        """Why volumes cannot be used now."""
        self._lent: Counter[str] = Counter()
        """How many copies into and out of a volume are under way."""
        self._tasks = Tasks()

    async def open(self) -> None:
        """Read what there is."""
        self._volumes = {volume.name: volume for volume in await self._store.all()}

    async def close(self) -> None:
        """Do no more; what was under way the next agent completes."""
        await self._tasks.close()

    # Work.

    def start(self, work: Coroutine[Any, Any, T], title: str) -> asyncio.Task[T]:
        """Do work in the background."""
        return self._tasks.start(work, title)

    async def finish(self, work: Coroutine[Any, Any, T], title: str) -> T:
        """Do work to its end, even if the caller goes away meanwhile."""
        return await asyncio.shield(self.start(work, title))

    @asynccontextmanager
    async def locked(self, name: str) -> AsyncIterator[None]:
        """Let nobody else make, ready, change or remove the volume."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if name not in self._volumes and not lock.locked() and self._locks.get(name) is lock:
                del self._locks[name]

    # Volumes.

    def __len__(self) -> int:
        return len(self._volumes)

    def __iter__(self) -> Iterator[Volume]:
        """Return the volumes in no order."""
        return iter(list(self._volumes.values()))

    def get(self, name: str) -> Volume | None:
        """Return the volume of the name."""
        return self._volumes.get(name)

    def known(self, name: str, act: str) -> Volume:
        """Return the volume. Raises NotFound."""
        volume = self._volumes.get(name)
        if volume is None:
            raise NotFound(
                f"cannot {act}: there is no volume {quoted(name)}",
                reason="VOLUME_NOT_FOUND",
                hint="see: rnx volume list",
            )
        return volume

    def settled(self, name: str, act: str) -> Volume:
        """Return the volume. Raises NotFound, WrongState while it is made or removed."""
        volume = self.known(name, act)
        if volume.state is not VolumeState.READY:
            raise WrongState(
                f"cannot {act}: volume {name} is {volume.state}",
                reason="VOLUME_NOT_READY",
                hint="see: rnx volume inspect",
            )
        return volume

    def show(self, volume: Volume) -> None:
        """Let the volume be known here, stored or not."""
        self._volumes[volume.name] = volume

    async def announce(self, volume: Volume) -> None:
        """Store what the volume becomes, for the next agent; here it is as it was."""
        await self._store.save(volume)

    async def save(self, volume: Volume) -> None:
        """Store the volume, then let it be known here."""
        await self._store.save(volume)
        self._volumes[volume.name] = volume

    async def forget(self, name: str) -> None:
        """Let there be no volume of the name."""
        await self._store.delete(name)
        self._volumes.pop(name, None)
        self._faults.pop(name, None)

    # Use.

    def require_enabled(self, act: str) -> None:
        """Raise NotOffered unless the configuration allows volumes."""
        if not self._config.enabled:
            raise NotOffered(
                f"cannot {act}: the configuration of this agent allows no volumes (volumes.enabled)",
                reason="VOLUMES_DISABLED",
                hint="ask the administrator of the host",
            )

    async def ready(self, volume: Volume) -> Volume:
        """Let the volume be usable, if it is not; its lock is the caller's."""
        try:
            is_used = any(record.boot_id for record in self.users(volume.name))
            warning = await self._backings.ready(volume, is_used=is_used)
        except JobletError as error:
            self._faults[volume.name] = str(error)
            raise
        self.clear_fault(volume.name)
        if warning:
            _log.warning("volume %s: %s", volume.name, warning)
            volume = replace(volume, warning=warning)
            await self.save(volume)
        return volume

    def fault(self, name: str) -> str | None:
        """Say why the volume cannot be used now."""
        return self._faults.get(name)

    def clear_fault(self, name: str) -> None:
        """Take it that the volume can be used."""
        self._faults.pop(name, None)

    def users(self, name: str) -> list[JobRecord]:
        """Return the jobs that use the volume."""
        return [
            job.record
            for job in self._registry
            if any(mount.volume == name for mount in job.record.spec.volumes)
        ]

    async def let_go(self, name: str) -> None:
        """Return when jobs that have ended use the volume no more (JobRegistry.let_go)."""
        await self._registry.let_go([record.id for record in self.users(name)])

    async def require_unused(self, name: str, act: str) -> None:
        """Raise WrongState if a job uses the volume, or a copy is under way; its lock is the caller's."""
        await self.let_go(name)
        users = self.users(name)
        if users:
            shown = ", ".join(record.id[:8] for record in users[:_MOST_SHOWN])
            more = ", …" if len(users) > _MOST_SHOWN else ""
            raise WrongState(
                f"cannot {act} volume {name}: {len(users)} of the jobs use it: {shown}{more}",
                reason="VOLUME_IN_USE",
                hint="wait until they have ended, or stop them: rnx stop",
            )
        if self._lent[name]:
            raise WrongState(
                f"cannot {act} volume {name}: files are being copied",
                reason="VOLUME_IN_USE",
                hint="try again when the copy has ended",
            )

    async def lend(self, name: str, act: str, *, is_read: bool = False) -> Volume:
        """Return the volume, ready; nobody removes it until it is given back.

        Only to be read, it is given as long as it is there, whatever is wrong with it.
        """
        async with self.locked(name):
            volume = self.settled(name, act)
            if not is_read or not await self._backings.is_there(volume):
                volume = await self.ready(volume)
            self._lent[name] += 1
            return volume

    def give_back(self, name: str) -> None:
        """End what ``lend`` has begun."""
        self._lent[name] -= 1
        if not self._lent[name]:
            del self._lent[name]
