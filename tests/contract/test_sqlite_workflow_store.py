"""What only a store on disk has to survive, and to be careful with: damage, and the size of a workflow."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from joblet_agent.errors import StoreFailed
from joblet_agent.model.workflow import MemberState, Progress, WorkflowFilter, WorkflowState
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import job_id
from tests.contract.workflow_records import member, workflow, workflow_id

T = TypeVar("T")

ONE_CHANGE = 100_000
"""More bytes than a change of one member writes."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def with_store(path: Path, body: Callable[[SqliteJobStore], Awaitable[T]]) -> T:
    async def main() -> T:
        store = await SqliteJobStore.open(path)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


def edit(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def filled(path: Path) -> Path:
    """Three workflows of two members, the last of which has ended."""

    async def body(store: SqliteJobStore) -> None:
        for number, state in enumerate([WorkflowState.RUNNING, WorkflowState.RUNNING, WorkflowState.FAILED]):
            await store.workflows.create(workflow(number, state), "text", [member(0), member(1)])

    with_store(path, body)
    return path


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE workflows SET record = x'00'",
        "UPDATE workflows SET record = x'5b5d'",
        "UPDATE workflows SET record = CAST(replace(printf('%20000s', ''), ' ', '[') AS BLOB)",
        "UPDATE workflows SET record = CAST('{\"ended_at\":9e99}' AS BLOB)",
        'UPDATE workflows SET record = CAST(\'{"counts":{"total":"x"}}\' AS BLOB)',
        "UPDATE workflows SET state = 'UNKNOWN'",
        "UPDATE workflows SET created_usec = 9223372036854775807",
        "UPDATE workflow_texts SET group_names = x'7b'",
        "UPDATE workflow_texts SET group_names = CAST('{\"a\":1}' AS BLOB)",
        "DELETE FROM workflow_texts",
    ],
)
def test_r4_a_broken_workflow_is_left_out_and_can_be_deleted(
    path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = "workflow_id" if "workflow_texts" in change else "id"
    edit(filled(path), f"{change} WHERE {key} = '{workflow_id(1)}'")

    async def body(store: SqliteJobStore) -> None:
        workflows = store.workflows
        assert [each.id for each in await workflows.unfinished()] == [workflow_id(0)]
        assert {each.id for each in await workflows.all(WorkflowFilter())} == {workflow_id(0), workflow_id(2)}
        assert await workflows.get(workflow_id(1)) is None
        assert workflow_id(1) in await workflows.find("", most=9)
        await workflows.delete(workflow_id(1))
        assert workflow_id(1) not in await workflows.find("", most=9)

    with_store(path, body)
    assert f"workflow '{workflow_id(1)}' is broken and is left out" in caplog.text


def test_r4_a_broken_workflow_that_has_ended_is_let_go_by_retention(path: Path) -> None:
    edit(filled(path), f"UPDATE workflows SET record = x'00' WHERE id = '{workflow_id(2)}'")
    beyond = with_store(path, lambda store: store.workflows.ended_beyond(keep=0, before=None))
    assert list(beyond) == [workflow_id(2)]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE workflow_members SET state = 'UNKNOWN'",
        "UPDATE workflow_members SET progress = x'00'",
        "UPDATE workflow_members SET progress = CAST('{\"outputs\":[[1,2]]}' AS BLOB)",
        "DELETE FROM workflow_members",
        "UPDATE workflow_plans SET plan = x'7b'",
        'UPDATE workflow_plans SET plan = CAST(\'{"requires":[["a","OTHER"]]}\' AS BLOB)',
        'UPDATE workflow_plans SET plan = CAST(\'{"requires":[["a",[]]]}\' AS BLOB)',
        'UPDATE workflow_plans SET plan = CAST(\'{"requires":[{"xor":[]}]}\' AS BLOB)',
        "UPDATE workflow_plans SET plan = CAST('{\"max_wait_usec\":9e99}' AS BLOB)",
    ],
)
def test_r4_a_broken_member_makes_its_workflow_unusable_and_no_other(path: Path, change: str) -> None:
    edit(filled(path), f"{change} WHERE workflow_id = '{workflow_id(1)}' AND number = 1")

    async def body(store: SqliteJobStore) -> None:
        with pytest.raises(StoreFailed) as caught:
            await store.workflows.members(workflow_id(1))
        assert caught.value.reason == "WORKFLOW_BROKEN"
        assert f"cannot read workflow {workflow_id(1)}: what is stored of its job 'job-1'" in str(
            caught.value
        )
        assert len(await store.workflows.members(workflow_id(0))) == 2
        assert len(await store.workflows.unfinished()) == 2

    with_store(path, body)


def test_r4_a_broken_template_is_left_out(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    where = f"workflow_id = '{workflow_id(1)}' AND number = 1"
    edit(filled(path), f"UPDATE workflow_plans SET template = x'00' WHERE {where}")

    async def body(store: SqliteJobStore) -> None:
        assert (await store.workflows.templates(workflow_id(1), [0, 1])).keys() == {0}
        assert len(await store.workflows.members(workflow_id(1))) == 2
        assert len(await store.workflows.templates(workflow_id(0), [0, 1])) == 2

    with_store(path, body)
    assert f"what job 'job-1' of workflow {workflow_id(1)} is to run is broken" in caplog.text


def test_r4_broken_progress_is_replaced_by_the_next(path: Path) -> None:
    edit(filled(path), f"UPDATE workflow_members SET progress = x'00' WHERE workflow_id = '{workflow_id(1)}'")

    async def body(store: SqliteJobStore) -> None:
        progress = Progress(MemberState.ACTIVE, job_id(1), tries=1)
        await store.workflows.save(workflow(1), {0: progress, 1: progress})
        assert [each.progress for each in await store.workflows.members(workflow_id(1))] == [progress] * 2

    with_store(path, body)


def test_a_change_writes_what_has_changed_and_not_the_whole_workflow(path: Path) -> None:
    log = path.with_name("state.db-wal")

    async def body(store: SqliteJobStore) -> None:
        made = workflow(1, groups={"m": tuple(f"job-{number}" for number in range(2000))})
        await store.workflows.create(made, "x" * 1_000_000, [member(number) for number in range(2000)])
        edit(path, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert log.stat().st_size == 0
        await store.workflows.save(made, {1000: Progress(MemberState.ACTIVE, job_id(1), tries=1)})
        assert 0 < log.stat().st_size < ONE_CHANGE

    with_store(path, body)
