"""What every UnitManager does. Subclassed for the fake that other tests use, and for systemd.

The subclass says how to open one and which command does what; the fake's commands are told in
tests/fakes/unit_manager.py.
"""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.errors import LaunchFailed, NotFound
from joblet_agent.jobs import files
from joblet_agent.jobs.metrics.usage import split_report
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, new_job_id
from joblet_agent.model.resources import Resources
from joblet_agent.ports import LaunchPlan, UnitManager, UnitPhase, UnitStatus, WorkflowSlices
from tests.fakes.clock import BEGINNING

SOON = 60.0
FIRST_UID = 1_879_100_000
_OVER = {UnitPhase.ENDED, UnitPhase.GONE}


class Units:
    """A unit manager, what it told, and the files that its jobs need."""

    def __init__(self, manager: UnitManager, slices: WorkflowSlices, home: Path) -> None:
        self.manager = manager
        self.slices = slices
        self.paths = AgentPaths(home / "state", home / "run")
        self.heard: dict[JobId, list[UnitStatus]] = {}
        self._waiters: list[tuple[JobId, set[UnitPhase], asyncio.Future[UnitStatus]]] = []
        self._root = DefaultRoot(self.paths.default_root)
        self._uid = FIRST_UID
        manager.listen(self._hear, lambda: None)

    def prepare(self) -> None:
        own = (self.paths.jobs, self.paths.trash, self.paths.environments, self.paths.launch_reports)
        for directory in own:
            directory.mkdir(parents=True, exist_ok=True)
        self._root.refresh()

    def plan(self, spec: JobSpec, workflow_id: str = "") -> LaunchPlan:
        """Place the job on the host, as the launcher does."""
        self._uid += 1
        record = JobRecord(
            new_job_id(), spec, JobState.INITIALIZING, BEGINNING, uid=self._uid, workflow_id=workflow_id
        )
        files.prepare(self.paths.job(record.id), record.uid)
        return launch_plan(record, self.paths, self._root.path)

    def _hear(self, status: UnitStatus) -> None:
        self.heard.setdefault(status.job_id, []).append(status)
        for job_id, phases, found in self._waiters:
            if job_id == status.job_id and status.phase in phases and not found.done():
                found.set_result(status)

    async def wait_for(self, job_id: JobId, phases: set[UnitPhase]) -> UnitStatus:
        """Return the first status in one of the phases."""
        for status in self.heard.get(job_id, []):
            if status.phase in phases:
                return status
        found: asyncio.Future[UnitStatus] = asyncio.get_running_loop().create_future()
        self._waiters.append((job_id, phases, found))
        return await asyncio.wait_for(found, SOON)

    async def started(self, spec: JobSpec, workflow_id: str = "") -> LaunchPlan:
        plan = self.plan(spec, workflow_id)
        await self.manager.start(plan)
        return plan

    async def running(self, spec: JobSpec, workflow_id: str = "") -> LaunchPlan:
        plan = await self.started(spec, workflow_id)
        await self.wait_for(plan.job_id, {UnitPhase.RUNNING})
        return plan

    async def ended(self, job_id: JobId) -> UnitStatus:
        return await self.wait_for(job_id, _OVER)

    async def present(self) -> set[JobId]:
        return {status.job_id for status in await self.manager.present()}


Opened = AbstractAsyncContextManager[Units]


class UnitManagerContract:
    """The suite."""

    @abstractmethod
    def opened(self, home: Path) -> Opened:
        """Open the manager; a second one on the same home finds the units of the first."""

    @abstractmethod
    def exits(self, number: int) -> JobSpec: ...

    @abstractmethod
    def is_killed_by(self, number: int) -> JobSpec: ...

    @abstractmethod
    def sleeps(self) -> JobSpec: ...

    @abstractmethod
    def is_missing(self) -> JobSpec: ...

    def run(self, home: Path, case: Callable[[Units], Awaitable[None]]) -> None:
        async def main() -> None:
            async with self.opened(home) as units:
                units.prepare()
                await case(units)
                async with asyncio.timeout(SOON):
                    # systemd answers a release before the unit is gone, and the manager follows it no more.
                    while await units.present():  # noqa: ASYNC110
                        await asyncio.sleep(0.01)

        asyncio.run(main())

    @pytest.mark.parametrize("number", [0, 3, 203])
    def test_an_exit_status_stays_until_it_is_released(self, tmp_path: Path, number: int) -> None:
        async def case(units: Units) -> None:
            plan = await units.started(self.exits(number))
            told = await units.ended(plan.job_id)
            assert (told.phase, told.exit_kind, told.exit_status) == (UnitPhase.ENDED, "exited", number)
            assert told.result == ("exit-code" if number else "success")
            assert len(bytes.fromhex(told.invocation_id)) == 16
            assert told.started_at is not None
            assert told.ended_at is not None
            asked = await units.manager.status(plan.job_id)
            assert (asked.phase, asked.exit_status) == (UnitPhase.ENDED, number)
            assert await units.present() == {plan.job_id}
            await units.manager.release(plan.job_id)
            assert (await units.manager.status(plan.job_id)).phase is UnitPhase.GONE

        self.run(tmp_path, case)

    @pytest.mark.parametrize("number", [9, 15])
    def test_death_by_a_signal(self, tmp_path: Path, number: int) -> None:
        async def case(units: Units) -> None:
            plan = await units.started(self.is_killed_by(number))
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("killed", number)
            assert told.result == ("success" if number == 15 else "signal")
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_a_command_that_is_missing_is_reported_by_the_launcher(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.started(self.is_missing())
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("exited", 127)
            report, _ = split_report(files.read_report(units.paths.job(plan.job_id)))
            assert report == "0 launched\n2 No such file or directory\n"
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_stop(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            await units.manager.stop(plan.job_id)
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("killed", 15)
            assert UnitPhase.STOPPING in {status.phase for status in units.heard[plan.job_id]}
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_kill(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            await units.manager.kill(plan.job_id)
            told = await units.ended(plan.job_id)
            assert (told.phase, told.exit_kind, told.exit_status) == (UnitPhase.ENDED, "killed", 9)
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_a_signal_that_is_not_kill(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            await units.manager.kill(plan.job_id, 10)
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("killed", 10)
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_a_unit_is_frozen_and_thawed(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            for _ in range(2):  # twice is no error
                await units.manager.freeze(plan.job_id)
                assert await units.manager.is_frozen(plan.job_id)
            (listed,) = await units.manager.present()
            assert (listed.phase, listed.is_frozen) == (UnitPhase.RUNNING, True)
            for _ in range(2):
                await units.manager.thaw(plan.job_id)
                assert not await units.manager.is_frozen(plan.job_id)
            await units.manager.kill(plan.job_id)
            await units.ended(plan.job_id)
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_a_frozen_unit_is_stopped_by_its_signal(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            await units.manager.freeze(plan.job_id)
            await units.manager.stop(plan.job_id)
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("killed", 15)
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_what_is_gone_cannot_be_frozen(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            unknown = new_job_id()
            for call in (units.manager.freeze, units.manager.thaw, units.manager.is_frozen):
                with pytest.raises(NotFound):
                    await call(unknown)

        self.run(tmp_path, case)

    def test_a_running_unit_is_told_with_its_invocation_and_process(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            told = await units.wait_for(plan.job_id, {UnitPhase.RUNNING})
            (listed,) = await units.manager.present()
            assert told.main_pid > 0
            assert (listed.phase, listed.invocation_id) == (UnitPhase.RUNNING, told.invocation_id)
            assert listed.main_pid == told.main_pid
            await units.manager.kill(plan.job_id)
            await units.ended(plan.job_id)
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_a_name_is_used_once(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.started(self.exits(0))
            await units.ended(plan.job_id)
            with pytest.raises(LaunchFailed) as caught:
                await units.manager.start(plan)
            assert caught.value.reason == "SYSTEMD_REFUSED"
            assert (await units.manager.status(plan.job_id)).exit_kind == "exited"
            await units.manager.release(plan.job_id)

        self.run(tmp_path, case)

    def test_what_is_gone_is_no_error(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            unknown = new_job_id()
            await units.manager.stop(unknown)
            await units.manager.kill(unknown)
            await units.manager.release(unknown)
            assert (await units.manager.status(unknown)).phase is UnitPhase.GONE

        self.run(tmp_path, case)

    def test_an_agent_that_comes_later_finds_what_runs_and_hears_its_end(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with self.opened(tmp_path) as first:
                first.prepare()
                plan = await first.running(self.sleeps())
                over = await first.started(self.exits(3))
                await first.ended(over.job_id)
            async with self.opened(tmp_path) as second:
                found = {status.job_id: status for status in await second.manager.present()}
                assert found[plan.job_id].phase is UnitPhase.RUNNING
                assert (found[over.job_id].phase, found[over.job_id].exit_status) == (UnitPhase.ENDED, 3)
                await second.manager.kill(plan.job_id)
                assert (await second.ended(plan.job_id)).exit_status == 9
                for job_id in found:
                    await second.manager.release(job_id)
                assert await second.present() == set()

        asyncio.run(main())

    def test_limits_of_a_unit_that_runs(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = await units.running(self.sleeps())
            other = replace(plan, spec=replace(plan.spec, resources=Resources(50, 64 << 20, max_tasks=9)))
            for _ in range(2):  # the second time is the same as the first
                await units.manager.set_limits(other, ("max_cpu", "max_memory", "max_io_bps", "max_tasks"))
            await units.manager.kill(plan.job_id)
            await units.ended(plan.job_id)
            await units.manager.release(plan.job_id)
            with pytest.raises(NotFound):
                await units.manager.set_limits(plan, ("max_cpu",))
            assert units.manager.slice_name == "joblet-jobs.slice"
            assert all(isinstance(text, str) for text in (await units.manager.ceilings()).values())

        self.run(tmp_path, case)

    def test_names_and_explanations(self, tmp_path: Path) -> None:
        async def case(units: Units) -> None:
            plan = units.plan(self.sleeps())
            name = f"joblet-job-{plan.job_id}.service"
            assert units.manager.unit_name(plan.job_id) == name
            assert units.manager.explain(plan).unit == name
            assert not await units.manager.host_is_stopping()

        self.run(tmp_path, case)
