"""R3: the agent dies at every point where a recurring schedule waits for the store or for systemd."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import JobletError
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import JobSpec
from joblet_agent.model.schedule import ScheduleState
from joblet_agent.model.secrets import Secrets
from tests.unit.jobs.mortal import CrashNow, CrashPlan, Mortal
from tests.unit.jobs.rig import CALLER, Core, Host, mortal_threads, until

pytestmark = pytest.mark.exhaustive

MINUTE = timedelta(minutes=1)
TICK = JobSpec("exit", ("0",), schedule="every 60")
UPLOADS = Uploads(files=(NewFile("data", content=b"kept"),))
SECRETS = Secrets({"KEY": "s3cr3t"})


async def _story(core: Core) -> None:
    schedule = await core.schedules.create(TICK, CALLER, UPLOADS, secrets=SECRETS)
    for number in (1, 2):
        core.host.timers.advance(MINUTE)
        await until(lambda: core.schedules.get(schedule.id).started == number)  # noqa: B023 - waits here
        job = core.schedules.get(schedule.id).last_job
        assert job is not None
        await core.ended(job)
    await core.schedules.pause(schedule.id)
    await core.schedules.resume(schedule.id, CALLER)
    core.host.timers.advance(MINUTE)
    await until(lambda: core.schedules.get(schedule.id).started == 3)
    await core.schedules.remove(schedule.id)


async def _live(host: Host, plan: CrashPlan) -> None:
    core = Core(
        host,
        store=Mortal(host.store, plan),
        units=Mortal(host.units, plan),
        timers=Mortal(host.timers, plan),
        schedule_store=Mortal(host.schedules, plan),
    )

    async def tell() -> None:
        await core.open()
        await _story(core)

    told, dies = asyncio.create_task(tell()), asyncio.create_task(plan.crashed.wait())
    await asyncio.wait({told, dies}, return_when=asyncio.FIRST_COMPLETED)
    for task in (told, dies):
        task.cancel()
    for end in await asyncio.gather(told, dies, return_exceptions=True):
        if isinstance(end, BaseException) and not isinstance(
            end, CrashNow | asyncio.CancelledError | JobletError
        ):
            raise end
    plan.crashed.set()
    await core.close()


async def _go_on(host: Host) -> None:
    """Let the next agent live for some minutes, and see that it does what the store says."""
    core = Core(host)
    await core.open()
    for _ in range(2):
        host.timers.advance(MINUTE)
        await until(
            lambda: all(
                each.state is not ScheduleState.ACTIVE or (each.next_at or core.clock.time) > core.clock.time
                for each in core.schedules.all()
            )
        )
        await until(lambda: all(record.has_ended for record in host.records))
        await until(lambda: not list(core.registry))
    active = [each for each in core.schedules.all() if each.state is ScheduleState.ACTIVE]
    assert sorted(timer.id for timer in host.timers.timers) == sorted(each.id for each in active)
    for schedule in active:
        assert schedule.started >= 2
    assert all(host.units.plans[job_id].environment["KEY"] == "s3cr3t" for job_id in host.units.starts)
    assert list(host.paths.waiting_secrets.iterdir()) == []
    await until(
        lambda: {path.name for path in host.paths.schedules.iterdir()} == set(host.schedules.schedules)
    )
    await core.close()


def test_r3_no_start_is_lost_or_repeated_wherever_the_agent_dies(tmp_path: Path) -> None:
    async def life_and_death(at: int) -> bool:
        host = Host(tmp_path / str(at))
        plan = CrashPlan(at)
        async with asyncio.timeout(60):
            async with mortal_threads():
                await _live(host, plan)
            was_reached = plan.is_due
            await _go_on(host)
        times = [(record.schedule_id, record.scheduled_at) for record in host.records]
        assert len(times) == len(set(times)), f"a start happened twice, death at {at}"
        ends = [(record.id, record.state, record.outcome) for record in host.records]
        assert sorted(host.units.starts) == sorted(record.id for record in host.records), (at, ends)
        return was_reached

    at = 0
    while asyncio.run(life_and_death(at)):
        at += 1
    assert at > 20
