"""Watching jobs: every change of a state from a given point on, once and in order.

The history is in the store and each watcher reads it by its own number, so it goes on where it was after any
interruption, also of the agent. A slow watcher holds one batch; it holds up nobody and misses nothing until
what it has not read is removed, which it is told.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

from joblet_agent.errors import InvalidRequest, NotFound
from joblet_agent.jobs.check import quoted
from joblet_agent.model.event import DELETED, EVENT_WORDS, JobEvent, Sighting, WatchQuery
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.ports import EventLog

MOST_IDS = 1000
"""Jobs that one watcher may name."""

_BATCH = 100
_SILENT_MOST = 1000
"""After so many events that do not fit a watcher is told how far it is, or its point would become too old."""
_ID_LENGTH = 36


class JobWatches:
    """Serves any number of watchers from one history."""

    def __init__(self, log: EventLog, find: Callable[[str], Awaitable[JobRecord]]) -> None:
        """``find`` returns the job of an id or prefix; raises NotFound, AmbiguousId, InvalidRequest."""
        self._log = log
        self._find = find

    async def watch(self, query: WatchQuery) -> AsyncGenerator[Sighting, None]:
        """Check the query and return what it wants, as it comes.

        First, if asked for, where jobs stand; then the point from which the watch begins; then events.
        Ends when every job that the query names is deleted. Raises InvalidRequest, NotFound and AmbiguousId
        for the query; the generator raises EventsGone.
        """
        _check(query)
        position = query.after or self._log.newest  # before the look: a deletion after it is an event
        ids = [await self._resolve(given, query.after) for given in query.given]
        return self._sightings(query, list(dict.fromkeys(ids)), position)

    async def _resolve(self, given: str, after: int) -> JobId:
        try:
            return (await self._find(given)).id
        except NotFound:
            # Whoever goes on may have missed the deletion itself.
            job_id = JobId(given.strip().lower())
            if after and len(job_id) == _ID_LENGTH and await self._log.mentions(job_id, after=after):
                return job_id
            raise

    async def _sightings(
        self, query: WatchQuery, ids: Sequence[JobId], position: int
    ) -> AsyncGenerator[Sighting, None]:
        left = set(ids)
        known = set[JobId]()
        wanted = _Wanted(query, ids)
        grown = asyncio.Event()
        self._log.listen(grown.set)
        try:
            if query.with_standing:
                position, jobs = await self._log.standing(ids)
                left &= {job.job_id for job in jobs}
                for job in filter(wanted.fits, jobs):
                    if await self._is_of(query.started_by, job, known):
                        yield Sighting(0, job)
            await self._log.events(position, most=1)  # raises if the point is gone
            yield Sighting(position)
            told = position
            while left or not ids:
                grown.clear()
                if self._log.newest <= position:
                    await grown.wait()
                for event in await self._log.events(position, most=_BATCH):
                    position = event.number
                    if wanted.fits(event) and await self._is_of(query.started_by, event, known):
                        told = position
                        yield Sighting(position, event)
                    if event.word == DELETED:
                        known.discard(event.job_id)
                        left.discard(event.job_id)
                if position - told >= _SILENT_MOST:
                    told = position
                    yield Sighting(position)
        finally:
            self._log.forget(grown.set)

    async def _is_of(self, started_by: str, event: JobEvent, known: set[JobId]) -> bool:
        """Say whether the event's job was submitted by this one (or anyone); ``known`` are jobs that were."""
        if not started_by or event.job_id in known:
            return True
        try:
            record = await self._find(event.job_id)
        except NotFound:
            return False
        if record.started_by != started_by:
            return False
        known.add(record.id)
        return True


class _Wanted:
    """The filters of a query."""

    def __init__(self, query: WatchQuery, ids: Sequence[JobId]) -> None:
        self._ids = frozenset(ids)
        self._name = query.name
        self._words = query.words

    def fits(self, event: JobEvent) -> bool:
        return (
            (not self._ids or event.job_id in self._ids)
            and self._name in {"", event.name}
            and (not self._words or event.word in self._words)
        )


def _check(query: WatchQuery) -> None:
    if query.after < 0:
        raise InvalidRequest("cannot watch jobs: a number of an event is not negative", reason="BAD_WATCH")
    if query.after and query.with_standing:
        raise InvalidRequest(
            "cannot watch jobs: where jobs stand is told at the beginning of a watch, not in the middle",
            reason="BAD_WATCH",
            hint="ask either for the snapshot or for what came after a number",
        )
    if len(query.given) > MOST_IDS:
        raise InvalidRequest(
            f"cannot watch jobs: {len(query.given)} ids are given, at most {MOST_IDS} are possible",
            reason="BAD_WATCH",
            hint="watch all jobs, or by name",
        )
    for word in query.words:
        if word not in EVENT_WORDS:
            raise InvalidRequest(
                f"cannot watch jobs: {quoted(word)} is no state of a job",
                reason="UNKNOWN_STATE",
                hint="states are " + ", ".join(EVENT_WORDS),
            )
