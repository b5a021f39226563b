"""Units of jobs that were released, until systemd has unloaded them.

To release is to ask: systemd keeps a unit that fails while it stops, and one with something left in its
control group, although that may end later. So it is asked again, until the unit is gone.
"""

import asyncio
import logging
from typing import Final

from joblet_agent.errors import JobletError, NotFound
from joblet_agent.systemd.bus import SystemBus

_AGAIN: Final = 5.0
"""Seconds between one request and the next."""

_log = logging.getLogger(__name__)


class LeavingUnits:
    """Has released units unloaded."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus
        self._names: set[str] = set()
        self._again: asyncio.Task[None] | None = None

    async def release(self, name: str, *, has_failed: bool | None) -> None:
        """Let systemd forget an ended unit; ``has_failed`` is None if nobody knows. One that is gone is fine.

        Raises HostUnavailable, and LaunchFailed with systemd's words; it is asked again all the same.
        """
        self._names.add(name)
        if self._again is None or self._again.done():
            self._again = asyncio.create_task(self._ask_again(), name="units-leaving")
        await self._ask(name, has_failed)

    def forget(self, name: str) -> None:
        """Ask no more for this unit: it is unloaded, or one of this name is about to start."""
        self._names.discard(name)

    async def close(self) -> None:
        """Ask no more."""
        if self._again is not None:
            self._again.cancel()
            await asyncio.gather(self._again, return_exceptions=True)

    async def _ask(self, name: str, has_failed: bool | None) -> None:
        # A failed unit is unloaded by the reset, one that "exited" by the stop; neither harms the other kind.
        try:
            if has_failed is not False:
                await self._bus.manager("ResetFailedUnit", "s", [name])
            if has_failed is not True and name in self._names:
                await self._bus.manager("StopUnit", "ss", [name, "replace"])
        except NotFound:
            self._names.discard(name)

    async def _ask_again(self) -> None:
        asked: set[str] = set()
        told: set[str] = set()
        while self._names:
            for name in asked & self._names:
                if name not in told:
                    _log.info("%s has ended and systemd keeps it: asking again to unload it", name)
                try:
                    await self._ask(name, None)
                except JobletError as error:
                    _log.debug("%s is not released yet: %s", name, error)
            told = asked & self._names
            asked = set(self._names)
            await asyncio.sleep(_AGAIN)
