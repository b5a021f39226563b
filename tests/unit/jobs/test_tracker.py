"""From unit events to job states, on fakes."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import HostUnavailable, LaunchFailed
from joblet_agent.model.job import JobState, Reason
from joblet_agent.ports import UnitPhase
from tests.fakes.unit_manager import ENDED_AT, STARTED_AT
from tests.unit.jobs.rig import BOOT, CALLER, Core, states, until, with_core

BUS_IS_GONE = HostUnavailable("cannot ask systemd: the bus is gone", reason="SYSTEMD_UNAVAILABLE")


def test_a_job_is_stored_before_systemd_hears_of_it_and_released_after_its_outcome_is_stored(
    tmp_path: Path,
) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "0")
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    words = [call.split()[:-1] for call in host.calls]
    assert words[:3] == [["save", "INITIALIZING"], ["attach"], ["start"]]
    assert words[-3:] == [["save", "COMPLETED"], ["release"], ["detach"]]
    assert host.units.units == {}


def test_a_record_tells_the_whole_life_of_a_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        assert (job.state, job.main_pid, job.boot_id) == (JobState.RUNNING, 1000, BOOT)
        core.host.units.end(job.id, "exited", 3, "exit-code")
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    (job,) = host.records
    assert states(host.store.history) == [JobState.INITIALIZING, JobState.RUNNING, JobState.FAILED]
    assert (job.started_at, job.ended_at, job.main_pid) == (STARTED_AT, ENDED_AT, 0)
    assert (job.started_by, job.invocation_id) == (CALLER.name, f"{1:032x}")
    assert job.outcome is not None
    assert (job.outcome.exit_code, job.outcome.reason) == (3, Reason.EXIT_CODE)


@pytest.mark.parametrize(
    ("command", "number", "expected"),
    [
        ("exit", "0", "COMPLETED/"),
        ("exit", "1", "FAILED/exit-code"),
        ("exit", "203", "FAILED/exit-code"),
        ("signal", "9", "FAILED/signal"),
        ("signal", "15", "FAILED/signal"),
        ("missing", "", "FAILED/program-not-found"),
    ],
)
def test_ends(tmp_path: Path, command: str, number: str, expected: str) -> None:
    async def case(core: Core) -> None:
        await core.ended((await core.run(command, number)).id)

    host = with_core(tmp_path, case)
    assert list(host.outcomes().values()) == [expected]
    assert host.units.units == {}


@pytest.mark.parametrize(
    ("command", "number", "is_told"),
    [
        ("exit", "0", False),
        ("exit", "7", False),  # the unit has failed, so systemd starts the hook
        ("signal", "9", False),
        ("signal", "15", True),  # for systemd a success
        ("signal", "1", True),
        ("refused", "", True),  # there is no unit
    ],
)
def test_the_hook_for_failures_is_started_where_systemd_does_not(
    tmp_path: Path, command: str, number: str, is_told: bool
) -> None:
    async def case(core: Core) -> None:
        with suppress(LaunchFailed):
            await core.run(command, number)
        await until(lambda: all(record.has_ended for record in core.host.records) and not list(core.registry))

    host = with_core(tmp_path, case)
    (job,) = host.records
    end = f"save {'COMPLETED' if number == '0' else 'FAILED'} {job.id}"
    calls = [call for call in host.calls if call in {f"hook {job.id}", end}]
    assert calls == [f"hook {job.id}", end] if is_told else [end]


def test_a_stop_is_no_failure_to_the_hook(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await core.service.stop(job.id, force=False)
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    assert not [call for call in host.calls if call.startswith("hook")]


def test_nothing_but_the_log_is_left_of_an_ended_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "0")
        await core.ended(job.id)
        home = core.host.paths.job(job.id).home
        assert [file.name for file in home.iterdir()] == ["output.log"]
        assert core.free_uids() == core.config.jobs.uid_count

    with_core(tmp_path, case, jobs=JobsConfig(uid_count=5))


def test_a_full_disk_at_the_end_delays_the_outcome_and_keeps_the_unit(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await until(lambda: core.host.store.records[job.id].state is JobState.RUNNING)
        core.host.store.failures_left = 2
        core.host.units.end(job.id, "exited", 0)
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    (job,) = host.records
    assert job.state is JobState.COMPLETED
    assert host.calls[-3:] == [f"save COMPLETED {job.id}", f"release {job.id}", f"detach {job.id}"]


def test_a_unit_that_cannot_be_released_is_released_later(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        core.host.units.end(job.id, "exited", 0)
        core.host.units.failure = BUS_IS_GONE
        await core.ended(job.id)
        core.host.units.failure = None
        await until(lambda: not core.host.units.units)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["COMPLETED/"]


# -- ends that somebody else causes --------------------------------------------------------------------


def test_out_of_memory_is_told_even_though_systemd_stops_the_unit_for_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        core.host.units.stopping(job.id)
        core.host.units.end(job.id, "killed", 9, "oom-kill")
        await core.ended(job.id)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["FAILED/oom-kill"]


@pytest.mark.parametrize(
    ("is_shutdown", "expected"), [(False, "STOPPED/stopped"), (True, "FAILED/host-rebooted")]
)
def test_a_stop_that_nobody_asked_us_for(tmp_path: Path, is_shutdown: bool, expected: str) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        core.host.units.is_host_stopping = is_shutdown
        core.host.units.stopping(job.id)
        core.host.units.end(job.id, "killed", 15)
        await core.ended(job.id)

    assert list(with_core(tmp_path, case).outcomes().values()) == [expected]


def test_a_unit_that_goes_without_telling_how_it_ended_is_not_a_success(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        status = core.host.units.units[job.id]
        core.host.units.vanish(job.id)
        core.host.units.tell(replace(status, phase=UnitPhase.GONE))
        await core.ended(job.id)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["FAILED/lost"]
