"""The suite of workflows' slices on this machine's systemd, and what an administrator sees of them."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.exec_session import ExecSession
from joblet_agent.model.ids import WorkflowId, new_workflow_id
from joblet_agent.model.job import JobSpec, Outcome
from joblet_agent.ports import ExecPlan, UnitPhase
from joblet_agent.systemd import workflow_slices
from joblet_agent.systemd.manager import SystemdUnitManager
from tests.contract.unit_manager_cases import Units
from tests.contract.workflow_slices_cases import WorkflowSlicesContract
from tests.e2e.agent import eventually
from tests.integration.systemd.real_units import real_units, result_of, shell

pytestmark = pytest.mark.systemd

T = TypeVar("T")

SLEEPS = JobSpec("sleep", ("1000",))


class TestSystemdWorkflowSlices(WorkflowSlicesContract):
    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[Units]:
        async with real_units(home) as units:
            yield units

    def sleeps(self) -> JobSpec:
        return SLEEPS


def with_workflow(home: Path, case: Callable[[Units, WorkflowId], Awaitable[None]]) -> None:
    async def main() -> None:
        async with real_units(home) as units:
            workflow_id = new_workflow_id()
            try:
                await case(units, workflow_id)
            finally:
                await units.slices.remove(workflow_id)

    asyncio.run(main())


async def systemctl(*words: str, check: bool = True) -> str:
    def call() -> str:
        return subprocess.run(["systemctl", *words], check=check, capture_output=True, text=True).stdout

    return await asyncio.to_thread(call)


def test_an_administrator_sees_the_workflow_and_its_jobs(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        name = units.slices.slice_name(workflow_id)
        await units.slices.make(workflow_id, "nightly figures")
        plan = await units.running(SLEEPS, workflow_id)
        unit = units.manager.unit_name(plan.job_id)
        shown = await systemctl("status", "--no-pager", name)
        assert f"{name} - Joblet workflow nightly figures" in shown
        assert unit in shown
        assert await systemctl("show", "-P", "Slice", name) == "joblet-jobs.slice\n"
        assert await systemctl("show", "-P", "Slice", unit) == f"{name}\n"
        (main,) = [each for each in units.heard[plan.job_id] if each.phase is UnitPhase.RUNNING][:1]
        group = units.manager.control_group(plan.job_id, workflow_id)
        assert str(main.main_pid) in (group / "cgroup.procs").read_text().split()
        await systemctl("stop", name)
        assert (await result_of(units, plan)).outcome.signal == 15
        assert not group.parent.exists()

    with_workflow(tmp_path, case)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("", "Joblet workflow"),
        ("100% done, %n", "Joblet workflow 100% done, %n"),
        ("one\n[Slice]\nTasksMax=1", "Joblet workflow one [Slice] TasksMax=1"),
        ("tail \\", "Joblet workflow tail"),
        ('"quoted" \\x41 $HOME ; # ü', 'Joblet workflow "quoted" \\x41 $HOME ; # ü'),
        ("long" * 1000, "Joblet workflow " + "long" * 50),
    ],
)
def test_a5_a_title_is_a_title_and_stays_so_when_systemd_reads_it_again(
    tmp_path: Path, title: str, shown: str
) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        name = units.slices.slice_name(workflow_id)
        await units.slices.make(workflow_id, title)
        for _ in range(2):
            assert await systemctl("show", "-P", "Description", name) == f"{shown}\n"
            assert await systemctl("show", "-P", "TasksMax", name) == "infinity\n"
            await systemctl("daemon-reload")

    with_workflow(tmp_path, case)


def test_r8_a_slice_is_removed_while_systemd_reads_its_units_again(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        for _ in range(5):
            await units.slices.make(workflow_id, "nightly")
            async with asyncio.TaskGroup() as both:
                both.create_task(systemctl("daemon-reload"))
                both.create_task(units.slices.remove(workflow_id))
            assert workflow_id not in await units.slices.present()

    with_workflow(tmp_path, case)


async def answered(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await ask()
            except HostUnavailable:
                await asyncio.sleep(0.05)


def test_r8_what_went_with_the_former_systemd_can_be_asked_for_again(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        for _ in range(5):
            await answered(lambda: units.slices.make(workflow_id, "nightly"))
            async with asyncio.TaskGroup() as both:
                both.create_task(systemctl("daemon-reexec"))
                both.create_task(answered(lambda: units.slices.remove(workflow_id)))
            assert workflow_id not in await answered(units.slices.present)

    with_workflow(tmp_path, case)


def test_a_slice_outlives_whoever_made_it(tmp_path: Path) -> None:
    workflow_id = new_workflow_id()

    async def main() -> None:
        async with real_units(tmp_path) as first:
            await first.slices.make(workflow_id, "nightly")
        async with real_units(tmp_path) as second:
            assert workflow_id in await second.slices.present()
            await second.slices.remove(workflow_id)

    asyncio.run(main())


def test_slices_of_others_are_no_workflows(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        own = f"joblet-jobs-{'0' * 31}.slice"
        await systemctl("start", own, "joblet-jobs-tenant.slice")
        await units.slices.make(workflow_id, "nightly")
        assert await units.slices.present() == [workflow_id]
        await systemctl("stop", own, "joblet-jobs-tenant.slice")

    with_workflow(tmp_path, case)


def test_a_job_in_it_stands_still_and_goes_on(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        await units.slices.make(workflow_id, "nightly")
        frozen, other = [await units.running(SLEEPS, workflow_id) for _ in range(2)]
        await units.manager.freeze(frozen.job_id)
        assert await units.manager.is_frozen(frozen.job_id)
        assert not await units.manager.is_frozen(other.job_id)
        await units.manager.thaw(frozen.job_id)
        assert not await units.manager.is_frozen(frozen.job_id)
        await units.manager.freeze(other.job_id)
        for plan in (frozen, other):
            await units.manager.stop(plan.job_id)
            assert (await result_of(units, plan, stop_requested=True)).outcome.signal == 15

    with_workflow(tmp_path, case)


def test_final_figures_of_a_job_in_it(tmp_path: Path) -> None:
    """Its launcher reads them in its own control group: properties.py binds that by its path."""

    async def case(units: Units, workflow_id: WorkflowId) -> None:
        plan = await units.started(shell("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"), workflow_id)
        usage = (await result_of(units, plan)).usage
        assert usage is not None
        assert usage.cpu_usec > 0

    with_workflow(tmp_path, case)


def test_a_command_that_joins_a_job_of_it_is_in_the_jobs_control_group(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        plan = await units.running(SLEEPS, workflow_id)
        paths = units.paths.execution("7f3a")
        paths.home.parent.mkdir(parents=True)
        spec = replace(plan.spec, command="cat", args=("/proc/self/cgroup",))
        job = replace(plan, spec=spec, environment_file=paths.environment)
        command = ExecPlan("7f3a", job, paths.output, paths.errors, paths.report, paths.orders)
        session = await asyncio.to_thread(ExecSession, paths, command)
        manager = units.manager
        assert isinstance(manager, SystemdUnitManager)
        await manager.exec_units().start(command)
        *output, end = [event async for event in session.events()]
        session.close()
        assert isinstance(end, Outcome)
        assert end.exit_code == 0
        said = b"".join(event[1] for event in output if isinstance(event, tuple)).decode()
        inner = f"joblet-jobs.slice/{units.slices.slice_name(workflow_id)}/{manager.unit_name(plan.job_id)}"
        assert f"/joblet.slice/{inner}" in said
        await manager.kill(plan.job_id)
        assert (await result_of(units, plan)).outcome.signal == 9

    with_workflow(tmp_path, case)


def test_the_hook_of_a_job_that_fails_in_it_is_started(tmp_path: Path) -> None:
    hook, told = Path("/run/systemd/system/joblet-test-hook@.service"), tmp_path / "told"
    hook.write_text(f"[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %i >>{told}'\n")

    async def main() -> None:
        await systemctl("daemon-reload")
        async with real_units(tmp_path, hook="joblet-test-hook@.service") as units:
            workflow_id = new_workflow_id()
            plan = await units.started(shell("exit 3"), workflow_id)
            assert (await result_of(units, plan)).outcome.exit_code == 3
            await asyncio.to_thread(eventually, lambda: told.exists() and told.read_text(), bool)
            assert told.read_text().split() == [plan.job_id]
            await units.slices.remove(workflow_id)

    try:
        asyncio.run(main())
    finally:
        hook.unlink()
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def test_a_slice_that_somebody_has_frozen_is_removed(tmp_path: Path) -> None:
    async def case(units: Units, workflow_id: WorkflowId) -> None:
        name = units.slices.slice_name(workflow_id)
        await units.slices.make(workflow_id, "nightly")
        plan = await units.running(SLEEPS, workflow_id)
        await systemctl("freeze", name)
        await units.manager.kill(plan.job_id)
        assert (await result_of(units, plan)).outcome.signal == 9
        assert await systemctl("show", "-P", "FreezerState", name) == "frozen\n"
        await units.slices.remove(workflow_id)
        assert workflow_id not in await units.slices.present()

    with_workflow(tmp_path, case)


def test_a_failed_unit_that_nobody_has_released_keeps_its_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflow_slices, "_DEADLINE", 0.5)

    async def case(units: Units, workflow_id: WorkflowId) -> None:
        plan = await units.started(shell("exit 3"), workflow_id)
        await units.ended(plan.job_id)
        with pytest.raises(HostUnavailable) as caught:
            await units.slices.remove(workflow_id)
        assert str(caught.value.hint).endswith(f"systemctl status {units.slices.slice_name(workflow_id)}")
        assert (await result_of(units, plan)).outcome.exit_code == 3

    with_workflow(tmp_path, case)
