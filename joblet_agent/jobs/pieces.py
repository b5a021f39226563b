"""A blocking generator for the event loop: each step runs in a thread."""

import asyncio
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar, cast

T = TypeVar("T")


class Pieces(Generic[T]):
    """An asynchronous iterator over what a generator yields. Close it, whatever happens."""

    def __init__(self, steps: Iterator[T], at_end: Callable[[], None] = lambda: None) -> None:
        """``at_end`` is called once, on the event loop, when all is let go."""
        self._at_end = at_end
        self._steps = cast("Generator[T, None, None]", steps)
        # A caller that is cancelled does not stop the thread that works for it.
        self._lock = threading.Lock()

    def __aiter__(self) -> "Pieces[T]":
        return self

    async def __anext__(self) -> T:
        found = await asyncio.to_thread(self._step)
        if not found:
            raise StopAsyncIteration
        return found[0]

    async def aclose(self) -> None:
        """Let go of everything the generator holds, once its step has ended."""
        try:
            await asyncio.to_thread(self._close)
        finally:
            at_end, self._at_end = self._at_end, lambda: None
            at_end()

    def _step(self) -> list[T]:
        with self._lock:
            for found in self._steps:
                return [found]
            return []

    def _close(self) -> None:
        with self._lock:
            self._steps.close()
