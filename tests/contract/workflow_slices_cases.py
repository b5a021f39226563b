"""What every WorkflowSlices does, beside its unit manager. Subclassed for the fake, and for systemd."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path

from joblet_agent.model.ids import JobId, WorkflowId, new_workflow_id
from joblet_agent.model.job import JobSpec
from joblet_agent.ports import UnitPhase
from tests.contract.unit_manager_cases import Opened, Units

Case = Callable[[Units, WorkflowId], Awaitable[None]]


class WorkflowSlicesContract:
    """The suite. A case is given a workflow that nobody knows, and leaves nothing of it."""

    @abstractmethod
    def opened(self, home: Path) -> Opened: ...

    @abstractmethod
    def sleeps(self) -> JobSpec: ...

    def run(self, home: Path, case: Case) -> None:
        async def main() -> None:
            async with self.opened(home) as units:
                units.prepare()
                workflow_id = new_workflow_id()
                await case(units, workflow_id)
                assert workflow_id not in await units.slices.present()

        asyncio.run(main())

    def test_a_slice_is_there_until_it_is_removed(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            other = new_workflow_id()
            await units.slices.make(workflow_id, "nightly")
            await units.slices.make(other, "another")
            assert {workflow_id, other} <= set(await units.slices.present())
            await units.slices.remove(workflow_id)
            assert workflow_id not in await units.slices.present()
            assert other in await units.slices.present()
            await units.slices.remove(other)

        self.run(tmp_path, case)

    def test_twice_is_the_same_as_once(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            await units.slices.remove(workflow_id)
            for _ in range(2):
                await units.slices.make(workflow_id, "nightly")
            assert list(await units.slices.present()).count(workflow_id) == 1
            for _ in range(2):
                await units.slices.remove(workflow_id)

        self.run(tmp_path, case)

    def test_it_can_be_made_again(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            for _ in range(5):
                await units.slices.make(workflow_id, "nightly")
                assert workflow_id in await units.slices.present()
                await units.slices.remove(workflow_id)
                assert workflow_id not in await units.slices.present()

        self.run(tmp_path, case)

    def test_made_and_removed_at_once_it_is_one_or_the_other(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            for _ in range(5):
                await asyncio.gather(
                    units.slices.make(workflow_id, "nightly"),
                    units.slices.remove(workflow_id),
                    units.slices.make(workflow_id, "nightly"),
                )
                assert workflow_id in await units.slices.present()
                await asyncio.gather(
                    units.slices.remove(workflow_id),
                    units.slices.make(workflow_id, "nightly"),
                    units.slices.remove(workflow_id),
                )
                assert workflow_id not in await units.slices.present()

        self.run(tmp_path, case)

    def test_a_jobs_control_group_is_in_it(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            await units.slices.make(workflow_id, "nightly")
            plan = await units.running(self.sleeps(), workflow_id)
            name = units.slices.slice_name(workflow_id)
            assert name == f"joblet-jobs-{workflow_id.replace('-', '')}.slice"
            group = units.manager.control_group(plan.job_id, workflow_id)
            assert group.parent.name == name
            assert group.name == units.manager.unit_name(plan.job_id)
            assert name not in units.manager.control_group(plan.job_id).parts
            await self._end(units, plan.job_id)
            await units.slices.remove(workflow_id)

        self.run(tmp_path, case)

    def test_a_slice_that_a_job_made_is_removed_as_well(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            plan = await units.running(self.sleeps(), workflow_id)
            assert workflow_id in await units.slices.present()
            await units.slices.make(workflow_id, "late")
            await self._end(units, plan.job_id)
            assert workflow_id in await units.slices.present()
            await units.slices.remove(workflow_id)

        self.run(tmp_path, case)

    def test_what_is_in_it_is_stopped_with_it(self, tmp_path: Path) -> None:
        async def case(units: Units, workflow_id: WorkflowId) -> None:
            plan = await units.running(self.sleeps(), workflow_id)
            await units.slices.remove(workflow_id)
            told = await units.ended(plan.job_id)
            assert (told.exit_kind, told.exit_status) == ("killed", 15)
            assert (await units.manager.status(plan.job_id)).phase is UnitPhase.GONE

        self.run(tmp_path, case)

    async def _end(self, units: Units, job_id: JobId) -> None:
        await units.manager.kill(job_id)
        await units.ended(job_id)
        await units.manager.release(job_id)
