"""One line on a terminal that tells how far something is. Without a terminal: nothing."""

import sys
import time
from types import TracebackType

_EVERY = 0.1
_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_STEP = 1024


class Progress:
    """Counts bytes towards a total; 0 when nobody knows the total."""

    def __init__(self, verb: str, total: int) -> None:
        self._verb = verb
        self._total = total
        self._done = 0
        self._is_shown = sys.stderr.isatty()
        self._next = 0.0
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            self._show()
            print(file=sys.stderr)

    def expect(self, more: int) -> None:
        """Add to the total."""
        self._total += more

    def add(self, count: int) -> None:
        """Count bytes; the line changes ten times a second at most."""
        self._done += count
        if self._is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self._show()

    def _show(self) -> None:
        text = f"{self._verb} {size_text(self._done)}"
        if self._total:
            text += f" of {size_text(self._total)} ({100 * self._done // self._total} %)"
        print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
        self._width = len(text)


def size_text(size: int) -> str:
    """Return a size for people: 512 bytes, 1.5 MB."""
    number, place = float(size), 0
    while number >= _STEP and place < len(_UNITS) - 1:
        number, place = number / _STEP, place + 1
    return f"{size} bytes" if place == 0 else f"{number:.1f} {_UNITS[place]}"
