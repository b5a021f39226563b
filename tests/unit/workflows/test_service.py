"""The use cases of workflows, on fakes."""

from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, WrongState
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import Token
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import Workflow, WorkflowFilter, WorkflowState
from joblet_agent.workflows.wanted import WantedWorkflow
from tests.unit.jobs.rig import CALLER, Core, until, with_core

CHAIN = "jobs: {a: {command: x}, b: {command: x, requires: a}}"


async def run(core: Core, text: str) -> Workflow:
    made = await core.workflows.run(WantedWorkflow(text), CALLER)
    assert isinstance(made, Workflow)
    return made


async def states(core: Core, workflow: Workflow) -> dict[str, str]:
    return {each.plan.name: each.progress.state.value for each in await core.workflows.members(workflow)}


async def end_next(core: Core, status: int = 0) -> str:
    """Let the command end that has run longest; return its job's name."""
    units = core.host.units
    await until(lambda: any(core.registry.get(job_id) for job_id in units.units))
    job_id = next(iter(units.units))
    job = core.registry.get(job_id)
    assert job is not None
    await job.begun.wait()
    units.end(job_id, "exited", status, "exit-code" if status else "success")
    await until(lambda: core.registry.get(job_id) is None)
    return job.record.spec.name


def test_jobs_run_one_after_the_other(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow = await run(core, CHAIN)
        assert await end_next(core) == "a"
        assert await end_next(core) == "b"
        await until(lambda: not core.workflows.has_unfinished)
        ended = await core.workflows.get(workflow.id)
        assert ended.state is WorkflowState.COMPLETED
        assert await states(core, ended) == {"a": "COMPLETED", "b": "COMPLETED"}

    with_core(tmp_path, case)


def test_what_failed_is_run_again_and_then_forgotten(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow = await run(core, CHAIN)
        with pytest.raises(WrongState):
            await core.workflows.delete(workflow.id)
        await end_next(core, 1)
        await until(lambda: not core.workflows.has_unfinished)
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.FAILED
        await core.workflows.retry(workflow.id, failed_only=True)
        await end_next(core)
        await end_next(core)
        await until(lambda: not core.workflows.has_unfinished)
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.COMPLETED
        assert await core.workflows.delete(workflow.id) == (workflow.id, 3)
        assert core.host.records == []

    with_core(tmp_path, case)


def test_a_workflow_is_paused_and_stopped(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow = await run(core, CHAIN)
        await until(lambda: any(core.registry.get(job_id) for job_id in core.host.units.units))
        job_id = next(iter(core.host.units.units))
        assert (await core.workflows.pause(workflow.id)).is_paused
        assert core.host.units.units[job_id].is_frozen
        assert not (await core.workflows.resume(workflow.id)).is_paused
        assert not core.host.units.units[job_id].is_frozen
        await core.workflows.stop(workflow.id)
        await until(lambda: not core.workflows.has_unfinished)
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.STOPPED
        assert await states(core, workflow) == {"a": "STOPPED", "b": "CANCELED"}

    with_core(tmp_path, case)


def test_a_watch_tells_each_change_until_the_end(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow = await run(core, CHAIN)
        watch = await core.workflows.watch(workflow.id)
        first = await anext(watch)
        assert [each.plan.name for each in first.members] == ["a", "b"]
        await end_next(core)
        await end_next(core)
        seen = [change async for change in watch]
        assert seen[-1].workflow.state is WorkflowState.COMPLETED

    with_core(tmp_path, case)


def test_a_repeated_submission_is_compared_without_its_secrets(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        async def submitted(text: str, digest: str = "digest") -> Workflow:
            made = await core.workflows.run(WantedWorkflow(text), CALLER, token=Token("once", digest))
            assert isinstance(made, Workflow)
            return made

        keyed = "secret_environment: {KEY: %s}\n" + CHAIN
        first = await submitted(keyed % "s3cr3t")
        again = await submitted(keyed % "rotated")
        assert again.id == first.id
        assert again.token == first.token
        with pytest.raises(InvalidRequest):
            await submitted(keyed % "s3cr3t", "another")
        with pytest.raises(InvalidRequest):
            await submitted(CHAIN)
        await core.workflows.stop(first.id)
        await until(lambda: not core.workflows.has_unfinished)

    with_core(tmp_path, case)


def test_a_workflow_with_a_time_waits_for_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        due = core.clock.now() + timedelta(hours=1)
        workflow = await run(core, f'schedule: "{due.isoformat()}"\n{CHAIN}')
        assert workflow.state is WorkflowState.SCHEDULED
        core.host.timers.advance(timedelta(hours=1))
        assert await end_next(core) == "a"
        assert await end_next(core) == "b"
        await until(lambda: not core.workflows.has_unfinished)
        assert (await core.workflows.get(workflow.id)).state is WorkflowState.COMPLETED

    with_core(tmp_path, case)


def test_a_calendar_makes_a_workflow_at_each_start(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await core.workflows.run(WantedWorkflow(f"schedule: every 60\n{CHAIN}"), CALLER)
        assert isinstance(made, Schedule)
        for number in (1, 2):
            core.host.timers.advance(timedelta(seconds=60))
            assert await end_next(core) == "a"
            assert await end_next(core) == "b"
            await until(lambda: not core.workflows.has_unfinished)
            found = await core.workflows.all(WorkflowFilter())
            assert [each.state for each in found] == [WorkflowState.COMPLETED] * number
            assert {each.schedule_id for each in found} == {made.id}
        await core.schedules.remove(made.id)
        assert not (core.host.paths.workflows / made.id).exists()

    with_core(tmp_path, case)


def test_an_empty_directory_that_came_along_is_there_at_each_start(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        text = "schedule: every 60\njobs: {a: {command: x, uploads: {directories: [empty]}}}"
        uploads = Uploads((NewFile("empty", is_directory=True),))
        made = await core.workflows.run(WantedWorkflow(text), CALLER, uploads)
        core.host.timers.advance(timedelta(seconds=60))
        assert await end_next(core) == "a"
        assert core.schedules.get(made.id).skipped_reason == ""
        await until(lambda: not core.workflows.has_unfinished)

    with_core(tmp_path, case)
