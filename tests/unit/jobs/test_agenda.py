"""Scheduled jobs, on fakes: started once, when they are due, whatever happens to the agent."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig, SchedulesConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, LimitReached, StoreFailed, WrongState
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Reason
from joblet_agent.ports import TimerId, TimerKind
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

MINUTE = timedelta(minutes=1)
NO_BUS = HostUnavailable("cannot ask systemd: no answer", reason="SYSTEMD_UNAVAILABLE")
FULL = StoreFailed("cannot write to the state database: disk is full", reason="STORE_FULL")


async def schedule(core: Core, after: timedelta = MINUTE, *, skip_missed: bool = False) -> JobRecord:
    due = (core.clock.time + after).isoformat()
    return await core.service.run(JobSpec("exit", ("0",), schedule=due, skip_missed=skip_missed), CALLER)


def timer(job_id: JobId) -> TimerId:
    return TimerId(TimerKind.JOB, job_id)


def test_a_job_waits_for_its_time_and_starts_once(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        host = core.host
        job = await schedule(core)
        assert job.state is JobState.SCHEDULED
        assert host.store.records[job.id] == job
        assert list(host.timers.timers) == [timer(job.id)]
        host.timers.advance(MINUTE / 2)
        await asyncio.sleep(0.01)
        assert await core.state(job.id) is JobState.SCHEDULED
        host.timers.advance(MINUTE)
        host.timers.look()  # systemd may tell twice
        ended = await core.ended(job.id)
        assert (ended.state, ended.scheduled_at) == (JobState.COMPLETED, job.scheduled_at)
        await until(lambda: not host.timers.timers)
        (entry,) = core.audit.entries  # of the start; the call that asked for it is the server's to record
        assert (entry.caller, entry.rpc, entry.subject.job_id) == (CALLER.name, "timer", job.id)

    host = with_core(tmp_path, case)
    assert len(host.units.starts) == 1


def test_a_time_that_is_past_starts_at_once(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for past in ("1970-01-01T00:00:00Z", core.clock.time.isoformat()):
            record = await core.service.run(JobSpec("sleep", schedule=past), CALLER)
            assert record.state is JobState.RUNNING
            assert record.scheduled_at is not None

    assert with_core(tmp_path, case).timers.timers == {}


def test_c7_a_time_that_is_too_far_leaves_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await core.service.run(JobSpec("sleep", schedule="9999-12-31T23:59:59Z"), CALLER)
        assert caught.value.reason == "SCHEDULE_TOO_FAR"

    host = with_core(tmp_path, case)
    assert (host.records, host.timers.timers) == ([], {})


def test_skip_missed_without_a_schedule_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await core.service.run(JobSpec("sleep", skip_missed=True), CALLER)
        assert caught.value.reason == "SKIP_WITHOUT_SCHEDULE"

    with_core(tmp_path, case)


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_a_withdrawn_job_is_canceled_and_never_starts(tmp_path: Path, verb: str) -> None:
    async def case(core: Core) -> None:
        job = await schedule(core)
        with pytest.raises(WrongState) as caught:
            await core.service.delete(job.id)
        assert caught.value.reason == "JOB_NOT_ENDED"
        assert await core.service.delete_ended() == (0, 1)
        if verb == "stop":
            withdrawn = await core.service.stop(job.id[:8], force=False)
        else:
            withdrawn = await core.service.cancel(job.id[:8])
        assert withdrawn.outcome is not None
        assert (withdrawn.state, withdrawn.outcome.reason) == (JobState.CANCELED, Reason.CANCELED)
        core.host.timers.advance(2 * MINUTE)
        await until(lambda: not core.host.timers.timers)
        assert core.host.store.records[job.id] == withdrawn
        with pytest.raises(WrongState):
            await core.service.cancel(job.id)
        assert await core.service.delete(job.id) == job.id

    assert with_core(tmp_path, case).units.starts == []


def test_a_due_job_waits_for_room(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        job = await schedule(core)
        core.host.timers.advance(2 * MINUTE)
        await until(lambda: core.host.store.records[job.id].state is JobState.PENDING)
        await until(lambda: core.service.queue_position(job.id) == 1)
        await core.service.stop(first.id, force=False)
        assert (await core.ended(job.id)).state is JobState.COMPLETED

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1))


def test_there_is_a_limit(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await schedule(core)
        with pytest.raises(LimitReached, match=r"schedules\.max_jobs") as caught:
            await schedule(core)
        assert caught.value.reason == "TOO_MANY_SCHEDULED"

    assert len(with_core(tmp_path, case, schedules=SchedulesConfig(max_jobs=1)).records) == 1


def test_a_full_disk_refuses_a_job_and_delays_a_due_one(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await schedule(core)
        core.host.store.failure = FULL
        with pytest.raises(StoreFailed):
            await schedule(core)
        with pytest.raises(StoreFailed):
            await core.service.cancel(job.id)
        core.host.store.failure = None
        core.host.store.failures_left = 2
        core.host.timers.advance(2 * MINUTE)
        assert (await core.ended(job.id)).state is JobState.COMPLETED

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_without_the_bus_a_job_is_scheduled_and_its_timer_comes_later(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.timers.failure = NO_BUS
        job = await schedule(core)
        assert job.state is JobState.SCHEDULED
        core.host.timers.failure = None
        core.timers.request_resync()
        await until(lambda: timer(job.id) in core.host.timers.timers)

    with_core(tmp_path, case)


def test_a_timer_that_somebody_stops_is_made_again(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await schedule(core)
        core.host.timers.vanish(timer(job.id))
        await until(lambda: timer(job.id) in core.host.timers.timers)

    with_core(tmp_path, case)


def lives(host: Host, *, away: timedelta, skip_missed: bool = False, reboot: bool = False) -> JobRecord:
    """Schedule a job, let the agent be away for a while, and return the job once it has ended."""

    async def main() -> JobRecord:
        core = Core(host)
        await core.open()
        job = await schedule(core, skip_missed=skip_missed)
        await core.close()
        host.clock.time += away
        if reboot:
            host.timers.reboot()
        again = Core(host, boot_id="boot-2" if reboot else "boot-1")
        await again.open()
        if away < MINUTE:
            assert list(host.timers.timers) == [timer(job.id)]
            host.timers.advance(MINUTE)
        record = await again.ended(job.id)
        await until(lambda: not host.timers.timers)
        await again.close()
        return record

    return asyncio.run(main())


@pytest.mark.parametrize("reboot", [False, True])
@pytest.mark.parametrize("away", [MINUTE / 2, timedelta(hours=5)])
def test_r7_a_scheduled_job_survives_the_agent_and_the_host(
    tmp_path: Path, away: timedelta, reboot: bool
) -> None:
    host = Host(tmp_path)
    assert lives(host, away=away, reboot=reboot).state is JobState.COMPLETED
    assert len(host.units.starts) == 1


def test_a_missed_start_is_left_out_if_that_is_wanted(tmp_path: Path) -> None:
    host = Host(tmp_path)
    record = lives(host, away=timedelta(hours=5), skip_missed=True)
    assert record.outcome is not None
    assert (record.state, record.outcome.reason) == (JobState.CANCELED, Reason.MISSED)
    assert "missed by 17940 s" in record.outcome.message
    assert host.units.starts == []


def test_a_start_that_is_late_by_less_than_a_minute_is_not_missed(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert lives(host, away=1.5 * MINUTE, skip_missed=True).state is JobState.COMPLETED


def test_timers_of_nothing_are_taken_away(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        await host.timers.start_timer(timer(JobId("x")), "every 5", "nothing")
        core = Core(host)
        await core.open()
        assert host.timers.timers == {}
        await core.close()

    asyncio.run(main())
