"""Reading a job's log without holding up the event loop."""

import asyncio
import os
from concurrent.futures import Executor
from pathlib import Path
from types import TracebackType
from typing import Self

from joblet_agent.errors import HostUnavailable


class LogFile:
    """An open log. Reads what the page cache holds at once, and what a disk must bring in a thread."""

    def __init__(self, path: Path, executor: Executor) -> None:
        """Open the log. Raises FileNotFoundError, or HostUnavailable for what else the disk says."""
        self._path = path
        self._executor = executor
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise _unreadable(path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A read that was given up may still be under way in its thread: it consumes nothing, and
        # what it brings goes nowhere.
        os.close(self._fd)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return os.fstat(self._fd).st_size

    @property
    def modified_ns(self) -> int:
        """Unix time of the last write."""
        return os.fstat(self._fd).st_mtime_ns

    @property
    def is_deleted(self) -> bool:
        """True when the log has lost its name: nothing will come any more."""
        return os.fstat(self._fd).st_nlink == 0

    async def read(self, offset: int, most: int) -> bytes:
        """Return up to ``most`` bytes from ``offset``; fewer at the end or where the cache ends."""
        try:
            cached = self._read_cached(offset, most)
            if cached is not None:
                return cached
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._executor, os.pread, self._fd, most, offset)
        except OSError as error:
            raise _unreadable(self._path, error) from error

    def _read_cached(self, offset: int, most: int) -> bytes | None:
        """Return what needs no disk, None when that is nothing or the file system cannot tell."""
        buffer = bytearray(most)
        try:
            count = os.preadv(self._fd, [buffer], offset, os.RWF_NOWAIT)
        except OSError:  # EAGAIN: not in the cache; EOPNOTSUPP: tmpfs of old kernels, overlays
            return None
        del buffer[count:]
        return bytes(buffer)


def _unreadable(path: Path, error: OSError) -> HostUnavailable:
    return HostUnavailable(f"cannot read log {path}: {error.strerror}", reason="LOG_UNREADABLE")
