"""Workflows that nothing more comes of, because they have ended or cannot be read."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.errors import WrongState
from joblet_agent.model.workflow import WorkflowState
from tests.unit.jobs.rig import Core, Host, until
from tests.unit.workflows.test_service import CHAIN, end_next, run


def test_r4_a_workflow_that_cannot_be_read_keeps_no_agent_from_starting_and_can_be_deleted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host)
        await core.open()
        workflow = await run(core, CHAIN)
        await until(lambda: any(core.registry.get(job_id) for job_id in host.units.units))
        job = core.registry.get(next(iter(host.units.units)))
        assert job is not None
        await job.begun.wait()
        await core.close()

        host.workflows.broken.add(workflow.id)
        core = Core(host)
        await core.open()
        assert f"workflow {workflow.id} does not go on: cannot read" in caplog.text
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.RUNNING
        with pytest.raises(WrongState, match=f"its job {job.record.id[:8]} is RUNNING") as caught:
            await core.workflows.delete(workflow.id)
        assert caught.value.reason == "WORKFLOW_NOT_ENDED"
        await end_next(core)
        assert await core.workflows.delete(workflow.id) == (workflow.id, 1)
        assert not host.workflows.workflows
        assert not host.records
        await core.close()

    asyncio.run(main())
