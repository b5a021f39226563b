"""The suite of unit managers on this machine's systemd, and what only a real one can do."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from joblet_agent.errors import LaunchFailed
from joblet_agent.model.job import JobSpec
from joblet_agent.ports import UnitPhase
from tests.contract.unit_manager_cases import UnitManagerContract, Units
from tests.integration.systemd.real_units import ran, real_units, result_of, shell

pytestmark = pytest.mark.systemd


class TestSystemdUnitManager(UnitManagerContract):
    @asynccontextmanager
    async def opened(self, home: Path) -> AsyncIterator[Units]:
        async with real_units(home) as units:
            yield units

    def exits(self, number: int) -> JobSpec:
        return shell('exit "$1"', str(number))

    def is_killed_by(self, number: int) -> JobSpec:
        return shell('kill "-$1" $$', str(number))

    def sleeps(self) -> JobSpec:
        return JobSpec("sleep", ("1000",))

    def is_missing(self) -> JobSpec:
        return JobSpec("/nowhere")


def systemctl(*words: str) -> str:
    return subprocess.run(["systemctl", *words], check=True, capture_output=True, text=True).stdout


def test_an_environment_that_cannot_be_written_starts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with real_units(tmp_path) as units:
            plan = units.plan(JobSpec("true"))
            plan.environment_file.parent.rmdir()
            with pytest.raises(LaunchFailed) as caught:
                await units.manager.start(plan)
            assert caught.value.reason == "CANNOT_PREPARE_FILES"
            assert await units.present() == set()

    asyncio.run(main())


@pytest.mark.parametrize("verb", ["daemon-reload", "daemon-reexec"])
def test_jobs_and_their_signals_survive_systemd_anew(tmp_path: Path, verb: str) -> None:  # R8
    async def main() -> None:
        async with real_units(tmp_path) as units:
            resynced = asyncio.Event()
            heard = units._hear
            units.manager.listen(heard, resynced.set)
            plan = await units.running(JobSpec("sleep", ("1000",)))
            await asyncio.to_thread(systemctl, verb)
            await asyncio.wait_for(resynced.wait(), 30)
            (status,) = await units.manager.present()
            assert status.phase is UnitPhase.RUNNING
            after = await ran(units, shell("exit 5"))
            assert after.outcome.exit_code == 5
            await units.manager.kill(plan.job_id)
            assert (await result_of(units, plan)).outcome.signal == 9

    asyncio.run(main())


def test_an_administrator_sees_the_job_and_its_slice(tmp_path: Path) -> None:
    async def main() -> None:
        async with real_units(tmp_path) as units:
            plan = await units.running(JobSpec("sleep", ("1000",), name="my job"))
            unit = units.manager.unit_name(plan.job_id)
            shown = await asyncio.to_thread(systemctl, "show", unit, "-p", "Description,Slice,ControlGroup")
            assert "Description=Joblet job my job" in shown
            assert "Slice=joblet-jobs.slice" in shown
            await asyncio.to_thread(systemctl, "stop", unit)
            ended = await result_of(units, plan)
            assert ended.outcome.signal == 15

    asyncio.run(main())
