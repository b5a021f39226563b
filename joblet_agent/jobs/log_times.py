"""When a job's log had which size: what ``rnx log --since`` goes by.

A file of (int64 Unix ns, int64 bytes) pairs, big-endian, ascending: at that time the log had that
many bytes. About one pair a second while the log grows, none while it does not.
"""

import os
import struct
from pathlib import Path

_PAIR = struct.Struct(">qq")
_APART_NS = 1_000_000_000


class TimeIndexWriter:
    """Adds to the index of one log; opens the file only to write a pair."""

    __slots__ = ("_last", "_path", "_pending")

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = _last_pair(path)
        self._pending: tuple[int, int] | None = None

    def note(self, modified_ns: int, size: int) -> None:
        """Take in that the last of ``size`` bytes was written at ``modified_ns``. Raises OSError."""
        last_ns, last_size = self._last
        if size <= last_size:
            return
        now = (max(modified_ns, last_ns), size)  # the clock may step back
        if now[0] - last_ns >= _APART_NS and self._pending is not None:
            self._append(self._pending)  # or what was written then would look as if it came now
            self._pending = None
        if now[0] - self._last[0] >= _APART_NS:
            self._append(now)
        else:
            self._pending = now

    def finish(self) -> None:
        """Write what was held back. Raises OSError."""
        if self._pending is not None:
            self._append(self._pending)
            self._pending = None

    def _append(self, pair: tuple[int, int]) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._path, flags, 0o600)
        try:
            torn = os.fstat(fd).st_size % _PAIR.size  # a crash or a full disk in the middle of a pair
            if torn:
                os.ftruncate(fd, os.fstat(fd).st_size - torn)
            os.write(fd, _PAIR.pack(*pair))
        finally:
            os.close(fd)
        self._last = pair


def first_offset_since(path: Path, since_ns: int) -> int:
    """Return an offset that everything written at or after the time lies behind.

    At most about a second of earlier output lies behind it, too; more if the agent was not
    running then. 0 when there is no index. Blocking; raises OSError.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return 0
    try:
        low, high = 0, os.fstat(fd).st_size // _PAIR.size
        while low < high:  # the number of pairs before the time
            middle = (low + high) // 2
            if _pair(fd, middle)[0] < since_ns:
                low = middle + 1
            else:
                high = middle
        return _pair(fd, low - 1)[1] if low else 0
    finally:
        os.close(fd)


class TimeIndex:
    """Tells when which part of a log was written; keeps the index open. Blocking."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def close(self) -> None:
        """Let go of the index; again is no error."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def parts(self, start: int, end: int, modified_ns: int) -> list[tuple[int, int]]:
        """Split the range of offsets by when it was written: (end of the part, Unix ns), ascending.

        What the index does not have yet counts as written at ``modified_ns``. Raises OSError.
        """
        parts = []
        number = self._first_beyond(start)
        while start < end:
            found = self._pair(number)
            if found is None:
                parts.append((end, modified_ns))
                break
            time_ns, size = found
            start = min(size, end)
            parts.append((start, time_ns))
            number += 1
        return parts

    def _first_beyond(self, offset: int) -> int:
        """Return the number of the pair whose part holds the offset: the first with a larger size."""
        low, high = 0, self._count()
        while low < high:
            middle = (low + high) // 2
            found = self._pair(middle)
            if found is not None and found[1] <= offset:
                low = middle + 1
            else:
                high = middle
        return low

    def _count(self) -> int:
        if self._fd is None:
            try:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return 0
        return os.fstat(self._fd).st_size // _PAIR.size

    def _pair(self, number: int) -> tuple[int, int] | None:
        if self._fd is None:
            return None
        data = os.pread(self._fd, _PAIR.size, number * _PAIR.size)
        if len(data) < _PAIR.size:
            return None
        time_ns, size = _PAIR.unpack(data)
        return time_ns, size


def _pair(fd: int, number: int) -> tuple[int, int]:
    time_ns, size = _PAIR.unpack(os.pread(fd, _PAIR.size, number * _PAIR.size))
    return time_ns, size


def _last_pair(path: Path) -> tuple[int, int]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return 0, 0
    try:
        count = os.fstat(fd).st_size // _PAIR.size
        return _pair(fd, count - 1) if count else (0, 0)
    finally:
        os.close(fd)
