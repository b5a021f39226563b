"""The suite of unit managers on this machine's systemd, and what only a real one can do."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import LaunchFailed
from joblet_agent.model.job import JobSpec
from joblet_agent.ports import UnitPhase, UnitStatus
from joblet_agent.systemd.names import unit_name
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


def test_r8_a_reload_that_nobody_heard_begin_ends_no_job(tmp_path: Path) -> None:
    """Whoever comes back to the bus in the middle of one hears that all units are removed, and no more."""

    async def main() -> None:
        async with real_units(tmp_path) as units:
            heard: list[UnitStatus] = []
            resynced = asyncio.Event()
            plan = await units.running(JobSpec("sleep", ("1000",)))
            units.manager.listen(heard.append, resynced.set)
            manager: Any = units.manager
            ends = manager._on_reloading
            manager._on_reloading = lambda begins: begins or ends(begins)
            for _ in range(5):
                await asyncio.to_thread(systemctl, "daemon-reload")
                await asyncio.wait_for(resynced.wait(), 30)
                resynced.clear()
            assert [status for status in heard if status.phase is UnitPhase.GONE] == []
            units.manager.listen(units._hear, resynced.set)
            assert {status.phase for status in await units.manager.present()} == {UnitPhase.RUNNING}
            await units.manager.kill(plan.job_id)
            assert (await result_of(units, plan)).outcome.signal == 9

    asyncio.run(main())


@pytest.mark.parametrize(
    ("name", "shown"), [("100% %n", "100% %n"), ("tail \\", "tail"), ("a\\x41  b", "a\\x41  b")]
)
def test_a5_a_name_is_a_name_and_stays_so_when_systemd_reads_it_again(
    tmp_path: Path, name: str, shown: str
) -> None:
    async def main() -> None:
        async with real_units(tmp_path) as units:
            plan = await units.running(JobSpec("sleep", ("1000",), name=name))
            unit = units.manager.unit_name(plan.job_id)
            wanted = {
                f"Description=Joblet job {shown}",
                f"SyslogIdentifier={shown}",
                f"LogExtraFields=JOBLET_JOB_ID={plan.job_id}",
            }
            for _ in range(2):
                said = await asyncio.to_thread(
                    systemctl, "show", unit, "-p", "Description,SyslogIdentifier,LogExtraFields"
                )
                assert set(said.splitlines()) == wanted
                await asyncio.to_thread(systemctl, "daemon-reload")
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


def test_a_unit_with_something_left_in_its_group_is_unloaded_when_that_has_ended(tmp_path: Path) -> None:
    """Of somebody else: systemd does not know of it, and tells nobody that the group is empty again."""

    async def main(other: subprocess.Popen[bytes]) -> None:
        async with real_units(tmp_path) as units:
            plan = await units.started(shell("exit 0"))
            await units.ended(plan.job_id)
            group = units.manager.control_group(plan.job_id)
            group.mkdir(exist_ok=True)
            (group / "cgroup.procs").write_text(str(other.pid))
            await units.manager.release(plan.job_id)
            async with asyncio.timeout(30):
                while "ActiveState=inactive" not in systemctl("show", unit_name(plan.job_id)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                assert await units.present() == {plan.job_id}
                other.kill()
                while await units.present():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)

    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            asyncio.run(main(other))
        finally:
            other.kill()
