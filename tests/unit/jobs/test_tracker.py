"""From unit events to job states, on fakes."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import HostUnavailable, LaunchFailed, LimitReached, StoreFailed
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Reason, new_job_id
from joblet_agent.ports import UnitPhase, UnitStatus
from tests.fakes.unit_manager import ENDED_AT, STARTED_AT
from tests.unit.jobs.rig import BOOT, CALLER, Core, Host, states, until, with_core

BUS_IS_GONE = HostUnavailable("cannot ask systemd: the bus is gone", reason="SYSTEMD_UNAVAILABLE")


# -- launch and end ----------------------------------------------------------------------------------


def test_a_job_is_stored_before_systemd_hears_of_it_and_released_after_its_outcome_is_stored(
    tmp_path: Path,
) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "0")
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    words = [call.split()[:-1] for call in host.calls]
    assert words[:2] == [["save", "INITIALIZING"], ["start"]]
    assert words[-2:] == [["save", "COMPLETED"], ["release"]]
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


def test_a_unit_that_systemd_refuses_is_a_failed_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(LaunchFailed) as caught:
            await core.run("refused")
        assert caught.value.reason == "SYSTEMD_REFUSED"
        assert not list(core.registry)

    host = with_core(tmp_path, case)
    (job,) = host.records
    assert host.outcomes() == {job.id: "FAILED/start-failed"}
    assert job.outcome is not None
    assert job.outcome.message == "systemd refused StartTransientUnit: no"


def test_a_start_without_an_answer_is_asked_for_again_and_found_running(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(HostUnavailable):
            await core.run("unanswered")
        (job,) = core.registry
        await until(lambda: job.record.state is JobState.RUNNING)
        assert core.host.units.starts == [job.record.id]
        await core.service.stop(job.record.id, force=False)
        assert (await core.ended(job.record.id)).state is JobState.STOPPED

    with_core(tmp_path, case)


def test_a_start_that_got_lost_fails(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(HostUnavailable):
            await core.run("lost")
        await until(lambda: not list(core.registry))

    assert list(with_core(tmp_path, case).outcomes().values()) == ["FAILED/start-failed"]


def test_a_store_that_refuses_the_first_record_leaves_no_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await core.run("sleep")
        assert not list(core.registry)
        assert core.free_uids() == 3

    host = with_core(tmp_path, case, jobs=JobsConfig(uid_count=3))
    assert (host.records, host.calls) == ([], [])


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
    assert host.calls[-2:] == [f"save COMPLETED {job.id}", f"release {job.id}"]


def test_no_uid_left(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        with pytest.raises(LimitReached) as caught:
            await core.run("sleep")
        assert caught.value.reason == "NO_FREE_UID"
        assert "jobs.uid_count" in str(caught.value)

    assert len(with_core(tmp_path, case, jobs=JobsConfig(uid_count=1)).records) == 1


def test_files_that_cannot_be_made_are_a_failed_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.paths.jobs.rmdir()
        with pytest.raises(HostUnavailable) as caught:
            await core.run("sleep")
        assert caught.value.reason == "CANNOT_PREPARE_FILES"
        assert not list(core.registry)

    host = with_core(tmp_path, case)
    assert list(host.outcomes().values()) == ["FAILED/start-failed"]
    assert host.units.starts == []


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


# -- resync ------------------------------------------------------------------------------------------


def test_what_happened_while_the_bus_was_away_is_found(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        ended, gone, runs = [(await core.run("sleep")).id for _ in range(3)]
        core.host.units.is_deaf = True
        core.host.units.end(ended, "exited", 4, "exit-code")
        core.host.units.end(gone, "exited", 0)
        core.host.units.vanish(gone, remembered=True)
        core.host.units.reconnected()
        await core.ended(ended)
        await core.ended(gone)
        assert await core.state(runs) is JobState.RUNNING

    assert sorted(with_core(tmp_path, case).outcomes().values()) == [
        "COMPLETED/",
        "FAILED/exit-code",
        "RUNNING/",
    ]


def test_resync_twice_at_once_ends_a_job_once(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        core.host.units.is_deaf = True
        core.host.units.end(job.id, "exited", 0)
        core.host.units.reconnected()
        core.host.units.reconnected()
        await asyncio.sleep(0)
        core.host.units.reconnected()
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    assert states(host.store.history).count(JobState.COMPLETED) == 1
    assert [call.split()[0] for call in host.calls].count("release") == 1


def test_a_launch_under_way_is_not_taken_for_lost(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        launch = asyncio.create_task(core.run("exit", "0"))
        await until(lambda: bool(core.keeper.kept))
        core.host.units.reconnected()
        for _ in range(20):
            await asyncio.sleep(0)
        core.host.units.holds_starts.set()
        await core.ended((await launch).id)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["COMPLETED/"]


def test_units_without_a_record_are_put_away(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        stray = new_job_id()
        core.host.units.adopt(UnitStatus(stray, UnitPhase.RUNNING, invocation_id="f" * 32))
        core.host.units.reconnected()
        await until(lambda: not core.host.units.units)

    assert with_core(tmp_path, case).records == []


# -- recovery ----------------------------------------------------------------------------------------


def recovered(
    tmp_path: Path, record: JobRecord, unit: UnitStatus | None, *, remembered: bool = False
) -> Host:
    """Start an agent on a host with that one record and unit; return what became of them."""
    host = Host(tmp_path)

    async def main() -> None:
        await host.store.save(record)
        if unit is not None:
            host.units.adopt(unit)
        if remembered:
            host.invocations.remember(_status(UnitPhase.GONE, "exited", 7, "exit-code", job_id=record.id))
        core = Core(host)
        await core.open()
        job = core.registry.get(record.id)
        if job is not None and (unit is None or unit.phase is UnitPhase.ENDED or _is_foreign(unit)):
            await core.ended(record.id)
        await core.close()

    asyncio.run(main())
    return host


def _is_foreign(unit: UnitStatus) -> bool:
    return unit.invocation_id == FOREIGN


OURS, FOREIGN = "a" * 32, "b" * 32
JOB = JobId("7f3a0000-0000-4000-8000-000000000001")


def _record(state: JobState, *, boot_id: str = BOOT, invocation_id: str = OURS) -> JobRecord:
    return JobRecord(
        id=JOB,
        spec=JobSpec("sleep"),
        state=state,
        created_at=datetime.fromisoformat("2026-03-01T00:00:00+00:00"),
        uid=1879048192,
        boot_id=boot_id,
        invocation_id=invocation_id,
        started_at=STARTED_AT if invocation_id else None,
        stop_requested=state is JobState.STOPPING,
    )


def _status(
    phase: UnitPhase,
    kind: str = "",
    number: int = 0,
    result: str = "success",
    *,
    invocation_id: str = OURS,
    job_id: JobId = JOB,
) -> UnitStatus:
    return UnitStatus(job_id, phase, invocation_id, 0, kind, number, result, STARTED_AT)


RUNS = _status(UnitPhase.RUNNING)
ENDED = _status(UnitPhase.ENDED, "exited", 7, "exit-code")
OTHER = _status(UnitPhase.RUNNING, invocation_id=FOREIGN)


@pytest.mark.parametrize(
    ("state", "unit", "remembered", "expected"),
    [
        (JobState.INITIALIZING, ENDED, False, "FAILED/exit-code"),
        (JobState.INITIALIZING, None, False, "FAILED/start-failed"),
        (JobState.RUNNING, RUNS, False, "RUNNING/"),
        (JobState.RUNNING, ENDED, False, "FAILED/exit-code"),
        (JobState.RUNNING, None, True, "FAILED/exit-code"),
        (JobState.RUNNING, None, False, "FAILED/lost"),
        (JobState.RUNNING, OTHER, False, "FAILED/lost"),
        (JobState.STOPPING, ENDED, False, "STOPPED/stopped"),
        (JobState.STOPPING, None, True, "STOPPED/stopped"),
        (JobState.STOPPING, None, False, "STOPPED/stopped"),
        (JobState.STOPPING, OTHER, False, "FAILED/lost"),
    ],
)
def test_recovery_on_the_same_boot(
    tmp_path: Path, state: JobState, unit: UnitStatus | None, remembered: bool, expected: str
) -> None:
    invocation_id = "" if state is JobState.INITIALIZING else OURS
    host = recovered(tmp_path, _record(state, invocation_id=invocation_id), unit, remembered=remembered)
    assert host.outcomes() == {JOB: expected}
    if unit is OTHER:  # R6: a unit that is not ours is not touched
        assert host.units.units == {JOB: OTHER}
        assert not any(call.startswith(("stop", "kill", "release")) for call in host.calls)
    if unit is ENDED:
        assert host.units.units == {}


@pytest.mark.parametrize("state", [JobState.INITIALIZING, JobState.RUNNING, JobState.STOPPING])
def test_recovery_after_a_reboot(tmp_path: Path, state: JobState) -> None:
    host = recovered(tmp_path, _record(state, boot_id="boot-0"), None)
    assert host.outcomes() == {JOB: "FAILED/host-rebooted"}


def test_a_job_that_was_starting_when_the_agent_died_is_adopted(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        await host.store.save(_record(JobState.INITIALIZING, invocation_id=""))
        host.units.adopt(RUNS)
        core = Core(host)
        await core.open()
        await until(lambda: host.store.records[JOB].state is JobState.RUNNING)
        assert host.store.records[JOB].invocation_id == OURS
        assert JOB in core.keeper.kept
        host.units.end(JOB, "exited", 0)
        await core.ended(JOB)
        await core.close()

    asyncio.run(main())
    assert host.outcomes() == {JOB: "COMPLETED/"}
    assert host.units.starts == []


def test_a_stop_that_was_asked_for_before_the_agent_died_is_done(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        await host.store.save(_record(JobState.STOPPING))
        host.units.adopt(RUNS)
        core = Core(host)
        await core.open()
        await core.ended(JOB)
        await core.close()

    asyncio.run(main())
    assert host.outcomes() == {JOB: "STOPPED/stopped"}
    assert host.units.units == {}


def test_a_stop_whose_start_had_no_answer_is_done(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        launch = asyncio.create_task(core.run("unanswered"))
        await until(lambda: bool(core.keeper.kept))
        (job,) = core.registry
        stop = asyncio.create_task(core.service.stop(job.record.id, force=False))
        await until(lambda: job.record.stop_requested)
        core.host.units.holds_starts.set()
        with pytest.raises(HostUnavailable):
            await launch
        assert (await stop).state is JobState.STOPPED
        await core.ended(job.record.id)

    host = with_core(tmp_path, case)
    assert list(host.outcomes().values()) == ["STOPPED/stopped"]
    assert host.units.units == {}


def test_files_without_a_record_are_swept(tmp_path: Path) -> None:
    host = Host(tmp_path)
    stray = host.paths.job(new_job_id())
    stray.home.mkdir()
    (stray.home / "output.log").write_bytes(b"x")

    async def main() -> None:
        core = Core(host)
        await core.open()
        await until(lambda: not stray.home.exists())
        await core.close()

    asyncio.run(main())


def test_an_agent_that_is_closed_leaves_everything_as_it_is(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host)
        await core.open()
        first, second = await core.run("sleep"), await core.run("sleep")
        await core.retention.close()
        await core.tracker.close()
        await core.sampler.close()
        await core.timers.close()
        host.units.end(first.id, "exited", 5, "exit-code")  # systemd goes on telling until the bus is closed
        await asyncio.sleep(0)
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        await core.close()
        assert host.store.records[first.id].state in {JobState.INITIALIZING, JobState.RUNNING}
        again = Core(host)
        await again.open()
        await again.ended(first.id)
        assert await again.state(second.id) is JobState.RUNNING
        await again.close()

    asyncio.run(main())
    assert sorted(host.outcomes().values()) == ["FAILED/exit-code", "RUNNING/"]


def test_no_unit_appears_when_the_bus_is_gone_at_the_start(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.units.failure = BUS_IS_GONE

    async def main() -> None:
        core = Core(host)
        with pytest.raises(HostUnavailable):
            await core.open()
        await core.close()

    asyncio.run(main())
