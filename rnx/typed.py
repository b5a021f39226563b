"""What comes from standard input, and calls to look up from it; what nobody asks for stays where it is."""

import os
import queue
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

STDIN = 0
PIECE = 64 * 1024


class Typed(Protocol):
    """``close`` it, which ends the iteration."""

    def __iter__(self) -> Iterator[bytes | None]:
        """Yield pieces of input, b"" at its end, and None after a call. Raises OSError."""

    def call(self) -> None:
        """Make the iteration yield None, soon. A handler of signals may call it."""

    def close(self) -> None:
        """End the iteration."""


def open_typed(*, reads: bool) -> Typed:
    """Return what serves on this system; ``reads``: pieces of input are wanted, too."""
    if sys.platform != "win32":
        return BySelect(reads=reads)
    else:  # noqa: RET505 - mypy leaves out a branch, not what follows one
        return ByThread(reads=reads)


class ByThread:
    """For Windows, which cannot wait for a file and something else at once. It reads one piece ahead."""

    def __init__(self, *, reads: bool) -> None:
        self._events: queue.SimpleQueue[bytes | OSError | str] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(1)
        if reads:
            threading.Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[bytes | None]:
        while (event := self._events.get()) != "close":
            if isinstance(event, OSError):
                raise event
            if isinstance(event, str):
                yield None
            else:
                yield event
                self._wanted.release()

    def call(self) -> None:
        """Implement Typed."""
        self._events.put("call")

    def close(self) -> None:
        """Implement Typed."""
        self._events.put("close")

    def _read(self) -> None:
        piece = b"more"
        while piece:
            self._wanted.acquire()
            try:
                piece = os.read(STDIN, PIECE)
            except OSError as error:
                self._events.put(error)
                return
            self._events.put(piece)


if sys.platform != "win32":

    class BySelect:
        """For systems where a file can be waited for."""

        def __init__(self, *, reads: bool) -> None:
            self._reads = reads
            self._wakes, self._waker = os.pipe()
            os.set_blocking(self._wakes, False)
            os.set_blocking(self._waker, False)

        def __iter__(self) -> Iterator[bytes | None]:
            with os.fdopen(self._wakes, "rb", buffering=0) as wakes:
                waiting = [wakes.fileno(), *([STDIN] if self._reads else [])]
                while True:
                    for fd in select.select(waiting, [], [])[0]:
                        if fd != STDIN:
                            if wakes.read(PIECE) == b"":
                                return
                            yield None
                        elif (piece := _read_if_there()) is not None:
                            yield piece
                            if not piece:
                                waiting.remove(STDIN)

        def call(self) -> None:
            """Implement Typed."""
            with suppress(BlockingIOError):  # it is awake
                os.write(self._waker, b"w")

        def close(self) -> None:
            """Implement Typed."""
            os.close(self._waker)


def _read_if_there() -> bytes | None:
    """Return the next piece, b"" for the end, None for nothing now: the file may be set not to block."""
    try:
        return os.read(STDIN, PIECE)
    except BlockingIOError:
        return None
