"""Long blocking work in a thread, which ends soon after nobody wants it any more."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Unwanted(Exception):
    """Whoever wanted the work is gone; never seen outside of in_thread()."""


class Wanted:
    """Is asked between two steps of the work, each of them short."""

    def __init__(self) -> None:
        self._gone = threading.Event()

    def check(self) -> None:
        """Raise Unwanted when nobody waits for the work."""
        if self._gone.is_set():
            raise Unwanted

    def end(self) -> None:
        """Have the next check() raise."""
        self._gone.set()


async def in_thread(work: Callable[[Wanted], T]) -> T:
    """Run the work in a thread. Cancelled, it waits for its end: what is removed next is not written to."""
    wanted = Wanted()
    running = asyncio.ensure_future(asyncio.to_thread(work, wanted))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        wanted.end()
        while not running.done():
            with suppress(asyncio.CancelledError):  # said twice, it is no more urgent
                await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # it was looked at: Unwanted, or what came first
        raise
