"""What every JobStore does: the one in memory that other tests use, and the one on disk."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, StoreFailed
from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobState, Token
from joblet_agent.ports import JobStore
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import START, full_record, job_id, record
from tests.fakes.job_store import MemoryJobStore

Body = Callable[[JobStore], Awaitable[None]]

ENDED = sorted(state for state in JobState if state.has_ended)


class Subject(ABC):
    """A store under test."""

    @abstractmethod
    def opened(self) -> AbstractAsyncContextManager[JobStore]: ...

    @abstractmethod
    async def fill_disk(self, store: JobStore) -> None: ...

    @abstractmethod
    async def free_disk(self, store: JobStore) -> None: ...

    def run(self, body: Body) -> None:
        async def main() -> None:
            async with self.opened() as store:
                await body(store)

        asyncio.run(main())


class MemorySubject(Subject):
    @asynccontextmanager
    async def opened(self) -> AsyncIterator[JobStore]:
        yield MemoryJobStore()

    async def fill_disk(self, store: JobStore) -> None:
        assert isinstance(store, MemoryJobStore)
        store.failure = StoreFailed(
            "cannot write to the state database: database or disk is full",
            reason="STORE_FULL",
            hint="free space",
        )

    async def free_disk(self, store: JobStore) -> None:
        assert isinstance(store, MemoryJobStore)
        store.failure = None


class SqliteSubject(Subject):
    def __init__(self, path: Path) -> None:
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[JobStore]:
        store = await SqliteJobStore.open(self._path)
        try:
            yield store
        finally:
            await store.close()

    async def fill_disk(self, store: JobStore) -> None:
        await self._limit_pages(store, 1)  # SQLite takes it as "no more than there are"

    async def free_disk(self, store: JobStore) -> None:
        await self._limit_pages(store, 1_000_000)

    async def _limit_pages(self, store: JobStore, pages: int) -> None:
        assert isinstance(store, SqliteJobStore)
        await store._writer.do(
            lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        )


@pytest.fixture(params=["memory", "sqlite"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return MemorySubject() if request.param == "memory" else SqliteSubject(tmp_path / "state" / "state.db")


async def all_pages(store: JobStore, wanted: JobFilter, size: int) -> list[JobRecord]:
    found: list[JobRecord] = []
    token = ""
    while True:
        page = await store.page(wanted, size=size, token=token)
        assert len(page.jobs) <= size
        found += page.jobs
        token = page.next_token
        if not token:
            return found


def test_a_record_comes_back_as_it_was(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        for each in (full_record(1), record(2), record(3, JobState.PENDING)):
            await store.save(each)
            assert await store.get(each.id) == each

    subject.run(body)


def test_what_is_unknown_is_none(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(record(1))
        assert await store.get(job_id(2)) is None
        assert await store.get(JobId(job_id(1)[:-1])) is None
        assert await store.get(JobId("")) is None

    subject.run(body)


def test_c9_a_submission_is_found_by_caller_and_token(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        first = replace(record(1), started_by="a", token=Token("t", "digest"))
        other = replace(record(2), started_by="b", token=Token("t", "digest"))
        await store.save(first, other, record(3))
        await store.save(replace(first, state=JobState.STOPPING))
        found = await store.submitted("a", "t")
        assert found
        assert (found.id, found.token) == (first.id, first.token)
        assert await store.submitted("b", "t") == other
        for caller, token in (("c", "t"), ("a", "T"), ("a", ""), ("", "")):
            assert await store.submitted(caller, token) is None
        await store.delete([first.id])
        assert await store.submitted("a", "t") is None

    subject.run(body)


def test_saving_again_replaces(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(record(1, JobState.PENDING, name="a"))
        await store.save(record(1, JobState.COMPLETED, name="b"))
        assert await all_pages(store, JobFilter(), 10) == [record(1, JobState.COMPLETED, name="b")]
        assert not await store.unfinished()
        assert await store.ended_count() == 1

    subject.run(body)


def test_many_are_saved_at_once(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save()
        await store.save(*(record(number) for number in range(50)))
        assert len(await store.find("", most=100)) == 50

    subject.run(body)


def test_concurrent_saves_are_all_there(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await asyncio.gather(*(store.save(record(number)) for number in range(1300)))
        assert len(await store.find("", most=2000)) == 1300

    subject.run(body)


def test_saves_of_one_record_keep_their_order(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await asyncio.gather(*(store.save(replace(record(1), main_pid=pid)) for pid in range(1, 301)))
        saved = await store.get(job_id(1))
        assert saved is not None
        assert saved.main_pid == 300

    subject.run(body)


def test_deleted_is_gone_and_unknown_is_no_error(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(*(record(number, JobState.COMPLETED) for number in range(2500)))
        await store.delete([])
        await store.delete([job_id(9999), *(job_id(number) for number in range(2499))])
        assert await store.find("", most=10) == [job_id(2499)]
        assert await store.ended_count() == 1

    subject.run(body)


def test_prefix_finds_ids_in_order_and_no_more_than_wanted(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        first = JobId("aaaaaaaa-0000-4000-8000-000000000000")
        second = JobId("aaaaaaab-0000-4000-8000-000000000000")
        for each in (second, first):
            await store.save(replace(record(1), id=each))
        assert await store.find("aaaaaaa", most=5) == [first, second]
        assert await store.find("aaaaaaa", most=1) == [first]
        assert await store.find("aaaaaaab", most=2) == [second]
        assert await store.find(second, most=2) == [second]
        for prefix in ("b", "AAAA", "aaaaaaab-0000-4000-8000-0000000000000", "%", "_", "*", "\0", "😀"):
            assert not list(await store.find(prefix, most=2))

    subject.run(body)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 20, 100])
def test_pages_are_newest_first_and_complete(subject: Subject, size: int) -> None:
    async def body(store: JobStore) -> None:
        # Three jobs of each moment: ids decide between them.
        records = [record(number, minutes=number // 3) for number in range(20)]
        await store.save(*records)
        assert await all_pages(store, JobFilter(), size) == records[::-1]

    subject.run(body)


def test_the_last_page_has_no_token_even_if_full(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(record(1), record(2))
        page = await store.page(JobFilter(), size=2, token="")
        assert len(page.jobs) == 2
        assert page.next_token == ""
        assert (await store.page(JobFilter(id_prefix="zzz"), size=2, token="")).jobs == ()

    subject.run(body)


def test_paging_survives_new_and_deleted_jobs(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(*(record(number) for number in range(10)))
        first = await store.page(JobFilter(), size=4, token="")
        await store.save(record(50))
        await store.delete([job_id(4)])
        second = await store.page(JobFilter(), size=4, token=first.next_token)
        assert [each.id for each in second.jobs] == [job_id(number) for number in (5, 3, 2, 1)]

    subject.run(body)


@pytest.mark.parametrize(
    "wanted",
    [
        JobFilter(states=frozenset({JobState.RUNNING})),
        JobFilter(states=frozenset({JobState.RUNNING, JobState.FAILED})),
        JobFilter(states=frozenset(JobState)),
        JobFilter(name="n1"),
        JobFilter(name="n"),
        JobFilter(name="n1", states=frozenset({JobState.FAILED, JobState.COMPLETED})),
        JobFilter(id_prefix=job_id(0x10)[:-1]),
        JobFilter(id_prefix=job_id(0x10)[:-1], name="n2", states=frozenset({JobState.RUNNING})),
        JobFilter(id_prefix=job_id(0x10)),
        JobFilter(states=frozenset({JobState.CANCELED})),
        JobFilter(schedule_prefix=job_id(2)),
        JobFilter(schedule_prefix=job_id(2)[:-1], name="n1"),
        JobFilter(created_since=record(41).created_at),
        JobFilter(created_since=record(41).created_at, states=frozenset({JobState.RUNNING, JobState.FAILED})),
    ],
    ids=lambda wanted: (
        f"{','.join(sorted(wanted.states))}+{wanted.name}+{wanted.id_prefix[-4:]}"
        f"+{wanted.schedule_prefix[-4:]}+{wanted.created_since}"
    ),
)
def test_filters_combine(subject: Subject, wanted: JobFilter) -> None:
    states = (JobState.RUNNING, JobState.FAILED, JobState.COMPLETED, JobState.PENDING, JobState.STOPPED)
    records = [
        replace(
            record(number, states[number % 5], name=f"n{number % 3}"),
            schedule_id=job_id(number % 4) if number % 4 else "",
        )
        for number in range(60)
    ]

    async def body(store: JobStore) -> None:
        await store.save(*records)
        expected = [
            each
            for each in reversed(records)
            if (not wanted.states or each.state in wanted.states)
            and wanted.name in {"", each.spec.name}
            and each.id.startswith(wanted.id_prefix)
            and each.schedule_id.startswith(wanted.schedule_prefix)
            and (wanted.created_since is None or each.created_at >= wanted.created_since)
        ]
        assert expected or wanted.states == {JobState.CANCELED} or wanted.name == "n"
        assert await all_pages(store, wanted, 4) == expected

    subject.run(body)


@pytest.mark.parametrize(
    "token", ["x", "abc=", "AAAA", "5", "é", "\0", "=" * 5, "MTAgMTA=", "😀" * 50, "A" * 10_000]
)
def test_a_foreign_page_token_is_refused(subject: Subject, token: str) -> None:
    async def body(store: JobStore) -> None:
        with pytest.raises(
            InvalidRequest, match="cannot list jobs: the page token is not one of this agent"
        ) as caught:
            await store.page(JobFilter(), size=5, token=token)
        assert caught.value.reason == "INVALID_PAGE_TOKEN"

    subject.run(body)


def test_unfinished_are_those_that_have_not_ended_oldest_first(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        records = [record(number, state, minutes=-number) for number, state in enumerate(JobState)]
        await store.save(*records)
        expected = [each for each in reversed(records) if not each.has_ended]
        assert list(await store.unfinished()) == expected
        assert await store.ended_count() == len(ENDED)

    subject.run(body)


@pytest.mark.parametrize(
    ("keep", "before", "gone"),
    [
        (100, None, []),
        (6, None, []),
        (4, None, [0, 2]),
        (0, None, [0, 2, 4, 6, 8, 10]),
        (100, START - timedelta(days=1), []),
        (100, START + timedelta(minutes=4), [0, 2]),
        (100, START + timedelta(minutes=4, seconds=1), [0, 2]),
        (100, START + timedelta(minutes=4, seconds=1, microseconds=1), [0, 2, 4]),
        (3, START + timedelta(minutes=1), [0, 2, 4]),
        (5, START + timedelta(minutes=5), [0, 2, 4]),
        (0, START, [0, 2, 4, 6, 8, 10]),
    ],
)
def test_retention_lets_the_longest_ended_go(
    subject: Subject, keep: int, before: datetime | None, gone: list[int]
) -> None:
    async def body(store: JobStore) -> None:
        states = [ENDED[number // 2 % 4] if number % 2 == 0 else JobState.RUNNING for number in range(12)]
        await store.save(*(record(number, state) for number, state in enumerate(states)))
        assert list(await store.ended_beyond(keep=keep, before=before)) == [job_id(number) for number in gone]

    subject.run(body)


def test_the_oldest_end_is_known(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        assert await store.oldest_end() is None
        await store.save(record(1, JobState.RUNNING))
        assert await store.oldest_end() is None
        first, second = record(2, JobState.FAILED), record(3, JobState.COMPLETED)
        await store.save(second, first)
        ends = [each.ended_at for each in (first, second) if each.ended_at is not None]
        assert await store.oldest_end() == min(ends)

    subject.run(body)


def test_an_end_that_nobody_saw_counts_from_the_creation(subject: Subject) -> None:
    async def body(store: JobStore) -> None:
        await store.save(replace(record(1, JobState.CANCELED), ended_at=None), record(2, JobState.FAILED))
        assert await store.ended_count() == 2
        assert list(await store.ended_beyond(keep=1, before=None)) == [job_id(1)]

    subject.run(body)


def test_full_disk_changes_nothing_and_the_next_save_works(subject: Subject) -> None:
    large = replace(record(2), spec=replace(record(2).spec, args=("x" * 100_000,)))

    async def body(store: JobStore) -> None:
        await store.save(record(1))
        await subject.fill_disk(store)
        with pytest.raises(StoreFailed, match=r"cannot write to the state database: .*full") as caught:
            await store.save(record(1, JobState.FAILED), large)
        assert caught.value.reason == "STORE_FULL"
        assert caught.value.hint is not None
        assert await store.get(job_id(1)) == record(1)
        assert await store.get(job_id(2)) is None
        await subject.free_disk(store)
        await store.save(record(1, JobState.FAILED), large)
        assert await all_pages(store, JobFilter(), 10) == [large, record(1, JobState.FAILED)]

    subject.run(body)
