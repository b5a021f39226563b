"""Which ended workflows are let go, and when."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from joblet_agent.config import RetentionConfig
from joblet_agent.errors import WrongState
from joblet_agent.model.workflow import WorkflowFilter, WorkflowId, WorkflowState
from joblet_agent.workflows.retention import WorkflowRetention
from tests.contract.workflow_records import workflow, workflow_id
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.workflow_store import MemoryWorkflowStore
from tests.unit.jobs.rig import Core, until, with_core
from tests.unit.workflows.test_service import end_next, run

ENDED = WorkflowState.COMPLETED


class HostClock:
    """The host's own time: the task sleeps by it."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class Case:
    """A retention whose deletions are written down."""

    def __init__(self, config: RetentionConfig) -> None:
        self.store = MemoryWorkflowStore(MemoryJobStore())
        self.deleted: list[WorkflowId] = []
        self.refused: set[WorkflowId] = set()
        self.retention = WorkflowRetention(
            config=config, store=self.store, clock=HostClock(), delete=self._delete
        )

    async def _delete(self, given: WorkflowId) -> None:
        if given in self.refused:
            self.refused.discard(given)
            raise WrongState("cannot delete workflow: it is RUNNING", reason="WORKFLOW_NOT_ENDED")
        await self.store.delete(given)
        self.deleted.append(given)

    async def ended(self, number: int, *, ago: timedelta = timedelta(0)) -> None:
        await self.store.create(workflow(number, ENDED, ended_at=datetime.now(UTC) - ago), "", [])


def with_retention(config: RetentionConfig, body: Callable[[Case], Awaitable[None]]) -> None:
    async def main() -> None:
        case = Case(config)
        try:
            async with asyncio.timeout(20):
                await body(case)
        finally:
            await case.retention.close()

    asyncio.run(main())


def test_the_newest_stay_and_what_has_not_ended_stays_however_old_it_is() -> None:
    async def body(case: Case) -> None:
        for number in (1, 2, 3):
            await case.ended(number, ago=timedelta(hours=9 - number))
        await case.store.create(workflow(0, WorkflowState.RUNNING), "", [])
        case.retention.open()
        await until(lambda: case.deleted == [workflow_id(1)])
        await case.ended(4)
        case.retention.reconsider()
        await until(lambda: case.deleted == [workflow_id(1), workflow_id(2)])
        assert case.store.workflows.keys() == {workflow_id(number) for number in (0, 3, 4)}

    with_retention(RetentionConfig(keep_workflows=2), body)


def test_one_goes_when_its_time_has_come_though_nothing_else_happens() -> None:
    async def body(case: Case) -> None:
        await case.ended(1, ago=timedelta(seconds=59.7))
        await case.ended(2, ago=timedelta(seconds=30))
        case.retention.open()
        while not case.deleted:  # noqa: ASYNC110  # the task sleeps for real
            await asyncio.sleep(0.01)
        assert case.deleted == [workflow_id(1)]
        assert [each.id for each in await case.store.all(WorkflowFilter())] == [workflow_id(2)]

    with_retention(RetentionConfig(keep_for=timedelta(minutes=1)), body)


def test_one_that_cannot_go_keeps_no_other_and_is_tried_again() -> None:
    async def body(case: Case) -> None:
        case.refused = {workflow_id(1)}
        for number in (1, 2):
            await case.ended(number)
        case.retention.open()
        await until(lambda: case.deleted == [workflow_id(2)])
        assert workflow_id(1) in case.store.workflows
        case.retention.reconsider()
        await until(lambda: case.deleted == [workflow_id(2), workflow_id(1)])

    with_retention(RetentionConfig(keep_workflows=0), body)


def test_workflows_go_with_their_jobs_while_the_agent_runs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core, "jobs: {a: {command: x}}")
        await end_next(core)
        await until(lambda: not core.workflows.has_unfinished)
        second = await run(core, "jobs: {a: {command: x}}")
        await end_next(core)
        await until(lambda: core.host.workflows.workflows.keys() == {second.id})
        await until(lambda: {job.workflow_id for job in core.host.records} == {second.id})
        assert first.id != second.id

    with_core(tmp_path, case, retention=RetentionConfig(keep_workflows=1))
