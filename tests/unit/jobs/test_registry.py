"""The queue against a list, and the slots."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.config import JobsConfig
from joblet_agent.jobs.registry import JobQueue, JobRegistry
from joblet_agent.model.job import JobId
from tests.contract.job_records import job_id, record

STEPS = st.lists(st.tuples(st.sampled_from(["append", "remove", "start"]), st.integers(0, 9)), max_size=80)


@given(STEPS)
def test_the_queue_is_first_come_first_served(steps: list[tuple[str, int]]) -> None:
    queue, model = JobQueue(), list[JobId]()
    for verb, number in steps:
        wanted = job_id(number)
        if verb == "append" and wanted not in model:
            queue.append(wanted)
            model.append(wanted)
        elif verb == "remove":
            assert queue.remove(wanted) == (wanted in model)
            model = [waiting for waiting in model if waiting != wanted]
        elif verb == "start" and model:
            assert queue.first() == model[0]
            assert queue.remove(model.pop(0))
        assert len(queue) == len(model)
        assert [queue.position(waiting) for waiting in model] == list(range(1, len(model) + 1))
        assert all((job_id(other) in queue) == (job_id(other) in model) for other in range(10))
        assert all(queue.position(job_id(other)) == 0 for other in range(10) if job_id(other) not in model)


def test_slots() -> None:
    async def main() -> None:
        registry = JobRegistry(JobsConfig(max_concurrent=2))
        registry.add(record(1))
        assert registry.has_room
        registry.add(record(2))
        registry.queue.append(job_id(3))
        assert (registry.has_room, registry.unfinished) == (False, 3)
        registry.remove(job_id(1))
        registry.remove(job_id(1))
        assert (registry.has_room, registry.unfinished) == (True, 2)
        assert [job.record.id for job in registry] == [job_id(2)]

    asyncio.run(main())


def test_a_registry_may_change_while_it_is_walked() -> None:
    async def main() -> None:
        registry = JobRegistry(JobsConfig(max_concurrent=9))
        for number in range(5):
            registry.add(record(number))
        for job in registry:
            registry.remove(job.record.id)
        assert not list(registry)

    asyncio.run(main())


def test_ends_are_announced_to_whoever_asked_before_and_once() -> None:
    async def main() -> None:
        registry = JobRegistry(JobsConfig(max_concurrent=1))
        early = registry.end_of(job_id(1))  # it waits, and somebody reads its log
        job = registry.add(record(1))
        assert job.end is early
        registry.announce_end(job_id(1))
        registry.announce_end(job_id(1))
        await early.wait()
        assert early.ended

    asyncio.run(main())


@pytest.mark.parametrize(("prefix", "found"), [("00000000", {1, 2}), (job_id(1), {1}), ("f", set())])
def test_ids_matching(prefix: str, found: set[int]) -> None:
    async def main() -> None:
        registry = JobRegistry(JobsConfig(max_concurrent=9))
        registry.add(record(1))
        registry.add(record(2))
        assert registry.ids_matching(prefix) == {job_id(number) for number in found}

    asyncio.run(main())
