"""Work that makes very many objects, none of which refer to themselves."""

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Pause:
    """How many want it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = 0
        self._was_enabled = False

    def begin(self) -> None:
        with self._lock:
            if not self._wanted:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._wanted += 1

    def end(self) -> None:
        with self._lock:
            self._wanted -= 1
            if not self._wanted and self._was_enabled:
                gc.enable()


_pause = _Pause()


@contextmanager
def collections_paused() -> Iterator[None]:
    """Look for no cycles within the block, in all threads of the process: it would take half of the time.

    A file of 10,000 jobs is a million objects, and each look goes through all there are; no other thread
    runs meanwhile.
    """
    _pause.begin()
    try:
        yield
    finally:
        _pause.end()
