"""What every WorkflowStore does: the one in memory that other tests use, and the one on disk."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobFilter, JobRecord, JobState, Token
from joblet_agent.model.workflow import (
    Counts,
    Member,
    MemberState,
    Progress,
    Wish,
    WorkflowFilter,
    WorkflowState,
)
from joblet_agent.ports import JobStore, WorkflowStore
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import START, job_id, record
from tests.contract.test_job_store import MemorySubject, SqliteSubject, Subject
from tests.contract.workflow_records import (
    FULL,
    FULL_MEMBER,
    FULL_PROGRESS,
    member,
    template,
    workflow,
    workflow_id,
)
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.workflow_store import MemoryWorkflowStore

Body = Callable[[JobStore, WorkflowStore], Awaitable[None]]
Run = Callable[[Body], None]

ENDED = sorted(state for state in WorkflowState if state.has_ended)


@pytest.fixture(params=["memory", "sqlite"])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Subject:
    return MemorySubject() if request.param == "memory" else SqliteSubject(tmp_path / "state.db")


@pytest.fixture
def run(subject: Subject) -> Run:
    return lambda body: subject.run(lambda jobs: body(jobs, workflows_of(jobs)))


def workflows_of(jobs: JobStore) -> WorkflowStore:
    if isinstance(jobs, SqliteJobStore):
        return jobs.workflows
    assert isinstance(jobs, MemoryJobStore)
    return MemoryWorkflowStore(jobs)


def pending(number: int, of: int) -> JobRecord:
    """A job of a workflow, as it is stored when its time has come."""
    return replace(
        record(number, JobState.PENDING, name="tick"), workflow_id=workflow_id(of), dependencies=("a", "b")
    )


def test_a_workflow_comes_back_as_it_was_with_its_members_and_its_text(run: Run) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        members = [member(0), FULL_MEMBER, member(1, requires=FULL_MEMBER.plan.requires)]
        await store.create(FULL, "jobs:\n  ä: \0", members)
        await store.create(workflow(1), "", [])
        assert await store.get(FULL.id) == FULL
        assert await store.get(workflow(1).id) == workflow(1)
        in_order = [members[0], members[2], FULL_MEMBER]
        assert list(await store.members(FULL.id)) == [Member(each.plan) for each in in_order]
        assert list(await store.members(workflow(1).id)) == []
        assert await store.text(FULL.id) == "jobs:\n  ä: \0"

    run(body)


def test_what_is_unknown_is_none(run: Run) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        await store.create(workflow(1), "text", [member(0)])
        absent = workflow_id(2)
        assert await store.get(absent) is None
        assert await store.submitted("somebody", "t") is None
        assert list(await store.members(absent)) == []
        assert await store.templates(absent, [0]) == {}
        assert await store.text(absent) == ""
        assert list(await store.jobs_of(absent)) == []
        assert list(await store.find("f", most=9)) == []
        await store.delete(absent)

    run(body)


def test_templates_are_the_members_own_with_the_workflows_id_and_creation(run: Run) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        members = [member(0), member(1), FULL_MEMBER]
        await store.create(FULL, "", members)
        expected = {each.plan.number: template(FULL, each) for each in members}
        assert await store.templates(FULL.id, [0, 3]) == {number: expected[number] for number in (0, 3)}
        assert await store.templates(FULL.id, {1, 99}) == {1: expected[1]}
        assert await store.templates(FULL.id, []) == {}

    run(body)


def test_a_change_stores_the_workflow_its_members_and_their_jobs_together(run: Run) -> None:
    async def body(jobs: JobStore, store: WorkflowStore) -> None:
        members = [member(0), member(1), FULL_MEMBER]
        made = workflow(1, WorkflowState.PENDING, groups={"m": ("a", "b")}, token=Token("t", "d"))
        await store.create(made, "text", members)
        active = Progress(MemberState.ACTIVE, job_id(5), tries=1)
        changed = replace(made, state=WorkflowState.RUNNING, started_at=START, wish=Wish.CANCEL)
        changed = replace(changed, counts=Counts(3, active=2), is_paused=True)
        await store.save(changed, {0: active, 3: FULL_PROGRESS}, [pending(5, 1), pending(6, 1)])
        assert await store.get(made.id) == changed
        assert [each.progress for each in await store.members(made.id)] == [active, Progress(), FULL_PROGRESS]
        assert [await jobs.get(job_id(number)) for number in (5, 6)] == [pending(5, 1), pending(6, 1)]
        assert await store.text(made.id) == "text"
        ended = replace(changed, state=WorkflowState.FAILED, ended_at=START)
        await store.save(ended, {3: Progress(MemberState.WAITING, tries=4, outputs={"L": "x"})})
        assert await store.get(made.id) == ended
        assert (await store.members(made.id))[2].progress == Progress(tries=4, outputs={"L": "x"})

    run(body)


def test_a_change_of_what_is_not_there_stores_nothing(run: Run) -> None:
    async def body(jobs: JobStore, store: WorkflowStore) -> None:
        await store.create(workflow(1), "", [member(0)])
        for given, number in ((workflow(2), 0), (workflow(1, name="x"), 1), (workflow(2), None)):
            progress = {} if number is None else {0: FULL_PROGRESS, number: FULL_PROGRESS}
            with pytest.raises(StoreFailed) as caught:
                await store.save(given, progress, [pending(5, 1)])
            assert caught.value.reason == "WORKFLOW_NOT_STORED"
            assert await jobs.get(job_id(5)) is None
            assert await store.get(workflow_id(1)) == workflow(1)
            assert list(await store.members(workflow_id(1))) == [Member(member(0).plan)]

    run(body)


def test_a_workflow_is_created_once_and_so_is_a_submission(run: Run) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        made = workflow(1, started_by="a", token=Token("t", "d"))
        await store.create(made, "text", [member(0)])
        for again in (workflow(1), workflow(2, started_by="a", token=Token("t", "e"))):
            with pytest.raises(StoreFailed):
                await store.create(again, "other", [member(0), member(1)])
        assert await store.text(made.id) == "text"
        assert len(await store.members(made.id)) == 1
        assert list(await store.members(workflow_id(2))) == []
        other = workflow(3, started_by="b", token=Token("t", "d"))
        await store.create(other, "", [])
        await store.create(workflow(4), "", [])
        await store.create(workflow(5), "", [])
        assert await store.submitted("a", "t") == made
        assert await store.submitted("b", "t") == other
        assert await store.submitted("b", "") is None

    run(body)


def test_listings_are_newest_first_and_what_goes_on_is_oldest_first(run: Run) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        states = [*WorkflowState]
        made = [workflow(number, state, started_by=f"u{number % 2}") for number, state in enumerate(states)]
        for each in (*made[3:], *made[:3]):
            await store.create(each, "", [])
        assert list(await store.all(WorkflowFilter())) == made[::-1]
        going = [each for each in made if not each.state.has_ended]
        assert list(await store.all(WorkflowFilter(include_ended=False))) == going[::-1]
        assert list(await store.unfinished()) == going
        assert list(await store.all(WorkflowFilter(started_by="u1"))) == made[::-1][1::2]
        assert list(await store.all(WorkflowFilter(id_prefix=made[2].id))) == [made[2]]
        assert list(await store.all(WorkflowFilter(id_prefix="0000", started_by="nobody"))) == []
        assert list(await store.find("0000", most=2)) == [made[0].id, made[1].id]
        again = replace(made[-1], state=WorkflowState.RUNNING, ended_at=None)
        await store.save(again, {})
        assert list(await store.unfinished()) == [*going, again]

    run(body)


@pytest.mark.parametrize(
    ("keep", "before", "gone"),
    [
        (9, None, []),
        (4, None, [0, 2]),
        (4, START + timedelta(minutes=5), [0, 2, 4]),
        (0, None, [0, 2, 4, 6, 8, 10]),
    ],
)
def test_retention_lets_the_longest_ended_go(
    run: Run, keep: int, before: datetime | None, gone: list[int]
) -> None:
    async def body(_jobs: JobStore, store: WorkflowStore) -> None:
        assert await store.oldest_end() is None
        for number in range(12):
            state = ENDED[number // 2 % 4] if number % 2 == 0 else WorkflowState.RUNNING
            await store.create(workflow(number, state), "", [])
        found = await store.ended_beyond(keep=keep, before=before)
        assert list(found) == [workflow_id(number) for number in gone]
        assert await store.oldest_end() == START + timedelta(seconds=1)

    run(body)


def test_jobs_of_a_workflow_are_found_and_stay_when_it_goes(run: Run) -> None:
    async def body(jobs: JobStore, store: WorkflowStore) -> None:
        for number in (1, 2):
            await store.create(workflow(number), "text", [member(0)])
        await store.save(workflow(1), {}, [pending(number, 1) for number in (9, 7, 8)])
        await jobs.save(record(1), pending(5, 2))
        assert list(await store.jobs_of(workflow_id(1))) == [job_id(number) for number in (7, 8, 9)]
        wanted = JobFilter(workflow_id=workflow_id(1))
        page = await jobs.page(wanted, size=2, token="")
        rest = await jobs.page(wanted, size=2, token=page.next_token)
        assert [each.id for each in (*page.jobs, *rest.jobs)] == [job_id(number) for number in (9, 8, 7)]
        await store.delete(workflow_id(1))
        assert await store.get(workflow_id(1)) is None
        assert list(await store.members(workflow_id(1))) == []
        assert await store.templates(workflow_id(1), [0]) == {}
        assert await store.text(workflow_id(1)) == ""
        assert len(await store.jobs_of(workflow_id(1))) == 3
        assert await store.text(workflow_id(2)) == "text"
        assert len(await store.members(workflow_id(2))) == 1
        await jobs.delete([job_id(7)])
        assert list(await store.jobs_of(workflow_id(1))) == [job_id(8), job_id(9)]

    run(body)


def test_a_full_disk_changes_nothing_and_the_next_change_works(subject: Subject) -> None:
    async def body(jobs: JobStore) -> None:
        store = workflows_of(jobs)
        await store.create(workflow(1), "text", [member(0)])
        active = Progress(MemberState.ACTIVE, job_id(5), tries=1)
        changed = workflow(1, description="x" * 100_000)
        await subject.fill_disk(jobs)
        for write in (
            store.save(changed, {0: active}, [pending(5, 1)]),
            store.create(workflow(2), "y" * 100_000, [member(0)]),
        ):
            with pytest.raises(StoreFailed) as caught:
                await write
            assert caught.value.reason == "STORE_FULL"
        assert await store.get(workflow_id(1)) == workflow(1)
        assert list(await store.members(workflow_id(1))) == [Member(member(0).plan)]
        assert await jobs.get(job_id(5)) is None
        assert await store.get(workflow_id(2)) is None
        assert list(await store.members(workflow_id(2))) == []
        await subject.free_disk(jobs)
        await store.save(changed, {0: active}, [pending(5, 1)])
        assert await store.get(workflow_id(1)) == changed
        assert list(await store.members(workflow_id(1))) == [Member(member(0).plan, active)]
        assert await jobs.get(job_id(5)) == pending(5, 1)

    subject.run(body)
