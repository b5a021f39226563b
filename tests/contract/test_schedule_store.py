"""What every ScheduleStore does: the one in memory that other tests use, and the one on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.model.job import JobFilter, JobId, JobState
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.ports import JobStore, ScheduleStore
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import START, full_record, job_id, record
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.schedule_store import MemoryScheduleStore

HOUR = timedelta(hours=1)


def schedule(number: int, **more: object) -> Schedule:
    made = Schedule(
        ScheduleId(job_id(number)),
        "hourly",
        record(number, JobState.SCHEDULED, name="tick"),
        next_at=START + HOUR,
    )
    return replace(made, **more)  # type: ignore[arg-type]


FULL = Schedule(
    id=ScheduleId(job_id(9)),
    calendar="Mon..Fri 02:00 Europe/Berlin",
    template=replace(
        full_record(9),
        state=JobState.SCHEDULED,
        created_at=START,
        schedule_id=job_id(9),
        workflow_id="",
        ended_at=None,
    ),
    is_paused=True,
    next_at=datetime(9999, 12, 31, tzinfo=UTC),
    last_at=START,
    last_job=job_id(1),
    started=2**40,
    skipped=3,
    skipped_reason="it was missed",
)


@pytest.fixture(params=["memory", "sqlite"])
def run(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Callable[[Callable[[JobStore, ScheduleStore], Awaitable[None]]], None]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[tuple[JobStore, ScheduleStore]]:
        if request.param == "memory":
            jobs = MemoryJobStore()
            yield jobs, MemoryScheduleStore(jobs)
            return
        store = await SqliteJobStore.open(tmp_path / "state.db")
        try:
            yield store, store.schedules
        finally:
            await store.close()

    def runs(body: Callable[[JobStore, ScheduleStore], Awaitable[None]]) -> None:
        async def main() -> None:
            async with opened() as (jobs, schedules):
                await body(jobs, schedules)

        asyncio.run(main())

    return runs


Run = Callable[[Callable[[JobStore, ScheduleStore], Awaitable[None]]], None]


def test_schedules_come_back_as_they_were_oldest_first(run: Run) -> None:
    async def body(_jobs: JobStore, store: ScheduleStore) -> None:
        for each in (schedule(2), schedule(1), FULL):
            await store.save(each)
        assert list(await store.all()) == [FULL, schedule(1), schedule(2)]
        await store.save(schedule(1, is_paused=True, next_at=None))
        await store.delete(schedule(2).id)
        await store.delete(schedule(2).id)
        assert list(await store.all()) == [FULL, schedule(1, is_paused=True, next_at=None)]

    run(body)


def test_a_schedule_of_workflows_comes_back_as_one_with_its_runtimes(run: Run) -> None:
    """Another agent would look for what it starts among the jobs, and remove its files."""
    made = schedule(1)
    pins = {"python:3.11": PinnedRuntime("python-3.11", "1.2.0", "ab" * 32, {"A": "b"})}
    of_workflows = replace(made, template=replace(made.template, workflow_id=made.id, pins=pins))

    async def body(_jobs: JobStore, store: ScheduleStore) -> None:
        await store.save(of_workflows)
        await store.save(schedule(2))
        assert list(await store.all()) == [of_workflows, schedule(2)]
        moved = replace(of_workflows, next_at=START + 2 * HOUR)
        assert await store.claim(moved, due=START + HOUR)

    run(body)


def test_a_claim_stores_the_job_and_the_next_start_together_and_happens_once(run: Run) -> None:
    async def body(jobs: JobStore, store: ScheduleStore) -> None:
        await store.save(schedule(1))
        moved = schedule(1, last_at=START + HOUR, next_at=START + 2 * HOUR, started=1)
        job = replace(record(5, JobState.PENDING), schedule_id=moved.id, scheduled_at=START + HOUR)
        assert await store.claim(moved, due=START + HOUR, job=job)
        assert await jobs.get(job.id) == job
        assert list(await store.all()) == [moved]
        again = replace(job, id=job_id(6))
        assert not await store.claim(moved, due=START + HOUR, job=again)
        assert await jobs.get(again.id) is None
        left_out = replace(moved, last_at=START + 2 * HOUR, next_at=None, skipped=1)
        assert await store.claim(left_out, due=START + 2 * HOUR, job=None)
        assert list(await store.all()) == [left_out]

    run(body)


def test_a_schedule_that_is_removed_or_paused_cannot_be_claimed(run: Run) -> None:
    async def body(_jobs: JobStore, store: ScheduleStore) -> None:
        assert not await store.claim(schedule(1), due=START + HOUR, job=None)
        await store.save(schedule(1, is_paused=True, next_at=None))
        assert not await store.claim(schedule(1), due=START + HOUR, job=None)

    run(body)


def test_jobs_of_a_schedule_are_found_newest_first(run: Run) -> None:
    async def body(jobs: JobStore, _store: ScheduleStore) -> None:
        await jobs.save(record(1), *(replace(record(n), schedule_id="s") for n in (2, 3, 4)))
        page = await jobs.page(JobFilter(schedule_prefix="s"), size=2, token="")
        assert [each.id for each in page.jobs] == [job_id(4), job_id(3)]
        rest = await jobs.page(JobFilter(schedule_prefix="s"), size=2, token=page.next_token)
        assert [each.id for each in rest.jobs] == [job_id(2)]

    run(body)


def test_r4_a_broken_schedule_is_left_out_and_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "state.db"

    async def main(*, fill: bool) -> list[JobId]:
        store = await SqliteJobStore.open(path)
        try:
            if fill:
                await store.schedules.save(schedule(1))
                await store.schedules.save(schedule(2))
            return [JobId(each.id) for each in await store.schedules.all()]
        finally:
            await store.close()

    asyncio.run(main(fill=True))
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE schedules SET template = x'ff00' WHERE id = ?", (job_id(1),))
    assert asyncio.run(main(fill=False)) == [job_id(2)]
    assert "is broken and starts nothing" in caplog.text
