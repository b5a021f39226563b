"""Watching jobs: where it begins, what it passes, how it goes on and ends."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest

from joblet_agent.errors import EventsGone, InvalidRequest, JobletError, NotFound
from joblet_agent.jobs.watch import MOST_IDS, JobWatches
from joblet_agent.model.event import Sighting, WatchQuery
from joblet_agent.model.job import JobId, JobRecord, JobState
from tests.contract.job_records import job_id, record
from tests.fakes.job_store import MemoryJobStore

Case = Callable[[MemoryJobStore, JobWatches], Awaitable[None]]
Watch = AsyncGenerator[Sighting, None]


def run(case: Case) -> None:
    async def main() -> None:
        store = MemoryJobStore()

        async def find(given: str) -> JobRecord:
            found = [record for record in store.records.values() if record.id.startswith(given)]
            if not found:
                raise NotFound("no job", reason="JOB_NOT_FOUND")
            return found[0]

        async with asyncio.timeout(20):
            await case(store, JobWatches(store.events, find))
        assert store.events.listeners == 0

    asyncio.run(main())


async def take(watch: Watch, count: int) -> list[tuple[JobId, str]]:
    """Return so many events, without the points between them."""
    taken: list[tuple[JobId, str]] = []
    while len(taken) < count:
        sighting = await anext(watch)
        if sighting.event is not None:
            taken.append((sighting.event.job_id, sighting.event.word))
    return taken


def test_a_watch_begins_with_its_point_and_then_tells_every_change() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        await store.save(record(1))
        async with aclosing(await watches.watch(WatchQuery())) as watch:
            begin = await anext(watch)
            assert begin == Sighting(store.events.newest)
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
            assert not waiting.done()
            await store.save(record(2, JobState.PENDING))
            assert (await waiting).number == begin.number + 1
            await store.save(record(1, JobState.FAILED), record(2))
            assert await take(watch, 2) == [(job_id(1), "FAILED"), (job_id(2), "RUNNING")]

    run(case)


def test_what_happens_between_the_call_and_the_first_look_is_told() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        async with aclosing(await watches.watch(WatchQuery())) as watch:
            await store.save(record(1))
            assert await take(watch, 1) == [(job_id(1), "RUNNING")]

    run(case)


def test_a_watch_goes_on_after_any_event_without_gap_or_duplicate() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        begin = store.events.newest
        for number in range(350):  # more than is read at once
            await store.save(record(number))
        async with aclosing(await watches.watch(WatchQuery(after=begin))) as watch:
            first = [await anext(watch) for _ in range(124)]
        async with aclosing(await watches.watch(WatchQuery(after=first[-1].number))) as watch:
            rest = await take(watch, 350 - 123)
        seen = [sighting.event.job_id for sighting in first if sighting.event] + [job for job, _ in rest]
        assert seen == [job_id(number) for number in range(350)]

    run(case)


def test_standing_comes_first_and_carries_no_number() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        await store.save(record(1), record(2, JobState.FAILED), record(3, JobState.PENDING))
        async with aclosing(await watches.watch(WatchQuery(with_standing=True))) as watch:
            first = [await anext(watch) for _ in range(3)]
            assert [sighting.number for sighting in first] == [0, 0, store.events.newest]
            assert [sighting.event and sighting.event.word for sighting in first] == [
                "RUNNING",
                "PENDING",
                None,
            ]
        of_one = WatchQuery(with_standing=True, given=(job_id(2),))
        async with aclosing(await watches.watch(of_one)) as watch:
            assert await take(watch, 1) == [(job_id(2), "FAILED")]

    run(case)


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        (WatchQuery(given=(job_id(1), job_id(2))), ["1 FAILED", "2 STOPPED", "1 DELETED"]),
        (WatchQuery(name="n"), ["3 COMPLETED"]),
        (WatchQuery(words=frozenset({"FAILED", "DELETED"})), ["1 FAILED", "1 DELETED"]),
        (WatchQuery(given=(job_id(1),), words=frozenset({"DELETED"})), ["1 DELETED"]),
    ],
)
def test_filters(query: WatchQuery, wanted: list[str]) -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        await store.save(record(1), record(2), record(3, name="n"))
        async with aclosing(await watches.watch(query)) as watch:
            await store.save(record(1, JobState.FAILED), record(2, JobState.STOPPED))
            await store.save(record(3, JobState.COMPLETED, name="n"))
            await store.delete([job_id(1)])
            found = await take(watch, len(wanted))
        assert [f"{int(job[-3:], 16)} {word}" for job, word in found] == wanted

    run(case)


def test_a_watch_that_names_jobs_ends_when_all_are_deleted() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        jobs = [record(number, JobState.FAILED) for number in (1, 2)]
        await store.save(*jobs)
        query = WatchQuery(given=(job_id(1), job_id(2)))
        begin = store.events.newest
        watch = await watches.watch(query)
        await store.delete([job_id(1)])
        await store.delete([job_id(2)])
        assert len([sighting async for sighting in watch]) == 3
        # Whoever comes back later is told the same, although the jobs are not there any more.
        assert len([sighting async for sighting in await watches.watch(replace(query, after=begin))]) == 3
        with pytest.raises(NotFound):
            await watches.watch(query)

    run(case)


def test_a_job_deleted_before_the_look_does_not_make_the_watch_wait_for_ever() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        await store.save(record(1, JobState.FAILED))
        watch = await watches.watch(WatchQuery(given=(job_id(1),), with_standing=True))
        await store.delete([job_id(1)])
        assert [sighting.event async for sighting in watch] == [None]

    run(case)


def test_a_watcher_whose_filter_passes_nothing_is_told_how_far_it_is() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        async with aclosing(await watches.watch(WatchQuery(name="nobody"))) as watch:
            begin = await anext(watch)
            for number in range(1000):
                await store.save(record(number))
            assert await anext(watch) == Sighting(begin.number + 1000)

    run(case)


def test_a_watcher_that_is_too_slow_is_told_that_it_missed_something() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        async with aclosing(await watches.watch(WatchQuery())) as watch:
            begin = await anext(watch)
            await store.save(record(1), record(2))
            store.events.forget_before(begin.number + 2)
            with pytest.raises(EventsGone):
                await anext(watch)

    run(case)


def test_a_slow_watcher_holds_nobody_up() -> None:
    async def case(store: MemoryJobStore, watches: JobWatches) -> None:
        slow, fast = await watches.watch(WatchQuery()), await watches.watch(WatchQuery())
        await anext(slow)
        for number in range(500):
            await store.save(record(number))
            await take(fast, 1)
        assert len(await take(slow, 500)) == 500
        await slow.aclose()
        await fast.aclose()

    run(case)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (WatchQuery(after=-1), "BAD_WATCH"),
        (WatchQuery(after=5, with_standing=True), "BAD_WATCH"),
        (WatchQuery(given=("a",) * (MOST_IDS + 1)), "BAD_WATCH"),
        (WatchQuery(words=frozenset({"RUNNING", "running"})), "UNKNOWN_STATE"),
        (WatchQuery(given=("7f3a",)), "JOB_NOT_FOUND"),
        (WatchQuery(given=(job_id(9),), after=5), "JOB_NOT_FOUND"),
    ],
)
def test_what_cannot_be_watched_is_refused(query: WatchQuery, reason: str) -> None:
    async def case(_store: MemoryJobStore, watches: JobWatches) -> None:
        with pytest.raises(JobletError) as caught:
            await watches.watch(query)
        assert caught.value.reason == reason
        assert isinstance(caught.value, InvalidRequest | NotFound)

    run(case)
