"""The use cases of volumes: make, list, grow, remove.

The order that makes kill -9 harmless between any two lines::

    create   store CREATING → its files, its mount → store READY
    remove   no job uses it → store REMOVING → unmount → delete → forget

What the store has as CREATING or REMOVING when the agent starts is removed.

File systems stay mounted from the creation on: a start pays nothing, figures are there at any time, and a
mount that nobody uses costs nothing.
"""

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import replace

from joblet_agent.config import VolumesConfig
from joblet_agent.errors import InvalidRequest, JobletError, LimitReached, WrongState
from joblet_agent.jobs.check import quoted
from joblet_agent.model.volume import Backing, Volume, VolumeState, VolumeType
from joblet_agent.ports import Clock
from joblet_agent.units import format_bytes
from joblet_agent.volumes.backing import Backings
from joblet_agent.volumes.catalog import VolumeCatalog
from joblet_agent.volumes.check import check_name, parse_size, parse_type
from joblet_agent.volumes.views import VolumeView, VolumeViews

_RECOVERED_AT_ONCE = 4

_log = logging.getLogger(__name__)


class VolumeService:
    """What callers can do with volumes."""

    def __init__(
        self,
        *,
        config: VolumesConfig,
        catalog: VolumeCatalog,
        backings: Backings,
        views: VolumeViews,
        clock: Clock,
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._backings = backings
        self._views = views
        self._clock = clock

    async def open(self) -> None:
        """Read what there is, then complete and repair it in the background."""
        await self._backings.open()
        await self._catalog.open()
        names = [volume.name for volume in self._catalog]
        if names:
            self._catalog.start(self._recover(names), "volumes")

    async def close(self) -> None:
        """Do no more; what was under way the next agent completes."""
        self._backings.close()
        await self._catalog.close()

    async def _recover(self, names: Iterable[str]) -> None:
        slots = asyncio.Semaphore(_RECOVERED_AT_ONCE)

        async def recover(name: str) -> None:
            async with slots, self._catalog.locked(name):
                volume = self._catalog.get(name)
                if volume is None:
                    return
                try:
                    if volume.state is VolumeState.READY:
                        await self._backings.images.sweep(volume)
                        await self._catalog.ready(volume)
                    else:
                        await self._finish_removal(volume)
                except JobletError as error:
                    _log.error("volume %s: %s", name, error)

        await asyncio.gather(*map(recover, names))

    async def create(self, name: str, size_text: str, type_text: str) -> VolumeView:
        """Make a volume.

        Raises InvalidRequest, NotOffered, LimitReached, WrongState, HostUnavailable, StoreFailed.
        """
        check_name(name)
        type_, size = parse_type(type_text), self._checked_size(size_text, "create")
        self._catalog.require_enabled("create volume")
        making = self._create(name, size, size_text, type_)
        return await self._views.of(await self._catalog.finish(making, f"create-volume-{name}"))

    async def _create(self, name: str, size: int, size_text: str, type_: VolumeType) -> Volume:
        async with self._catalog.locked(name):
            self._require_room(name)
            await self._backings.require_free(name)
            place = self._free_place()
            backing = await self._backings.choose(type_)
            volume = Volume(
                name=name,
                type=type_,
                backing=backing,
                size=size,
                size_text=size_text,
                number=self._config.uid_first + place,
                created_at=self._clock.now(),
                project=self._config.project_first + place if backing is Backing.QUOTA else 0,
            )
            self._catalog.show(volume)  # from here on its number is taken
            try:
                await self._catalog.save(volume)
                await self._backings.make(volume)
                made = replace(volume, state=VolumeState.READY)
                await self._catalog.save(made)
            except JobletError:
                await self._undo(volume)
                raise
            return made

    def _require_room(self, name: str) -> None:
        if self._catalog.get(name) is not None:
            raise WrongState(
                f"cannot create volume {name}: there is one of this name already",
                reason="VOLUME_EXISTS",
                hint="see: rnx volume list",
            )
        if len(self._catalog) >= self._config.most:
            raise LimitReached(
                f"cannot create volume {name}: there are {len(self._catalog)} already (volumes.most)",
                reason="TOO_MANY_VOLUMES",
                hint="remove one that is not needed: rnx volume remove",
            )

    async def _undo(self, volume: Volume) -> None:
        """Leave nothing of a volume that could not be made."""
        try:
            await self._finish_removal(volume)
        except JobletError as error:
            _log.error("volume %s could not be made, and something is left of it: %s", volume.name, error)

    def _free_place(self) -> int:
        taken = {volume.number for volume in self._catalog}
        place = 0
        while self._config.uid_first + place in taken:
            place += 1
        return place

    async def all(self) -> list[VolumeView]:
        """Return every volume, by name."""
        return await self._views.all()

    async def get(self, name: str) -> VolumeView:
        """Return the volume. Raises NotFound."""
        return await self._views.of(self._catalog.known(name, "show volume"))

    async def remove(self, name: str) -> None:
        """Remove the volume with what is in it.

        Raises NotFound, WrongState if a job uses it, HostUnavailable.
        """
        self._catalog.known(name, "remove volume")
        await self._catalog.finish(self._remove(name), f"remove-volume-{name}")

    async def _remove(self, name: str) -> None:
        async with self._catalog.locked(name):
            volume = self._catalog.known(name, "remove volume")
            await self._catalog.require_unused(name, "remove")
            going = replace(volume, state=VolumeState.REMOVING)
            if volume.state is VolumeState.READY:
                await self._catalog.announce(going)
                try:
                    await self._backings.release(volume)
                except JobletError:
                    await self._catalog.announce(volume)
                    raise
            self._catalog.show(going)
            await self._finish_removal(going)

    async def _finish_removal(self, volume: Volume) -> None:
        await self._backings.release(volume)
        await self._backings.destroy(volume)
        await self._catalog.forget(volume.name)

    async def grow(self, name: str, size_text: str) -> VolumeView:
        """Give the volume more room. Raises NotFound, InvalidRequest, LimitReached, HostUnavailable."""
        size = self._checked_size(size_text, "grow")
        self._catalog.known(name, "grow volume")
        growing = self._grow(name, size, size_text)
        return await self._views.of(await self._catalog.finish(growing, f"grow-volume-{name}"))

    async def _grow(self, name: str, size: int, size_text: str) -> Volume:
        async with self._catalog.locked(name):
            volume = await self._catalog.ready(self._catalog.settled(name, "grow volume"))
            if size <= volume.size:
                raise InvalidRequest(
                    f"cannot grow volume {name}: it has {format_bytes(volume.size)} already, "
                    f"and {quoted(size_text)} is not more",
                    reason="VOLUME_NOT_SMALLER",
                    hint="volumes do not become smaller: copy what is in it to a new one",
                )
            grown = replace(volume, size=size, size_text=size_text)
            await self._backings.grow(grown, is_used=bool(self._catalog.users(name)))
            await self._catalog.save(grown)
            return grown

    def _checked_size(self, text: str, act: str) -> int:
        size = parse_size(text, act=act)
        if self._config.max_size and size > self._config.max_size:
            raise LimitReached(
                f"cannot {act} volume: {quoted(text)} is more than {format_bytes(self._config.max_size)} "
                "(volumes.max_size)",
                reason="VOLUME_TOO_LARGE",
            )
        return size
