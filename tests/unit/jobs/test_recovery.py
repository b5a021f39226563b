"""What an agent finds at its start, and after the bus was away, on fakes."""

import asyncio
from datetime import datetime
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, new_job_id
from joblet_agent.ports import UnitPhase, UnitStatus
from tests.fakes.unit_manager import STARTED_AT
from tests.unit.jobs.rig import BOOT, Core, Host, states, until, with_core

BUS_IS_GONE = HostUnavailable("cannot ask systemd: the bus is gone", reason="SYSTEMD_UNAVAILABLE")


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
        await core.workflow_retention.close()
        await core.close_tracking()
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
