"""Limits of jobs that wait or run are changed, on fakes: in force, stored, or as they were."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig, LimitsConfig, MaximaConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, LaunchFailed, StoreFailed, WrongState
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobSpec, JobState
from joblet_agent.model.resources import Resources
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

ONE_AT_A_TIME = JobsConfig(max_concurrent=1)
MIB = 1 << 20


def test_a_job_that_runs_gets_its_new_limits(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep", resources=Resources(max_cpu=50))
        changed = await core.service.update(job.id, {"max_cpu": 100, "max_memory": 64 * MIB}, CALLER)
        assert changed.spec.resources == Resources(100, 64 * MIB, max_tasks=4096)
        assert core.host.units.limits[job.id] == {"max_cpu": 100, "max_memory": 64 * MIB}
        stored = core.host.store.records[job.id]
        assert (stored.spec.resources, stored.unapplied_limits) == (changed.spec.resources, ())
        await core.service.update(job.id, {"max_cpu": 0, "max_tasks": 0}, CALLER)
        assert core.host.units.limits[job.id] == {"max_cpu": 0, "max_memory": 64 * MIB, "max_tasks": 4096}

    with_core(tmp_path, case)


def test_the_change_is_stored_before_and_after_systemd_is_asked(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await until(lambda: core.host.store.records[job.id].state is JobState.RUNNING)
        core.host.calls.clear()
        core.host.store.history.clear()
        await core.service.update(job.id, {"max_cpu": 100}, CALLER)
        assert core.host.calls == [f"save RUNNING {job.id}", f"limits {job.id}", f"save RUNNING {job.id}"]
        before, after = core.host.store.history
        assert (before.unapplied_limits, after.unapplied_limits) == (("max_cpu",), ())

    with_core(tmp_path, case)


def test_two_changes_at_once_are_both_in_force(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await asyncio.gather(
            core.service.update(job.id, {"max_cpu": 100}, CALLER),
            core.service.update(job.id, {"cpu_weight": 7}, CALLER),
        )
        resources = core.host.store.records[job.id].spec.resources
        assert (resources.max_cpu, resources.cpu_weight) == (100, 7)
        assert core.host.units.limits[job.id] == {"max_cpu": 100, "cpu_weight": 7}

    with_core(tmp_path, case)


@pytest.mark.parametrize("name", ["timeout", "nice"])
def test_what_is_fixed_at_the_start_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        value = timedelta(seconds=5) if name == "timeout" else 5
        with pytest.raises(WrongState, match=f"--{name} cannot change once the job runs: ") as caught:
            await core.service.update(job.id, {name: value, "max_cpu": 50}, CALLER)
        assert caught.value.reason == "LIMIT_FIXED"
        assert core.host.units.limits == {}

    with_core(tmp_path, case)


def test_a_job_that_waits_starts_with_its_new_limits_in_its_old_place(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        second, third = await core.run("sleep", resources=Resources(max_cpu=50)), await core.run("sleep")
        changes = {"max_cpu": 200, "nice": 3, "timeout": timedelta(minutes=1)}
        changed = await core.service.update(second.id, changes, CALLER)
        wanted = Resources(200, nice=3, timeout=timedelta(minutes=1), max_tasks=4096)
        assert (changed.state, changed.spec.resources) == (JobState.PENDING, wanted)
        assert [core.service.queue_position(job.id) for job in (second, third)] == [1, 2]
        core.host.units.end(first.id, "exited", 0)
        await until(lambda: second.id in core.host.units.units)
        assert core.host.units.plans[second.id].spec.resources == wanted
        assert core.host.store.records[second.id].spec.resources == wanted
        await core.service.stop(third.id, force=False)

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_limits_of_a_job_that_waits_survive_the_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host, jobs=ONE_AT_A_TIME)
        await core.open()
        first = await core.run("sleep")
        second = await core.run("sleep", resources=Resources(max_cpu=50, cpu_cores="0-1"))
        await core.close()
        again = Core(host, jobs=ONE_AT_A_TIME)
        await again.open()
        await again.service.stop(first.id, force=False)
        await until(lambda: second.id in host.units.units)
        assert host.units.plans[second.id].spec.resources == Resources(50, cpu_cores="0-1", max_tasks=4096)
        await again.close()

    asyncio.run(main())


def test_a_scheduled_job_starts_with_its_new_limits(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        due = (core.clock.time + timedelta(minutes=1)).isoformat()
        job = await core.service.run(JobSpec("sleep", schedule=due), CALLER)
        changed = await core.service.update(job.id, {"max_cpu": 200, "nice": 3}, CALLER)
        assert (changed.state, changed.spec.resources.max_cpu) == (JobState.SCHEDULED, 200)
        core.host.timers.advance(timedelta(minutes=2))
        await until(lambda: job.id in core.host.units.units)
        assert core.host.units.plans[job.id].spec.resources == Resources(200, nice=3, max_tasks=4096)

    with_core(tmp_path, case)


def test_a_job_that_was_withdrawn_stays_withdrawn(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        waiting = await core.run("sleep")
        results = await asyncio.gather(
            core.service.cancel(waiting.id),
            core.service.update(waiting.id, {"max_cpu": 50}, CALLER),
            return_exceptions=True,
        )
        assert [type(result) for result in results if isinstance(result, Exception)] in ([], [WrongState])
        assert await core.state(waiting.id) is JobState.CANCELED

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_job_that_has_ended_cannot_change(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "0")
        await core.ended(job.id)
        with pytest.raises(WrongState, match="has ended already, COMPLETED"):
            await core.service.update(job.id, {"max_cpu": 50}, CALLER)

    with_core(tmp_path, case)


def test_no_change_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        with pytest.raises(InvalidRequest) as caught:
            await core.service.update(job.id, {}, CALLER)
        assert caught.value.reason == "NOTHING_TO_CHANGE"

    with_core(tmp_path, case)


def test_an_operator_changes_within_the_maxima_and_keeps_what_an_admin_gave(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host, limits=LimitsConfig(operator=MaximaConfig(max_cpu=100, max_memory=MIB * 32)))
        await core.open()
        job = await core.run("sleep", resources=Resources(max_memory=64 * MIB))
        operator = Identity("o", Role.OPERATOR)
        with pytest.raises(InvalidRequest, match=f"cannot change job {job.id[:8]}: --max-cpu is 200%"):
            await core.service.update(job.id, {"max_cpu": 200}, operator)
        changed = await core.service.update(job.id, {"max_cpu": 100}, operator)
        assert changed.spec.resources == Resources(100, 64 * MIB, max_tasks=4096)
        await core.close()

    asyncio.run(main())


def test_what_systemd_refuses_changes_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep", resources=Resources(max_cpu=50))
        core.host.units.refuses_limits = True
        with pytest.raises(LaunchFailed):
            await core.service.update(job.id, {"max_cpu": 100}, CALLER)
        for record in (core.host.store.records[job.id], await core.service.get(job.id)):
            assert (record.spec.resources.max_cpu, record.unapplied_limits) == (50, ())

    with_core(tmp_path, case)


def test_what_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep", resources=Resources(max_cpu=50))
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await core.service.update(job.id, {"max_cpu": 100}, CALLER)
        assert (await core.service.get(job.id)).spec.resources.max_cpu == 50
        assert core.host.units.limits == {}

    with_core(tmp_path, case)


def test_a_change_that_systemd_did_not_answer_is_made_as_soon_as_it_does(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        core.host.units.failure = HostUnavailable("cannot ask systemd", reason="SYSTEMD_UNAVAILABLE")
        with pytest.raises(HostUnavailable):
            await core.service.update(job.id, {"max_cpu": 100}, CALLER)
        core.host.units.failure = None
        await until(lambda: core.host.units.limits.get(job.id) == {"max_cpu": 100})
        await until(lambda: not core.host.store.records[job.id].unapplied_limits)

    with_core(tmp_path, case)


def test_a_change_that_the_agent_did_not_live_to_make_is_made_by_the_next(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host)
        await core.open()
        job = await core.run("sleep")
        host.units.failure = HostUnavailable("cannot ask systemd", reason="SYSTEMD_UNAVAILABLE")
        with pytest.raises(HostUnavailable):
            await core.service.update(job.id, {"max_cpu": 100}, CALLER)
        await core.close()
        host.units.failure = None
        again = Core(host)
        await again.open()
        assert host.units.limits[job.id] == {"max_cpu": 100}
        assert host.store.records[job.id].unapplied_limits == ()
        await again.close()

    asyncio.run(main())
