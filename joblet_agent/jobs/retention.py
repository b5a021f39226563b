"""What is kept of ended jobs, and until when: their records and logs, and the files they left.

The record of a job goes when there are more than ``retention.keep_ended`` or when it is older than
``retention.keep_for``. Its work directory goes before that when it is older than ``retention.work_for``, or
when all of them together take more than ``retention.work_size``: then those of the jobs that ended first.

One task does it all, one removal after the other. It sleeps until a job ends that changes something, or
until the next thing is due. Which jobs have left files is known from the disk alone: what a crash
interrupts is found again at the next start.
"""

import asyncio
import heapq
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from joblet_agent.config import RetentionConfig
from joblet_agent.errors import StoreFailed, WrongState
from joblet_agent.jobs import files
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.measure import tree_bytes
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.pauses import wait_until
from joblet_agent.ports import Clock, JobStore

_DELETE_BATCH = 500
_SLACK = 100
"""One in so many records more than ``keep_ended`` may be there while the agent runs."""
_RETRY = timedelta(seconds=30)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, order=True)
class _Ended:
    ended_at: datetime
    job_id: JobId


class KeptWork:
    """The work directories that are kept, their sizes, and which of them goes next."""

    def __init__(self) -> None:
        self._sizes: dict[JobId, int] = {}
        self._order: list[_Ended] = []
        self.total_bytes = 0

    def add(self, job_id: JobId, ended_at: datetime, size: int) -> None:
        """Keep a directory; one that is known gets the new size."""
        if job_id not in self._sizes:
            heapq.heappush(self._order, _Ended(ended_at, job_id))
        self.drop(job_id)
        self._sizes[job_id] = size
        self.total_bytes += size

    def drop(self, job_id: JobId) -> None:
        """Keep it no longer."""
        self.total_bytes -= self._sizes.pop(job_id, 0)

    def size(self, job_id: JobId) -> int:
        """Return the bytes of a directory; 0 if none is kept."""
        return self._sizes.get(job_id, 0)

    def first(self) -> tuple[JobId, datetime] | None:
        """Return the job that ended first, and when."""
        while self._order and self._order[0].job_id not in self._sizes:
            heapq.heappop(self._order)
        return (self._order[0].job_id, self._order[0].ended_at) if self._order else None


class Retention:
    """The one owner of deletions: by policy, and those that somebody asked for."""

    def __init__(self, *, config: RetentionConfig, store: JobStore, clock: Clock, paths: AgentPaths) -> None:
        self._config = config
        self._store = store
        self._clock = clock
        self._paths = paths
        self._kept = KeptWork()
        self._left: deque[JobRecord] = deque()
        """Jobs that ended and left files, not measured yet."""
        self._ended_count = 0
        self._records_due: datetime | None = None
        self._due: datetime | None = None
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def keeps_work(self) -> bool:
        """True when files of ended jobs stay."""
        return self._config.keep_work

    def reconsider(self) -> None:
        """Go by other limits from now on, and look at once."""
        self._records_due = None
        self._wanted.set()

    async def open(self) -> None:
        """Forget the records that are over the limits, then go on in a task of its own."""
        await self._forget_records()
        self._task = asyncio.create_task(self._run(), name="retention")

    async def close(self) -> None:
        """Stop. What was not removed yet is removed by the next agent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def job_ended(self, record: JobRecord, *, has_files: bool) -> None:
        """Take note of an end that is stored."""
        self._ended_count += 1
        if has_files:
            self._left.append(record)
        if has_files or self._due is None or self._ended_count > self._most_ended:
            self._wanted.set()

    def work_bytes(self, job_id: JobId) -> int:
        """Return the disk space that an ended job's files take; 0 if none are kept, or not measured yet."""
        return self._kept.size(job_id)

    async def delete(self, ids: Sequence[JobId]) -> None:
        """Delete records and files of ended jobs."""
        for start in range(0, len(ids), _DELETE_BATCH):
            batch = list(ids[start : start + _DELETE_BATCH])
            # Files first: a record without files can be deleted again, files without a record stay.
            await asyncio.to_thread(self._remove_all, batch)
            await self._forget(batch)

    async def delete_one(self, job_id: JobId) -> None:
        """Delete an ended job's record and files. Raises WrongState if files stay, as the record does."""
        failures = await asyncio.to_thread(files.remove_all, self._paths.job(job_id))
        if failures:
            raise WrongState(
                f"cannot delete job {job_id[:8]}: {len(failures)} of its files cannot be removed, "
                f"first: {quoted(failures[0])}",
                reason="FILES_NOT_REMOVED",
                hint="take away what holds them (a mount, chattr +i), then delete the job again",
            )
        await self._forget([job_id])

    async def _forget(self, ids: list[JobId]) -> None:
        await self._store.delete(ids)
        self._ended_count -= len(ids)
        for job_id in ids:
            self._kept.drop(job_id)

    async def _run(self) -> None:
        await self._find_files()
        while True:
            try:
                await self._enforce()
            except StoreFailed as error:
                _log.error("retention: %s; trying again", error)
                self._due = self._clock.now() + _RETRY
            await self._wait()

    async def _wait(self) -> None:
        left = None if self._due is None else (self._due - self._clock.now()).total_seconds()
        await wait_until(self._wanted, left)

    async def _enforce(self) -> None:
        while self._left:
            await self._measure(self._left[0])
            self._left.popleft()
        if self._ended_count > self._most_ended or self._records_are_due():
            await self._forget_records()
        await self._forget_work()
        if self._records_due is None:
            self._records_due = await self._next_record()
        self._due = min(filter(None, (self._records_due, self._next_work())), default=None)

    @property
    def _most_ended(self) -> int:
        """How many may be there: to look for those beyond takes long, so not for each job that ends."""
        return self._config.keep_ended + self._config.keep_ended // _SLACK

    def _records_are_due(self) -> bool:
        return self._records_due is not None and self._records_due <= self._clock.now()

    async def _forget_records(self) -> None:
        before = self._clock.now() - self._config.keep_for
        ids = await self._store.ended_beyond(keep=self._config.keep_ended, before=before)
        await self.delete(ids)
        if ids:
            _log.info("retention: forgot %d ended jobs", len(ids))
        self._ended_count = await self._store.ended_count()
        self._records_due = await self._next_record()

    async def _forget_work(self) -> None:
        before = self._clock.now() - self._config.work_for
        while (first := self._kept.first()) is not None:
            job_id, ended_at = first
            if ended_at >= before and self._kept.total_bytes <= self._config.work_size:
                return
            size = self._kept.size(job_id)
            await asyncio.to_thread(files.remove_work, self._paths.job(job_id))
            self._kept.drop(job_id)
            _log.info("retention: removed the files of job %s (%d bytes)", job_id, size)

    async def _next_record(self) -> datetime | None:
        oldest = await self._store.oldest_end()
        return None if oldest is None else oldest + self._config.keep_for

    def _next_work(self) -> datetime | None:
        first = self._kept.first()
        return None if first is None else first[1] + self._config.work_for

    async def _find_files(self) -> None:
        """Find the files that jobs of earlier agents have left."""
        for job_id in await asyncio.to_thread(files.homes_with_work, self._paths):
            record = await self._store.get(job_id)
            if record is None or not record.has_ended:
                continue  # swept, or told of when it ends
            if await asyncio.to_thread(files.settle_work, self._paths.job(job_id), keep=self.keeps_work):
                await self._measure(record)
            else:
                await asyncio.to_thread(files.remove_private, self._paths.job(job_id))

    async def _measure(self, record: JobRecord) -> None:
        work = self._paths.job(record.id).work
        size = await asyncio.to_thread(tree_bytes, work)
        if size is not None:
            self._kept.add(record.id, record.ended_at or record.created_at, size)

    def _remove_all(self, ids: Sequence[JobId]) -> None:
        for job_id in ids:
            files.remove_all(self._paths.job(job_id))
