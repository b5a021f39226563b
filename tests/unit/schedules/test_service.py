"""Recurring schedules, on fakes: each start once, whatever happens to the agent."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import ProfilesConfig, SchedulesConfig
from joblet_agent.errors import (
    AmbiguousId,
    HostUnavailable,
    InvalidRequest,
    LimitReached,
    NotFound,
    NotPermitted,
    StoreFailed,
    WrongState,
)
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobSpec, JobState
from joblet_agent.model.schedule import Schedule, ScheduleId, ScheduleState
from joblet_agent.ports import TimerId, TimerKind
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

MINUTE = timedelta(minutes=1)
FULL = StoreFailed("cannot write to the state database: disk is full", reason="STORE_FULL")


async def create(core: Core, command: str = "exit", **more: object) -> Schedule:
    args = ("0",) if command == "exit" else ()
    spec = JobSpec(command, args, name="tick", schedule="every 60")
    return await core.schedules.create(replace(spec, **more), CALLER)  # type: ignore[arg-type]


async def passes(core: Core, schedule: Schedule, starts: int) -> Schedule:
    """Let time pass to the next start and wait until the schedule has seen to it."""
    core.host.timers.advance(MINUTE)
    return await seen(core, schedule, starts)


async def seen(core: Core, schedule: Schedule, starts: int) -> Schedule:
    """Wait until the schedule has seen to so many starts."""

    def count() -> int:
        now = core.schedules.get(schedule.id)
        return now.started + now.skipped

    await until(lambda: count() == starts)
    return core.schedules.get(schedule.id)


def test_each_start_is_a_job_of_its_own(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        assert schedule.next_at == core.clock.time.replace(second=0, microsecond=0) + MINUTE
        assert core.host.records == []
        due = schedule.next_at
        for number in (1, 2, 3):
            schedule = await passes(core, schedule, number)
            assert schedule.last_at == due
            entry = core.audit.entries[-1]
            assert (entry.caller, entry.rpc, len(core.audit.entries)) == (CALLER.name, "timer", number)
            assert (entry.subject.job_id, entry.subject.schedule_id) == (schedule.last_job, schedule.id)
            assert schedule.last_job is not None
            job = await core.ended(schedule.last_job)
            assert (job.state, job.scheduled_at) == (JobState.COMPLETED, due)
            assert (job.schedule_id, job.spec.name) == (schedule.id, "tick")
            assert schedule.next_at is not None
            due = schedule.next_at
        jobs = await core.schedules.jobs(schedule, most=2)
        assert jobs[0].id == schedule.last_job
        assert len(jobs) == 2

    assert len(with_core(tmp_path, case).units.starts) == 3


def test_a_start_is_left_out_while_the_job_before_runs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await passes(core, await create(core, "sleep"), 1)
        first = schedule.last_job
        assert first is not None
        await until(lambda: first in core.host.units.units)
        schedule = await passes(core, schedule, 2)
        assert (schedule.started, schedule.skipped, schedule.last_job) == (1, 1, first)
        assert schedule.skipped_reason == f"job {first} of the start before had not ended"
        await core.service.stop(first, force=False)
        await core.ended(first)
        assert (await passes(core, schedule, 3)).started == 2

    with_core(tmp_path, case)


@pytest.mark.parametrize(
    ("schedule", "reason", "text"),
    [
        ("bad", "BAD_SCHEDULE", "cannot schedule job: systemd cannot read 'bad': no"),
        ("never", "NEVER_DUE", "cannot schedule job: 'never' is never due from now on"),
        ("a\nb", "BAD_SCHEDULE", "neither a time in RFC 3339 nor a calendar expression"),
    ],
)
def test_c7_a_bad_calendar_leaves_nothing(tmp_path: Path, schedule: str, reason: str, text: str) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await create(core, schedule=schedule)
        assert caught.value.reason == reason
        assert text in str(caught.value)
        assert "daily" in str(caught.value.hint)
        await until(lambda: not core.host.timers.timers)
        assert core.schedules.all() == []

    assert with_core(tmp_path, case).schedules.schedules == {}


def test_what_can_never_run_and_what_is_too_large_is_no_schedule(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest, match="there is no network"):
            await create(core, network="moon")
        with pytest.raises(InvalidRequest) as caught:
            await create(core, args=("x" * 65536,))
        assert caught.value.reason == "SCHEDULE_TOO_LARGE"

    assert with_core(tmp_path, case).timers.timers == {}


def test_there_is_a_limit(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await create(core)
        with pytest.raises(LimitReached, match=r"schedules\.max_recurring"):
            await create(core)

    with_core(tmp_path, case, schedules=SchedulesConfig(max_recurring=1))


def test_a_full_disk_refuses_a_schedule_and_delays_a_start(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        core.host.store.failure = FULL
        with pytest.raises(StoreFailed):
            await create(core)
        core.host.timers.advance(MINUTE)
        await asyncio.sleep(0.05)
        assert core.schedules.get(schedule.id).started == 0
        core.host.store.failure = None
        await until(lambda: core.schedules.get(schedule.id).started == 1)
        assert len(core.schedules.all()) == 1

    assert len(with_core(tmp_path, case).units.starts) <= 1


def test_pause_resume_remove(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        name = TimerId(TimerKind.SCHEDULE, schedule.id)
        with pytest.raises(WrongState) as caught:
            await core.schedules.resume(schedule.id, CALLER)
        assert caught.value.reason == "SCHEDULE_NOT_PAUSED"
        paused = await core.schedules.pause(schedule.id[:8])
        assert (paused.state, paused.next_at) == (ScheduleState.PAUSED, None)
        assert name not in core.host.timers.timers
        core.host.timers.advance(5 * MINUTE)
        assert (await core.schedules.pause(schedule.id)).state is ScheduleState.PAUSED
        resumed = await core.schedules.resume(schedule.id, CALLER)
        assert resumed.state is ScheduleState.ACTIVE
        assert resumed.next_at is not None
        assert resumed.next_at > core.clock.time
        schedule = await passes(core, resumed, 1)
        job = schedule.last_job
        assert job is not None
        await core.ended(job)
        assert await core.schedules.remove(schedule.id) == schedule.id
        await until(lambda: not core.host.timers.timers)
        with pytest.raises(NotFound):
            core.schedules.get(schedule.id)
        assert (await core.service.get(job)).schedule_id == schedule.id

    assert with_core(tmp_path, case).schedules.schedules == {}


def test_c1_only_an_admin_resumes_what_starts_privileged_jobs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core, profile="privileged")
        for role in set(Role) - {Role.ADMIN}:
            await core.schedules.pause(schedule.id)
            with pytest.raises(NotPermitted) as caught:
                await core.schedules.resume(schedule.id[:13], Identity("somebody else", role))
            assert caught.value.reason == "PROFILE_NOT_PERMITTED"
            assert str(caught.value).startswith(
                f"cannot resume schedule {schedule.id[:8]}: role {role} may not use the profile privileged"
            )
            assert core.schedules.get(schedule.id).state is ScheduleState.PAUSED
            assert not core.host.timers.timers
        assert (await core.schedules.resume(schedule.id, CALLER)).state is ScheduleState.ACTIVE
        plain = await core.schedules.pause((await create(core)).id)
        operator = Identity("somebody else", Role.OPERATOR)
        assert (await core.schedules.resume(plain.id, operator)).state is ScheduleState.ACTIVE

    with_core(tmp_path, case, profiles=ProfilesConfig(privileged=True))


def test_a_prefix_must_fit_one(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for number in range(17):
            await create(core, name=str(number))
        first = {each.id[0] for each in core.schedules.all()}
        twice = next(c for c in first if sum(each.id[0] == c for each in core.schedules.all()) > 1)
        with pytest.raises(AmbiguousId):
            core.schedules.get(twice)
        for no_id in ("", "zz", "../x"):
            with pytest.raises(InvalidRequest):
                core.schedules.get(no_id)
        with pytest.raises(NotFound):
            core.schedules.get("-" * 36)

    with_core(tmp_path, case)


def test_a_calendar_without_more_starts_has_ended(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core, schedule="every 60 once")
        schedule = await passes(core, schedule, 1)
        assert schedule.state is ScheduleState.ENDED
        await until(lambda: not core.host.timers.timers)

    with_core(tmp_path, case)


def two_lives(host: Host, away: timedelta, *, reboot: bool = False, **more: object) -> Schedule:
    """Make a schedule, let the agent be away, and return what the next one made of it."""

    async def main() -> Schedule:
        core = Core(host)
        await core.open()
        schedule = await create(core, **more)  # type: ignore[arg-type]
        await core.close()
        if reboot:
            host.timers.reboot()
        host.timers.advance(away)
        again = Core(host, boot_id="boot-2" if reboot else "boot-1")
        await again.open()
        schedule = await seen(again, schedule, 1)
        if schedule.last_job is not None:
            await again.ended(schedule.last_job)
        await again.close()
        return schedule

    return asyncio.run(main())


@pytest.mark.parametrize("reboot", [False, True])
def test_r7_starts_that_were_missed_are_made_up_for_once(tmp_path: Path, reboot: bool) -> None:
    host = Host(tmp_path)
    schedule = two_lives(host, timedelta(hours=5), reboot=reboot)
    assert len(host.units.starts) == 1
    assert schedule.next_at is not None
    assert schedule.next_at > host.clock.time - MINUTE


def test_starts_that_were_missed_are_left_out_if_that_is_wanted(tmp_path: Path) -> None:
    host = Host(tmp_path)
    schedule = two_lives(host, timedelta(hours=5), skip_missed=True)
    assert (schedule.started, schedule.skipped) == (0, 1)
    assert schedule.skipped_reason.startswith("it was missed by ")
    assert host.units.starts == []


def test_no_start_is_claimed_twice(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        due = schedule.next_at
        assert due is not None
        schedule = await passes(core, schedule, 1)
        assert not await core.host.schedules.claim(schedule, due=due, job=None)

    with_core(tmp_path, case)


def test_systemd_that_does_not_answer_makes_no_schedule(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.timers.failure = HostUnavailable("no answer", reason="SYSTEMD_UNAVAILABLE")
        with pytest.raises(HostUnavailable):
            await create(core)
        core.host.timers.failure = None
        with pytest.raises(NotFound):
            core.schedules.get(ScheduleId("a"))

    assert with_core(tmp_path, case).schedules.schedules == {}
