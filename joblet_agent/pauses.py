"""Sleeping, and trying again what fails for now: a full disk, a systemd or a bus that is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from joblet_agent.errors import JobletError

_log = logging.getLogger(__name__)


class GrowingPause:
    """The pauses between one try and the next: each twice as long as the one before, up to a bound."""

    def __init__(self, *, first: float = 0.2, most: float = 5.0) -> None:
        """Both in seconds."""
        self._first = first
        self._most = most
        self._next = first

    def reset(self) -> None:
        """Begin with the first one again: a try was good."""
        self._next = self._first

    async def wait(self) -> None:
        """Wait before the next try."""
        await asyncio.sleep(self._next)
        self._next = min(self._next * 2, self._most)


async def do_on_demand(
    wanted: asyncio.Event, work: Callable[[], Awaitable[None]], what: str, pause: GrowingPause
) -> None:
    """Do the work whenever ``wanted`` is set, and again after an error of ours; never returns.

    ``what`` names the work in the log: "compare with systemd".
    """
    while True:
        await wanted.wait()
        wanted.clear()
        try:
            await work()
            pause.reset()
        except JobletError as error:
            _log.warning("cannot %s, trying again: %s", what, error)
            wanted.set()
            await pause.wait()


async def wait_until(wanted: asyncio.Event, seconds: float | None) -> None:
    """Wait until it is set, but so long at most (None: for ever), and clear it."""
    try:
        async with asyncio.timeout(seconds if seconds is None else max(seconds, 0.0)):
            await wanted.wait()
    except TimeoutError:
        pass
    wanted.clear()
