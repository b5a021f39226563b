"""Files and secrets of a workflow, on fakes: each of its jobs gets copies of what it names."""

import asyncio
import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from joblet_agent.jobs.belongings import NotDelivered
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.tree import write_tree
from joblet_agent.model.files import NewFile
from joblet_agent.model.ids import new_job_id
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from joblet_agent.model.resources import Resources
from joblet_agent.model.secrets import Secrets
from joblet_agent.model.workflow import MemberPlan, WorkflowId, new_workflow_id
from joblet_agent.workflows.belongings import WorkflowBelongings
from tests.contract.job_records import START
from tests.unit.jobs.rig import Core, Host, until, with_core

FILES = (
    NewFile("in", is_directory=True, mode=0o500),
    NewFile("in/data", content=b"kept", mode=0o640),
    NewFile("in/more/deep", content=b"deep"),
    NewFile("tool", content=b"#!/bin/sh\n", mode=0o755),
    NewFile("other", content=b"of another job"),
)
SECRETS = {0: Secrets({"KEY": "s3cr3t"}), 2: Secrets({"KEY": "s3cr3t"}), 3: Secrets({"KEY": "another"})}
PLAN = MemberPlan(0, "build", "build")


def sent(files: tuple[NewFile, ...] = FILES) -> Delivery:
    def deliver(work: Path) -> None:
        work.parent.mkdir(mode=0o700)
        work.mkdir(mode=0o755)
        write_tree(work, files)

    return deliver


def job_of(workflow_id: WorkflowId, spec: JobSpec, name: str = "build") -> JobRecord:
    return JobRecord(new_job_id(), replace(spec, name=name), JobState.PENDING, START, workflow_id=workflow_id)


def tree(top: Path) -> dict[str, bytes]:
    return {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}


def left_by(core: Core, workflow_id: WorkflowId, number: int, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        file = core.host.paths.workflow(workflow_id).output_files(number) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


async def started(core: Core, job: JobRecord) -> JobId:
    await core.store.save(job)
    core.waiting.take_in(job.id)
    await until(lambda: job.id in core.host.units.units)
    return job.id


async def end(core: Core, job_id: JobId) -> None:
    core.host.units.end(job_id, "exited", 0)
    await core.ended(job_id)


def on_disk(host: Host) -> list[str]:
    """Return what there is of workflows, of jobs that have not run, and of secrets."""
    places = (host.paths.workflows, host.paths.jobs, host.paths.waiting_secrets, host.paths.starting_secrets)
    return [str(found) for place in places for found in place.rglob("*")]


def test_a_job_has_the_files_that_it_names_and_what_others_left(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        await core.workflow_belongings.keep(workflow_id, sent(), SECRETS)
        left_by(core, workflow_id, 7, {"model/weights": b"w", "report": b"r"})
        plan = replace(PLAN, upload_files=("in/more/deep", "./tool"), upload_directories=("in/",))
        job = job_of(workflow_id, JobSpec("sleep", secret_environment=("KEY",)))
        await core.workflow_belongings.give(workflow_id, plan, job, {"train": 7, "silent": 8})
        await started(core, job)
        work = core.host.paths.job(job.id).work
        assert tree(work) == {
            "in/data": b"kept",
            "in/more/deep": b"deep",
            "tool": b"#!/bin/sh\n",
            "inputs/train/model/weights": b"w",
            "inputs/train/report": b"r",
        }
        assert (work / "inputs/silent").is_dir()
        modes = {name: stat.S_IMODE((work / name).stat().st_mode) for name in ("in", "in/data", "tool")}
        assert modes == {"in": 0o500, "in/data": 0o640, "tool": 0o755}
        assert core.host.units.plans[job.id].environment["KEY"] == "s3cr3t"
        (work / "in/data").write_bytes(b"changed by the job")
        await end(core, job.id)
        second = job_of(workflow_id, JobSpec("sleep"))
        await core.workflow_belongings.give(workflow_id, replace(plan, number=1), second, {})
        assert tree(core.host.paths.job(second.id).work)["in/data"] == b"kept"

    with_core(tmp_path, case)


def test_each_job_has_its_own_secrets_and_the_disk_has_equal_ones_once(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        await core.workflow_belongings.keep(workflow_id, None, SECRETS)
        kept = core.host.paths.workflow(workflow_id)
        assert stat.S_IMODE(kept.secrets.stat().st_mode) == 0o600
        assert stat.S_IMODE(kept.home.stat().st_mode) == 0o700
        assert kept.secrets.read_bytes().count(b"s3cr3t") == 1
        for number, value in ((0, "s3cr3t"), (2, "s3cr3t"), (3, "another")):
            job = job_of(workflow_id, JobSpec("sleep", secret_environment=("KEY",)))
            await core.workflow_belongings.give(workflow_id, replace(PLAN, number=number), job, {})
            await started(core, job)
            assert core.host.units.plans[job.id].environment["KEY"] == value
            await end(core, job.id)
        await core.workflow_belongings.discard_secrets(workflow_id)
        late = job_of(workflow_id, JobSpec("sleep", secret_environment=("KEY",)))
        with pytest.raises(NotDelivered) as caught:
            await core.workflow_belongings.give(workflow_id, PLAN, late, {})
        assert caught.value.reason == "SECRETS_GONE"
        await core.workflow_belongings.discard(workflow_id)

    left = on_disk(with_core(tmp_path, case))
    assert not [each for each in left if "jobs" not in each]


def test_a_job_that_names_nothing_costs_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        await core.workflow_belongings.keep(workflow_id, None, {0: Secrets()})
        await core.workflow_belongings.give(workflow_id, PLAN, job_of(workflow_id, JobSpec("sleep")), {})

    assert on_disk(with_core(tmp_path, case)) == []


@pytest.mark.parametrize(
    ("plan", "spec", "reason", "text"),
    [
        (replace(PLAN, upload_files=("in/gone",)), JobSpec("x"), "FILE_NOT_FOUND", "'in/gone' did not come"),
        (replace(PLAN, upload_files=("tool/x",)), JobSpec("x"), "FILE_NOT_FOUND", "'tool/x' did not come"),
        (replace(PLAN, upload_files=("../../x",)), JobSpec("x"), "FILE_NOT_FOUND", "did not come"),
        (
            replace(PLAN, upload_directories=("in",)),
            JobSpec("x", work_in_memory=True),
            "UPLOADS_INTO_MEMORY",
            "memory of its own",
        ),
        (
            replace(PLAN, upload_files=("tool", "other")),
            JobSpec("x", resources=Resources(work_size=12)),
            "UPLOADS_OVER_WORK_SIZE",
            "its work size is 12",
        ),
        (PLAN, JobSpec("x", secret_environment=("KEY",)), "SECRETS_GONE", "are gone"),
    ],
)
def test_what_cannot_be_given_leaves_nothing(
    tmp_path: Path, plan: MemberPlan, spec: JobSpec, reason: str, text: str
) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        await core.workflow_belongings.keep(workflow_id, sent(), {})
        with pytest.raises(NotDelivered) as caught:
            await core.workflow_belongings.give(workflow_id, plan, job_of(workflow_id, spec), {})
        assert caught.value.reason == reason
        assert text in str(caught.value)
        await core.workflow_belongings.discard(workflow_id)

    assert on_disk(with_core(tmp_path, case)) == []


def test_what_cannot_be_kept_leaves_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        def full(work: Path) -> None:
            sent()(work)
            raise OSError(28, os.strerror(28))

        with pytest.raises(NotDelivered) as caught:
            await core.workflow_belongings.keep(new_workflow_id(), full, SECRETS)
        assert caught.value.reason == "CANNOT_STORE_FILES"

    assert on_disk(with_core(tmp_path, case)) == []


def test_a_workflow_has_what_another_one_has(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = new_workflow_id(), new_workflow_id()
        await core.workflow_belongings.keep(first, sent(), SECRETS)
        await core.workflow_belongings.keep_copy(second, first)
        await core.workflow_belongings.discard(first)
        job = job_of(second, JobSpec("sleep", secret_environment=("KEY",)))
        plan = replace(PLAN, number=3, upload_files=("tool",))
        await core.workflow_belongings.give(second, plan, job, {})
        await started(core, job)
        assert core.host.units.plans[job.id].environment["KEY"] == "another"
        assert list(tree(core.host.paths.job(job.id).work)) == ["tool"]
        await end(core, job.id)

    with_core(tmp_path, case)


def test_200_jobs_at_once_leave_threads_for_others(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        workflow_id = new_workflow_id()
        await core.workflow_belongings.keep(workflow_id, sent(), SECRETS)
        give = partial(core.workflow_belongings.give, workflow_id, replace(PLAN, upload_directories=("in",)))
        jobs = [job_of(workflow_id, JobSpec("sleep")) for _ in range(200)]
        gifts = asyncio.gather(*(give(job, {}) for job in jobs))
        await asyncio.to_thread(int)
        assert not gifts.done()
        await gifts
        for job in jobs:
            assert (core.host.paths.job(job.id).work / "in/data").exists()
            await core.workflow_belongings.take_back(job)
            assert not core.host.paths.job(job.id).home.exists()

    with_core(tmp_path, case)


def test_r3_the_next_agent_removes_what_belongs_to_no_workflow_and_secrets_of_ended_ones(
    tmp_path: Path,
) -> None:
    runs, ended, unknown = new_workflow_id(), new_workflow_id(), new_workflow_id()

    async def case(core: Core) -> None:
        kept = core.workflow_belongings
        for workflow_id in (runs, ended, unknown):
            await kept.keep(workflow_id, sent(), SECRETS)
        next_one = WorkflowBelongings(core.host.paths, core.belongings)
        await next_one.discard_all_but({runs, ended}, unfinished={runs})
        await until(lambda: not core.host.paths.workflow(unknown).home.exists())
        await next_one.close()
        assert core.host.paths.workflow(runs).secrets.exists()
        assert not core.host.paths.workflow(ended).secrets.exists()
        assert (core.host.paths.workflow(ended).files / "tool").exists()

    with_core(tmp_path, case)
