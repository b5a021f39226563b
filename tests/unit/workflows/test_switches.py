"""What an administrator switches off while a workflow waits stays off (B9)."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import HostNetwork, JobsConfig, NetworksConfig
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.workflow import WorkflowFilter, WorkflowState
from joblet_agent.workflows.wanted import WantedWorkflow
from tests.unit.jobs.rig import Core, Host, until

OPERATOR = Identity("operator", Role.OPERATOR)
ON = NetworksConfig(host=HostNetwork.OPERATOR)
OFF = NetworksConfig(host=HostNetwork.NOBODY)
WAYS = {
    "waits": "jobs: {a: {command: x}, b: {command: y, network: host, requires: a}}",
    "retry": "jobs: {b: {command: y, network: host, retries: 1}}",
    "recurring": "schedule: every 60\njobs: {b: {command: y, network: host}}",
}


@pytest.mark.parametrize("way", WAYS)
def test_b9_what_is_switched_off_stays_off_in_every_way_to_a_start_of_a_workflow(
    tmp_path: Path, way: str
) -> None:
    host = Host(tmp_path)
    jobs = JobsConfig(default_network="none")

    async def before() -> None:
        core = Core(host, jobs=jobs, networks=ON)
        await core.open()
        await core.workflows.run(WantedWorkflow(WAYS[way]), OPERATOR)
        if way != "recurring":
            await until(lambda: bool(host.units.units))
        await core.close()

    async def after() -> None:
        core = Core(host, jobs=jobs, networks=OFF)
        await core.open()
        started = list(host.units.starts)
        for job_id in started:
            host.units.end(
                job_id, "exited", int(way == "retry"), "exit-code" if way == "retry" else "success"
            )
        host.timers.advance(timedelta(minutes=2))
        if way == "recurring":
            (schedule,) = core.schedules.all()
            await until(lambda: core.schedules.get(schedule.id).skipped > 0)
            assert "on this node" in core.schedules.get(schedule.id).skipped_reason
            assert await core.workflows.all(WorkflowFilter()) == []
        else:
            await until(lambda: not core.workflows.has_unfinished)
            (workflow,) = await core.workflows.all(WorkflowFilter())
            assert workflow.state is WorkflowState.FAILED
            last = (await core.workflows.members(workflow))[-1].progress
            assert "on this node" in last.message
        assert host.units.starts == started
        await core.close()

    asyncio.run(before())
    asyncio.run(after())
