"""A text on a terminal that is drawn again and again, from the upper left corner so that it is calm."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable

from rnx.exits import Unreachable

_LOOKS_FOR_INTERRUPT = 1.0
"""Seconds. Windows notices Ctrl-C only between two waits."""
_REDRAW_SECONDS = 0.2
"""The text is drawn no more often, however fast things change."""


def redraw(text: str) -> None:
    """Put the text in the place of the one before. Long lines are cut, not wrapped: each has its row."""
    lines = "\x1b[K\n".join(text.splitlines())
    print(f"\x1b[?7l\x1b[H{lines}\x1b[K\x1b[J\x1b[?7h", flush=True)


class Screen:
    """A text on a terminal, drawn again after changes."""

    def __init__(self, changes: Callable[[], Iterable[object]], draw: Callable[[], str]) -> None:
        """Take what waits, in a thread of its own, for each change and ends after the last one."""
        self._changes = changes
        self._draw = draw
        self._changed = threading.Event()
        self._has_ended = False
        self._failure: Exception | None = None

    def show(self) -> None:
        """Draw until the last change, until Ctrl-C, or until the watch fails."""
        threading.Thread(target=self._watch, daemon=True).start()
        if sys.platform != "win32":
            signal.signal(signal.SIGWINCH, lambda *_: self._changed.set())
        try:
            self._draw_after_changes()
        except KeyboardInterrupt:
            return

    def _draw_after_changes(self) -> None:
        is_last = False
        while not is_last:
            while not self._changed.wait(_LOOKS_FOR_INTERRUPT):
                pass
            self._changed.clear()
            if self._failure is not None:
                raise self._failure
            is_last = self._has_ended
            try:
                redraw(self._draw())
            except Unreachable:
                continue  # the watch waits for the agent, and comes back with it
            if not is_last:
                time.sleep(_REDRAW_SECONDS)

    def _watch(self) -> None:
        try:
            for _ in self._changes():
                self._changed.set()
            self._has_ended = True
        except Exception as error:  # the thread's top: the other one raises it
            self._failure = error
        self._changed.set()
