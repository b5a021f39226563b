"""The slice of a workflow is there while it runs, and no slice goes that something runs in."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable, StoreFailed
from joblet_agent.model.ids import WorkflowId, new_workflow_id
from joblet_agent.model.job import JobState
from joblet_agent.model.workflow import Member, WorkflowState
from tests.unit.jobs.rig import Core, Host, until, with_core
from tests.unit.workflows.test_service import CHAIN, end_next, run


def test_it_has_the_workflows_name_and_goes_at_the_end(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        titles = core.host.units.slices.titles
        workflow = await run(core, f"name: nightly\n{CHAIN}")
        assert await end_next(core) == "a"
        assert titles == {workflow.id: "nightly"}
        assert await end_next(core) == "b"
        assert {plan.workflow_id for plan in core.host.units.plans.values()} == {workflow.id}
        await until(lambda: not core.workflows.has_unfinished)
        await until(lambda: not titles)

    with_core(tmp_path, case)


def test_jobs_start_where_it_cannot_be_made(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        slices = core.host.units.slices
        slices.failure = HostUnavailable("cannot ask systemd: no answer", reason="SYSTEMD_UNAVAILABLE")
        workflow = await run(core, CHAIN)
        assert await end_next(core) == "a"
        slices.failure = None
        assert await end_next(core) == "b"
        await until(lambda: not core.workflows.has_unfinished)
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.COMPLETED
        await until(lambda: not slices.titles)

    with_core(tmp_path, case)


async def _cannot_read(workflow_id: WorkflowId) -> list[Member]:
    raise StoreFailed(f"cannot read the state database: {workflow_id}", reason="STORE_FAILED")


def test_what_an_agent_that_was_killed_has_left_goes_and_what_runs_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        first = Core(host)
        await first.open()
        workflow = await run(first, CHAIN)
        await until(lambda: bool(host.units.units))
        (job_id,) = host.units.units
        await until(lambda: host.store.records[job_id].state is JobState.RUNNING)
        await first.close()
        host.units.slices.titles[new_workflow_id()] = "of one that is gone"
        monkeypatch.setattr(host.workflows, "members", _cannot_read)
        second = Core(host)
        await second.open()
        await until(lambda: len(host.units.slices.titles) == 1)
        await asyncio.sleep(0)
        assert list(host.units.slices.titles) == [workflow.id]
        assert await second.state(job_id) is JobState.RUNNING
        await second.close()

    asyncio.run(main())
