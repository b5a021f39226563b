"""Work that waits for the network, in threads of its own.

Not in those of asyncio.to_thread: whoever looks up a name may wait for half a minute where nobody can reach
it, others would wait for its place, and the end of the agent for its end.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["run_apart"]

T = TypeVar("T")

_END_SECONDS = 0.5
"""How long a task that is cancelled waits for a thread that has been told so."""


async def run_apart(work: Callable[[], T], abort: Callable[[], None], name: str) -> T:
    """Run it in a thread, and return what it returns.

    ``abort`` makes it end early, and is called when this is cancelled. After half a second more the thread is
    left to itself; it must not do anything but end then.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:  # it is raised where the work is awaited
            tell(done.set_exception, error)
        else:
            tell(done.set_result, result)

    def tell(set_end: Callable[[T], None] | Callable[[BaseException], None], end: T | BaseException) -> None:
        def once() -> None:
            if not done.done():
                set_end(end)  # type: ignore[arg-type]

        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(once)

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        abort()
        await asyncio.wait([done], timeout=_END_SECONDS)
        if done.done():
            done.exception()  # it has been looked at
        else:
            done.cancel()
        raise
