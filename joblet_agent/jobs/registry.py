"""The jobs that this agent is busy with: those with a unit, and the queue of those without."""

import asyncio
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from contextlib import suppress

from joblet_agent.config import JobsConfig
from joblet_agent.jobs.logs import JobEnd
from joblet_agent.model.job import JobId, JobRecord

_LET_GO_SECONDS = 5.0


class ActiveJob:
    """A job that holds a slot, from its launch until its unit is released."""

    __slots__ = ("begun", "end", "forgotten", "is_finishing", "is_launching", "record", "was_stopping")

    def __init__(self, record: JobRecord, end: JobEnd) -> None:
        self.record = record
        self.end = end
        self.begun = asyncio.Event()
        """Set when the command runs, or never will."""
        self.forgotten = asyncio.Event()
        """Set when nothing is left but the record and the log."""
        self.is_launching = False
        """The start is under way: systemd need not know the unit yet."""
        self.is_finishing = False
        self.was_stopping = False
        """systemd began to stop the unit, on whose request ever."""


class JobQueue:
    """Ids of waiting jobs, first come first served; a position costs log n."""

    def __init__(self) -> None:
        self._numbers: dict[JobId, int] = {}
        self._order: list[int] = []
        self._ids: dict[int, JobId] = {}
        self._held: set[JobId] = set()
        self._next = 0

    def __len__(self) -> int:
        """Return how many may start, one after the other: those that are held are not counted."""
        return len(self._order)

    def __contains__(self, job_id: object) -> bool:
        return job_id in self._numbers

    def append(self, job_id: JobId) -> None:
        """Let the job wait behind all others."""
        self._numbers[job_id] = self._next
        self._ids[self._next] = job_id
        self._order.append(self._next)
        self._next += 1

    def hold(self, job_id: JobId) -> None:
        """Pass the job over, if it waits, until ``release``; it keeps its place."""
        number = self._numbers.get(job_id)
        if number is not None and job_id not in self._held:
            self._held.add(job_id)
            del self._order[bisect_left(self._order, number)]

    def release(self, job_id: JobId) -> None:
        """Let a job that is held start in its turn."""
        if job_id in self._held:
            self._held.discard(job_id)
            insort(self._order, self._numbers[job_id])

    def first(self) -> JobId:
        """Return the job that waited longest; the queue must have one that is not held."""
        return self._ids[self._order[0]]

    def remove(self, job_id: JobId) -> bool:
        """Take the job out; False if it does not wait."""
        number = self._numbers.pop(job_id, None)
        if number is None:
            return False
        del self._ids[number]
        if job_id in self._held:
            self._held.discard(job_id)
        else:
            del self._order[bisect_left(self._order, number)]
        return True

    def position(self, job_id: JobId) -> int:
        """Return 1 for the next one to start, 0 for a job that does not wait, or is held."""
        number = self._numbers.get(job_id)
        return 0 if number is None or job_id in self._held else bisect_left(self._order, number) + 1


class JobRegistry:
    """Active jobs by id, the queue, and the ends that followers of logs wait for."""

    def __init__(self, config: JobsConfig) -> None:
        self._config = config
        self._active: dict[JobId, ActiveJob] = {}
        self._ends: dict[JobId, JobEnd] = {}
        self.queue = JobQueue()
        self.room_wanted = asyncio.Event()
        """Set when a job that waits may start: one came, or another has freed its slot."""
        self._is_closed = False

    def __iter__(self) -> Iterator[ActiveJob]:
        return iter(list(self._active.values()))

    @property
    def has_room(self) -> bool:
        """True when another job may start now."""
        return not self._is_closed and len(self._active) < self._config.max_concurrent

    def close_room(self) -> None:
        """Let every job wait from now on: the host goes down, and systemd refuses new units."""
        self._is_closed = True

    def get(self, job_id: JobId) -> ActiveJob | None:
        """Return the active job of this id."""
        return self._active.get(job_id)

    def add(self, record: JobRecord) -> ActiveJob:
        """Give the job a slot; has_room is the caller's to ask."""
        job = ActiveJob(record, self.end_of(record.id))
        self._active[record.id] = job
        return job

    def end_of(self, job_id: JobId) -> JobEnd:
        """Return the end of an unfinished job, for whoever waits for it."""
        return self._ends.setdefault(job_id, JobEnd())

    def announce_end(self, job_id: JobId) -> None:
        """Wake everybody who waits for the end of the job."""
        end = self._ends.pop(job_id, None)
        if end is not None:
            end.set()

    def remove(self, job_id: JobId) -> None:
        """Free the job's slot."""
        self._active.pop(job_id, None)
        self.room_wanted.set()

    def ids_matching(self, prefix: str) -> set[JobId]:
        """Return the active jobs whose id begins with the prefix."""
        return {job_id for job_id in self._active if job_id.startswith(prefix)}

    async def let_go(self, ids: Iterable[JobId]) -> None:
        """Return when those of the jobs that have ended hold nothing any more, at the latest after 5 s."""
        jobs = [job for job_id in ids if (job := self._active.get(job_id)) is not None and job.end.ended]
        with suppress(TimeoutError):
            async with asyncio.timeout(_LET_GO_SECONDS):
                for job in jobs:
                    await job.forgotten.wait()

    @property
    def unfinished(self) -> int:
        """How many jobs have not ended: active and waiting."""
        return len(self._active) + len(self.queue)
