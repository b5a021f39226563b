"""What the agent does about the logs of running jobs: size limit, time index, copy to the journal.

None of it is needed for a job's output to be complete: systemd writes the log, and the agent may be
dead at any time. Here one task per running job looks at the log when it has grown, not before
(inotify), and not again before a pause that its speed of growth decides::

    look ──► limit, index, journal ──► grew: pause ──► look
                                  └──► nothing new: wait for growth or the end of the job

A job that ends is looked at until all is done, then its task ends.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable

from joblet_agent.config import LogsConfig
from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.log_copy import LineCopier
from joblet_agent.jobs.log_times import TimeIndexWriter
from joblet_agent.jobs.logs import JobEnd
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.ports import FileWatch, FileWatcher, JournalCopy

# Beyond the limit a log may grow for a moment by about this much, if its job is fast.
_OVERSHOOT_BYTES = 16 * 1024 * 1024
_PAUSE_LEAST, _PAUSE_MOST = 0.005, 0.1
_PROGRESS_SECONDS = 1.0
_DRAIN_SECONDS = 2.0

_log = logging.getLogger(__name__)


class LogKeeper:
    """Keeps the logs of running jobs. Owned by one who calls ``close``."""

    def __init__(
        self,
        watcher: FileWatcher,
        config: LogsConfig,
        journal: JournalCopy,
        *,
        on_truncated: Callable[[JobId], None],
        on_copied: Callable[[JobId, int], None],
    ) -> None:
        """Call ``on_truncated`` once per job, ``on_copied`` (bytes in the journal) once a second at most."""
        self._watcher = watcher
        self._config = config
        self._journal = journal
        self._on_truncated = on_truncated
        self._on_copied = on_copied
        self._tasks: dict[JobId, asyncio.Task[None]] = {}

    def keep(self, record: JobRecord, paths: JobPaths, end: JobEnd) -> None:
        """Look after the job's log until the job has ended; again for the same job does nothing."""
        if record.id in self._tasks:
            return
        copier = None
        if self._config.journal:
            copier = LineCopier(
                self._journal,
                record,
                rate=self._config.journal_lines_per_second,
                burst=self._config.journal_burst,
                now=time.monotonic(),
            )
        kept = _KeptLog(record, paths, end, copier)
        task = asyncio.create_task(self._keep(kept), name=f"log-{record.id}")
        self._tasks[record.id] = task
        task.add_done_callback(lambda done: self._reap(record.id, done))

    async def finished(self, job_id: JobId) -> None:
        """Return when nothing is done about the job's log any more."""
        task = self._tasks.get(job_id)
        if task is not None:
            await asyncio.wait([task])

    async def close(self) -> None:
        """Stop looking. What is not done is done after the next start."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _reap(self, job_id: JobId, task: asyncio.Task[None]) -> None:
        del self._tasks[job_id]
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, HostUnavailable):
            _log.debug("log of job %s: %s", job_id, error)
        elif error is not None:
            _log.error("keeping the log of job %s failed", job_id, exc_info=error)

    async def _keep(self, kept: "_KeptLog") -> None:
        watch = self._watcher.watch(kept.paths.log, kept.woken.set)
        kept.end.listen(kept.woken.set)
        try:
            await self._look_until_done(kept, watch)
        finally:
            kept.end.forget(kept.woken.set)
            watch.close()
            self._report_progress(kept, time.monotonic(), is_last=True)

    async def _look_until_done(self, kept: "_KeptLog", watch: FileWatch) -> None:
        is_armed = False
        give_up_at: float | None = None
        while True:
            has_ended = kept.end.ended  # before the size: then all output is in it
            now = time.monotonic()
            if has_ended and give_up_at is None:
                give_up_at = now + _DRAIN_SECONDS
            pause = self._look(kept, now, has_ended=has_ended)
            if give_up_at is not None and (pause is None or now >= give_up_at):
                return
            if pause is not None:
                is_armed = False
                await kept.rest(min(pause, _PAUSE_MOST))  # the job may become fast meanwhile
            elif is_armed:
                await kept.woken.wait()
                is_armed = False
            else:
                kept.woken.clear()
                watch.arm()
                is_armed = True

    def _look(self, kept: "_KeptLog", now: float, *, has_ended: bool) -> float | None:
        """Do what is due; return the seconds after which to look again, None for when the log grows."""
        try:
            fd = os.open(kept.paths.log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        except OSError as error:
            return kept.complain(error)
        try:
            grown_pause = self._take_in(kept, fd, now, has_ended=has_ended)
            copy_pause = self._copy(kept, fd, now, has_ended=has_ended)
        except OSError as error:
            return kept.complain(error)
        finally:
            os.close(fd)
        self._report_progress(kept, now)
        if grown_pause is None or copy_pause is None:
            return grown_pause if copy_pause is None else copy_pause
        return min(grown_pause, copy_pause)

    def _take_in(self, kept: "_KeptLog", fd: int, now: float, *, has_ended: bool) -> float | None:
        """Hold the log to its limit and the index up to date; return the pause that its growth asks for."""
        status = os.fstat(fd)
        written = status.st_size
        grown = written - kept.size
        kept.size = min(written, self._config.max_size)
        if written > self._config.max_size:
            os.ftruncate(fd, self._config.max_size)  # safe while systemd's descriptor appends: O_APPEND
            if not kept.was_truncated:
                kept.was_truncated = True
                self._on_truncated(kept.record.id)
        kept.times.note(status.st_mtime_ns, kept.size)
        if has_ended:
            kept.times.finish()
            return None
        seconds = now - kept.looked_at
        kept.looked_at = now
        if grown <= 0:
            return None
        room = max(self._config.max_size - kept.size, _OVERSHOOT_BYTES)
        return min(max(room * seconds / (2 * grown), _PAUSE_LEAST), _PAUSE_MOST)

    def _copy(self, kept: "_KeptLog", fd: int, now: float, *, has_ended: bool) -> float | None:
        if kept.copier is None:
            return None
        return kept.copier.copy(fd, kept.size, has_ended=has_ended, now=now)

    def _report_progress(self, kept: "_KeptLog", now: float, *, is_last: bool = False) -> None:
        if kept.copier is None or kept.copier.offset == kept.reported:
            return
        if is_last or now - kept.reported_at >= _PROGRESS_SECONDS:
            kept.reported = kept.copier.offset
            kept.reported_at = now
            self._on_copied(kept.record.id, kept.reported)


class _KeptLog:
    """What is known of one log between two looks."""

    __slots__ = (
        "copier", "end", "looked_at", "paths", "record", "reported", "reported_at", "size", "times",
        "was_complained", "was_truncated", "woken",
    )  # fmt: skip

    def __init__(self, record: JobRecord, paths: JobPaths, end: JobEnd, copier: LineCopier | None) -> None:
        self.record = record
        self.paths = paths
        self.end = end
        self.copier = copier
        self.times = TimeIndexWriter(paths.log_times)
        self.woken = asyncio.Event()
        self.size = 0
        self.looked_at = time.monotonic()
        self.was_truncated = record.log_truncated
        self.was_complained = False
        self.reported = record.journal_offset
        self.reported_at = 0.0

    async def rest(self, seconds: float) -> None:
        """Pause, unless the job ends meanwhile; let others run in any case."""
        if seconds <= 0 or self.end.ended:
            await asyncio.sleep(seconds)
            return
        self.woken.clear()
        try:
            async with asyncio.timeout(seconds):
                await self.woken.wait()
        except TimeoutError:
            pass

    def complain(self, error: OSError) -> float:
        """Say once what the disk said, and come back later: it may have room again."""
        if not self.was_complained:
            self.was_complained = True
            _log.warning("cannot keep the log of job %s: %s", self.record.id, error)
        return _PAUSE_MOST
