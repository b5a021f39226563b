"""One job's output: what is there already, then what comes, by offset.

The file is the truth and systemd writes it, so a reader needs nothing but its own offset: no gap,
no duplicate, no buffer that others share. Readers of one job share the kernel's page cache alone;
a slow one holds one chunk.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import ParamSpec, Self, TypeVar

from joblet_agent.config import LogsConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest
from joblet_agent.jobs.log_file import LogFile
from joblet_agent.jobs.log_grep import LineFilter, Run
from joblet_agent.jobs.log_scan import tail_offset
from joblet_agent.jobs.log_times import TimeIndex, first_offset_since
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import LogQuery
from joblet_agent.ports import FileWatcher

_CHUNK_BYTES = 256 * 1024
_DISK_THREADS, _SEARCH_THREADS = 4, 2
_NS_PER_SECOND = 1_000_000_000
_TICK_NS = 10_000_000
"""Files are as old as the kernel's last tick says, 10 ms before the clock at most (HZ=100)."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes of a log and the position of the first of them."""

    offset: int
    payload: bytes
    time_ns: int = 0
    """Unix time at which it was written, if the query wants to know."""


class JobEnd:
    """The end of a job, for those who wait for it. ``set`` it when all output is in the log."""

    __slots__ = ("_ended", "_listeners")

    def __init__(self) -> None:
        self._ended = False
        self._listeners: set[Callable[[], None]] = set()

    @property
    def ended(self) -> bool:
        """True when nothing is written any more."""
        return self._ended

    def set(self) -> None:
        """Wake everybody, for good."""
        self._ended = True
        listeners, self._listeners = self._listeners, set()
        for listener in listeners:
            listener()

    async def wait(self) -> None:
        """Return when the job has ended."""
        event = asyncio.Event()
        self.listen(event.set)
        try:
            await event.wait()
        finally:
            self.forget(event.set)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` once, at the end; at once if that was before."""
        if self._ended:
            listener()
        else:
            self._listeners.add(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Do not call the listener any more."""
        self._listeners.discard(listener)


class LogReader:
    """Reads logs of jobs, for any number of readers."""

    def __init__(self, watcher: FileWatcher, config: LogsConfig) -> None:
        """Nothing beyond ``max_size`` is served: what is there will go (log_keeper.py)."""
        self._watcher = watcher
        self._config = config
        self._disk = ThreadPoolExecutor(_DISK_THREADS, "log-disk")
        self._search = ThreadPoolExecutor(_SEARCH_THREADS, "log-search")

    def close(self) -> None:
        """End the threads; reads under way finish first."""
        self._disk.shutdown(wait=False, cancel_futures=True)
        self._search.shutdown(wait=False, cancel_futures=True)

    def size(self, paths: JobPaths) -> int:
        """Return how many bytes can be read now; 0 without a log."""
        try:
            return min(paths.log.stat().st_size, self._config.max_size)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise _unreadable(paths.log, error) from error

    async def read(self, paths: JobPaths, query: LogQuery, end: JobEnd) -> AsyncGenerator[LogChunk, None]:
        """Yield what the query wants, ascending; a missing log is waited for, or empty if the job ended.

        ``since`` and times are exact to about a second (log_times.py). Raises InvalidRequest with reason
        LOG_QUERY_INVALID, PATTERN_INVALID or PATTERN_TOO_SLOW, and HostUnavailable.
        """
        _check(query)
        async with aclosing(self._wanted(paths, query, end)) as chunks:
            if not query.timestamps:
                async for chunk in chunks:
                    yield chunk
                return
            with closing(TimeIndex(paths.log_times)) as index:
                async for chunk in chunks:
                    for part in await self._from_disk(paths.log_times, _timed, chunk, index, paths.log):
                        yield part

    async def _wanted(self, paths: JobPaths, query: LogQuery, end: JobEnd) -> AsyncGenerator[LogChunk, None]:
        async with aclosing(self._bytes(paths, query, end)) as chunks:
            if not query.grep:
                async for chunk in chunks:
                    yield chunk
                return
            wanted = await self._searching(LineFilter, query.grep)
            async for chunk in chunks:
                for run in await self._searching(wanted.feed, chunk.offset, chunk.payload):
                    yield _chunk(run)
            for run in await self._searching(wanted.finish):
                yield _chunk(run)

    async def _bytes(self, paths: JobPaths, query: LogQuery, end: JobEnd) -> AsyncGenerator[LogChunk, None]:
        with _Signs(self._watcher, paths, end) as signs:
            file = await self._opened(paths, query, end, signs)
            if file is None:
                return
            with file:
                offset, stop = await self._range(file, paths, query)
                while True:
                    has_ended = end.ended  # before the size: then all output is in it
                    limit = min(file.size, self._config.max_size) if stop is None else stop
                    payload = (
                        await file.read(offset, min(limit - offset, _CHUNK_BYTES)) if offset < limit else b""
                    )
                    if payload:
                        yield LogChunk(offset, payload)
                        offset += len(payload)
                        await asyncio.sleep(0)  # others are served, too, while all is in the page cache
                    elif stop is not None or has_ended or file.is_deleted:
                        return
                    elif offset >= self._config.max_size:
                        await end.wait()
                    else:
                        await signs.wait()

    async def _opened(self, paths: JobPaths, query: LogQuery, end: JobEnd, signs: "_Signs") -> LogFile | None:
        """Open the log once it is there; None if it never will be, or is not now and nobody follows."""
        while True:
            has_ended = end.ended
            try:
                return LogFile(paths.log, self._disk)
            except FileNotFoundError:
                if has_ended or not query.follow:
                    return None
            await signs.wait()

    async def _range(self, file: LogFile, paths: JobPaths, query: LogQuery) -> tuple[int, int | None]:
        """Return the first byte wanted, and where to stop if the query does not follow."""
        size = min(file.size, self._config.max_size)
        start = query.offset
        if query.since is not None:
            start = max(start, await self._offset_since(file, paths, query.since))
        if query.tail_lines is not None and start < size:
            start = await tail_offset(file, start, size, query.tail_lines)
        return start, None if query.follow else size

    async def _offset_since(self, file: LogFile, paths: JobPaths, since: datetime) -> int:
        since_ns = int(since.timestamp() * _NS_PER_SECOND) - _TICK_NS
        size = file.size  # before its time: what is written in between has come since
        if file.modified_ns < since_ns:
            return size
        return await self._from_disk(paths.log_times, first_offset_since, paths.log_times, since_ns)

    async def _from_disk(self, path: Path, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do blocking work on a file of the log in its thread."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._disk, partial(work, *args, **kwargs))
        except OSError as error:
            raise _unreadable(path, error) from error

    async def _searching(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a step of a search in its thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._search, partial(work, *args, **kwargs))


class _Signs:
    """What a reader waits for: the log may have grown, or the job has ended."""

    def __init__(self, watcher: FileWatcher, paths: JobPaths, end: JobEnd) -> None:
        self._changed = asyncio.Event()
        self._watch = watcher.watch(paths.log, self._changed.set)
        self._end = end
        self._is_armed = False

    def __enter__(self) -> Self:
        self._end.listen(self._changed.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.forget(self._changed.set)
        self._watch.close()

    async def wait(self) -> None:
        """Return after a change since the last return; the first call only prepares: look again then."""
        if self._is_armed:
            await self._changed.wait()
        else:
            self._changed.clear()
            self._watch.arm()
        self._is_armed = not self._is_armed


def _check(query: LogQuery) -> None:
    if query.offset < 0 or (query.tail_lines is not None and query.tail_lines < 0):
        raise InvalidRequest(
            "cannot read the log: offset and number of lines must not be negative", reason="LOG_QUERY_INVALID"
        )


def _timed(chunk: LogChunk, index: TimeIndex, log: Path) -> list[LogChunk]:
    """Split the chunk by when its parts were written."""
    try:
        modified_ns = log.stat().st_mtime_ns
    except FileNotFoundError:  # deleted meanwhile: its end is near
        modified_ns = time.time_ns()
    timed, start = [], chunk.offset
    for stop, time_ns in index.parts(start, start + len(chunk.payload), modified_ns):
        piece = chunk.payload[start - chunk.offset : stop - chunk.offset]
        timed.append(LogChunk(start, piece, time_ns))
        start = stop
    return timed


def _chunk(run: Run) -> LogChunk:
    return LogChunk(run.offset, bytes(run.lines))


def _unreadable(path: Path, error: OSError) -> HostUnavailable:
    return HostUnavailable(f"cannot read log {path}: {error.strerror}", reason="LOG_UNREADABLE")
