"""Runtimes of jobs: what a job gets, what keeps it from starting, and who uses what."""

import asyncio
import stat
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, JobletError, LaunchFailed, WrongState
from joblet_agent.model.job import JobRecord, JobSpec, JobState, Reason
from joblet_agent.model.runtime import PinnedRuntime, Runtime, RuntimeFacts
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.workflow import WorkflowState
from joblet_agent.runtimes.users import RuntimeUsers
from tests.contract.job_records import job_id, record
from tests.contract.workflow_records import FULL as WORKFLOW
from tests.contract.workflow_records import FULL_MEMBER as MEMBER
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.workflow_store import MemoryWorkflowStore
from tests.unit.jobs.rig import CALLER, Core, with_core


class Kit:
    """A launcher that is always there."""

    def refresh(self) -> None:
        pass


async def put(core: Core, name: str, version: str = "1.0.0", **environment: str) -> Runtime:
    tree = await core.runtimes.store.staging("test")
    (tree / "who").write_text(f"{name}@{version}", encoding="utf-8")
    return await core.runtimes.store.add(tree, RuntimeFacts(name, version, environment=environment))


def run(tmp_path: Path, case: Callable[[Core], Awaitable[None]]) -> None:
    async def with_kit(core: Core) -> None:
        core.runtimes.jobs._kit = Kit()  # type: ignore[assignment]
        await case(core)

    with_core(tmp_path, with_kit)


def test_a_job_has_the_runtime_of_the_moment_when_it_was_accepted(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await put(core, "python-3.11", A="b")
        job = await core.service.run(JobSpec("true", runtime="python:3.11"), CALLER)
        await put(core, "python-3.11", "2.0.0")
        pinned = PinnedRuntime("python-3.11", "1.0.0", made.digest, {"A": "b"})
        assert (await core.service.get(job.id)).runtime == pinned
        plan = core.host.units.plans[job.id]
        assert (plan.root, plan.kit) == (
            core.host.paths.runtime_tree(made.digest),
            core.host.paths.launch_kit,
        )
        assert plan.environment["JOBLET_RUNTIME"] == "python-3.11@1.0.0"
        without = await core.service.run(JobSpec("true"), CALLER)
        assert core.host.units.plans[without.id].kit is None

    run(tmp_path, case)


def test_an_unknown_runtime_makes_no_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await put(core, "python-3.11")
        with pytest.raises(InvalidRequest, match=r"did you mean python-3\.11") as caught:
            await core.service.run(JobSpec("true", runtime="python-3.12"), CALLER)
        assert caught.value.reason == "RUNTIME_UNKNOWN"
        assert core.host.records == []

    run(tmp_path, case)


@pytest.mark.parametrize(
    ("harm", "reason", "why"),
    [
        (lambda tree: (tree / "work").rmdir(), "RUNTIME_DAMAGED", "/work is missing in it"),
        (lambda tree: (tree / "etc/hosts").unlink(), "RUNTIME_DAMAGED", "/etc/hosts is missing in it"),
        (lambda tree: _replaced(tree / "srv"), "RUNTIME_DAMAGED", "/srv is no directory in it"),
        (lambda tree: tree.rename(tree.with_name("x")), "RUNTIME_GONE", "is gone: there is no tree"),
    ],
)
def test_a_tree_that_cannot_be_a_root_ends_the_start(
    tmp_path: Path, harm: Callable[[Path], object], reason: str, why: str
) -> None:
    async def case(core: Core) -> None:
        made = await put(core, "python-3.11")
        harm(core.runtimes.store.tree(made.digest))
        with pytest.raises(LaunchFailed) as caught:
            await core.service.run(JobSpec("true", runtime="python-3.11"), CALLER)
        assert caught.value.reason == reason
        (job,) = core.host.records
        ended = await core.ended(job.id)
        assert ended.outcome is not None
        assert ended.outcome.reason is Reason.START_FAILED
        assert why in ended.outcome.message
        assert reason in ended.outcome.message
        assert not [call for call in core.host.calls if call.startswith("start")]

    run(tmp_path, case)


def _replaced(directory: Path) -> None:
    directory.rmdir()
    directory.symlink_to("/etc")


def test_a_runtime_that_is_known_to_be_damaged_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await put(core, "python-3.11")
        who = core.runtimes.store.tree(made.digest) / "who"
        who.chmod(stat.S_IRUSR | stat.S_IWUSR)
        who.write_text("changed", encoding="ascii")
        assert await core.runtimes.store.verify(made)
        with pytest.raises(WrongState, match=r"runtime python-3\.11@1\.0\.0 is damaged: /who") as caught:
            await core.service.run(JobSpec("true", runtime="python-3.11"), CALLER)
        assert caught.value.reason == "RUNTIME_DAMAGED"
        assert core.host.records == []

    run(tmp_path, case)


def test_a_runtime_of_a_job_that_waits_stays(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await put(core, "python-3.11")
        later = core.clock.now() + timedelta(hours=1)
        spec = JobSpec("true", name="nightly", runtime="python-3.11", schedule=later.isoformat())
        job = await core.service.run(spec, CALLER)
        with pytest.raises(WrongState, match=f"scheduled job {job.id[:8]} \\(nightly\\)"):
            await core.runtimes.service.remove("python-3.11", force=False)
        await core.runtimes.service.remove("python-3.11", force=True)
        await core.runtimes.store.gc()
        assert core.runtimes.store.has(made.digest)
        await core.service.cancel(job.id)
        await core.runtimes.store.gc()
        assert not core.runtimes.store.has(made.digest)

    run(tmp_path, case)


def test_what_is_held_stays_until_the_record_speaks_for_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        made = await put(core, "python-3.11")
        accepted = core.service.accept(JobSpec("true", runtime="python-3.11"), CALLER)
        with core.runtimes.jobs.hold([accepted]):
            await core.runtimes.service.remove("python-3.11", force=True)
            assert core.runtimes.store.has(made.digest)
        await core.runtimes.store.gc()
        with pytest.raises(JobletError) as caught, core.runtimes.jobs.hold([accepted]):
            pass
        assert caught.value.reason == "RUNTIME_GONE"

    run(tmp_path, case)


def with_runtime(number: int, state: JobState, digest: str = "d" * 64) -> JobRecord:
    return replace(record(number, state), runtime=PinnedRuntime("a", "1.0.0", digest))


def test_everybody_who_uses_a_digest_is_named() -> None:
    jobs = MemoryJobStore()
    workflows = MemoryWorkflowStore(jobs)
    mine, other = "d" * 64, "e" * 64
    of_jobs = Schedule(ScheduleId(job_id(7)), "hourly", with_runtime(7, JobState.SCHEDULED))
    template = record(8, JobState.SCHEDULED, name="etl")
    pins = {"a": PinnedRuntime("a", "1.0.0", mine), "b": PinnedRuntime("b", "1.0.0", "f" * 64)}
    of_workflows = Schedule(ScheduleId(job_id(8)), "hourly", replace(template, pins=pins))
    users = RuntimeUsers(jobs=jobs, workflows=workflows, schedules=lambda: [of_jobs, of_workflows])

    async def main() -> None:
        states = [JobState.RUNNING, JobState.PENDING, JobState.SCHEDULED, JobState.COMPLETED]
        for number, state in enumerate(states, 1):
            await jobs.save(with_runtime(number, state))
        await jobs.save(with_runtime(5, JobState.RUNNING, other), record(6))
        member = replace(MEMBER, template=replace(with_runtime(9, JobState.PENDING), workflow_id=WORKFLOW.id))
        running = replace(WORKFLOW, state=WorkflowState.RUNNING, ended_at=None)
        await workflows.create(running, "", [member])
        assert await users.users_of(mine) == [
            f"scheduled job {job_id(3)[:8]}",
            f"queued job {job_id(2)[:8]}",
            f"running job {job_id(1)[:8]}",
            f"schedule {job_id(7)[:8]}",
            f"schedule {job_id(8)[:8]} (etl)",
            f"workflow {WORKFLOW.id[:8]} (näme)",
        ]
        assert set(await users.digests()) == {mine, other, "f" * 64}
        assert await users.users_of("0" * 64) == []

    asyncio.run(main())
