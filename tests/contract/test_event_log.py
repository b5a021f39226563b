"""What every EventLog does: the one in memory that other tests use, and the one on disk."""

import asyncio
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from joblet_agent.errors import EventsGone, StoreFailed
from joblet_agent.model.event import JobEvent
from joblet_agent.model.job import JobId, JobState, Outcome, Reason
from joblet_agent.ports import EventLog, JobStore
from joblet_agent.store import SqliteJobStore, schema
from tests.contract.job_records import full_record, job_id, record
from tests.fakes.job_store import MemoryJobStore

REPOSITORY = Path(__file__).parents[2]


class Store(JobStore, Protocol):
    """A store whose changes are remembered."""

    @property
    def events(self) -> EventLog: ...


Body = Callable[[Store], Awaitable[None]]


class Subject(ABC):
    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[Store]: ...

    def run(self, body: Body) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await body(store)

        asyncio.run(main())


class MemorySubject(Subject):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        yield MemoryJobStore()


class SqliteSubject(Subject):
    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Store]:
        store = await SqliteJobStore.open(self._path)
        try:
            yield store
        finally:
            await store.close()


@pytest.fixture(params=["memory", "sqlite"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return MemorySubject() if request.param == "memory" else SqliteSubject(tmp_path / "state.db")


async def told(store: Store, after: int) -> list[JobEvent]:
    return list(await store.events.events(after, most=1000))


def words(events: list[JobEvent]) -> list[tuple[JobId, str]]:
    return [(event.job_id, event.word) for event in events]


def test_each_change_of_a_state_is_one_event_with_the_next_number(subject: Subject) -> None:
    async def body(store: Store) -> None:
        begin = store.events.newest
        made = record(1, JobState.INITIALIZING, name="n")
        await store.save(made)
        await store.save(replace(made, journal_offset=5))  # no change of its state
        await store.save(replace(made, state=JobState.RUNNING))
        await store.save(record(2, JobState.PENDING), record(1, JobState.COMPLETED, name="n"))
        await store.delete([job_id(1), job_id(9)])
        events = await told(store, begin)
        assert [event.number for event in events] == list(range(begin + 1, begin + 6))
        assert words(events) == [
            (job_id(1), "INITIALIZING"),
            (job_id(1), "RUNNING"),
            (job_id(2), "PENDING"),
            (job_id(1), "COMPLETED"),
            (job_id(1), "DELETED"),
        ]
        assert [event.name for event in events] == ["n", "n", "", "n", "n"]
        assert await told(store, begin + 3) == events[3:]
        assert list(await store.events.events(begin, most=2)) == events[:2]
        assert await told(store, begin + 5) == []

    subject.run(body)


def test_an_end_says_how_and_when(subject: Subject) -> None:
    outcome = Outcome(JobState.FAILED, Reason.SIGNAL, -1, 9, "killed by 'ü' \udc80")

    async def body(store: Store) -> None:
        begin = store.events.newest
        ended = replace(full_record(1), outcome=outcome)
        await store.save(ended, record(2, JobState.COMPLETED))
        first, second = await told(store, begin)
        assert (first.outcome, first.time) == (outcome, ended.ended_at)
        assert (second.outcome, second.word) == (Outcome(JobState.COMPLETED), "COMPLETED")

    subject.run(body)


def test_what_is_not_stored_is_no_event(subject: Subject) -> None:
    async def body(store: Store) -> None:
        begin = store.events.newest
        if isinstance(store, MemoryJobStore):
            store.failure = StoreFailed("disk is full", reason="STORE_FULL")
            with pytest.raises(StoreFailed):
                await store.save(record(1))
            store.failure = None
        await store.save(record(2))
        assert [event.number for event in await told(store, begin)] == [begin + 1]

    subject.run(body)


def test_listeners_are_woken_by_changes_alone(subject: Subject) -> None:
    async def body(store: Store) -> None:
        woken = asyncio.Event()
        store.events.listen(woken.set)
        before = store.events.newest
        await store.save(record(1))
        await woken.wait()
        assert store.events.newest == before + 1
        store.events.forget(woken.set)
        woken.clear()
        await store.save(record(2))
        await store.get(job_id(2))
        assert not woken.is_set()

    subject.run(body)


def test_a_point_that_never_was_is_gone(subject: Subject) -> None:
    async def body(store: Store) -> None:
        await store.save(record(1))
        for number in (store.events.newest + 1, 1, 2**62):
            with pytest.raises(EventsGone) as caught:
                await told(store, number)
            assert (caught.value.reason, bool(caught.value.hint)) == ("EVENTS_GONE", True)

    subject.run(body)


def test_where_jobs_stand(subject: Subject) -> None:
    async def body(store: Store) -> None:
        await store.save(record(1, JobState.PENDING), record(2, JobState.FAILED), record(3, name="n"))
        number, unfinished = await store.events.standing([])
        assert number == store.events.newest
        assert words(list(unfinished)) == [(job_id(1), "PENDING"), (job_id(3), "RUNNING")]
        assert {event.number for event in unfinished} == {0}
        _, asked = await store.events.standing([job_id(2), job_id(7), job_id(3)])
        assert words(list(asked)) == [(job_id(2), "FAILED"), (job_id(3), "RUNNING")]
        assert asked[0].outcome == Outcome(JobState.FAILED)
        assert await store.events.mentions(job_id(2), after=number - 3)
        assert not await store.events.mentions(job_id(2), after=number)

    subject.run(body)


def test_the_oldest_go_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    migrations = [
        replace(
            each,
            statements=[
                sql.replace("% 1000 ", "% 10 ").replace("- 100000;", "- 50;") for sql in each.statements
            ],
        )
        for each in schema.MIGRATIONS
    ]
    monkeypatch.setattr(schema, "MIGRATIONS", migrations)

    async def body(store: Store) -> None:
        begin = store.events.newest
        for number in range(100):
            await store.save(record(number))
        newest = store.events.newest
        assert newest == begin + 100
        kept = await told(store, newest - 50)
        assert [event.number for event in kept] == list(range(newest - 49, newest + 1))
        with pytest.raises(EventsGone):
            await told(store, begin)

    SqliteSubject(tmp_path / "state.db").run(body)


def test_numbers_of_a_database_that_is_lost_are_not_given_again(tmp_path: Path) -> None:
    newest = []

    async def body(store: Store) -> None:
        await store.save(record(1))
        newest.append(store.events.newest)

    SqliteSubject(tmp_path / "a.db").run(body)
    SqliteSubject(tmp_path / "a.db").run(body)  # the same record: no event
    assert newest[1] == newest[0]
    assert newest[0] > 1_600_000_000_000  # ms since 1970


def test_r3_events_and_records_agree_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    words_ = [sys.executable, "-m", "tests.contract.saver", str(path)]
    process = subprocess.Popen(words_, stdout=subprocess.PIPE, cwd=REPOSITORY)
    assert process.stdout is not None
    for _ in range(200):
        process.stdout.readline()
    os.kill(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.wait()

    async def body(store: Store) -> None:
        newest = store.events.newest
        number, jobs = await store.events.standing([])
        assert number == newest
        events = await told(store, newest - len(jobs))
        assert [event.number for event in events] == list(range(newest - len(jobs) + 1, newest + 1))
        assert {event.job_id for event in events} == {job.job_id for job in jobs}

    SqliteSubject(path).run(body)
