"""The host goes down: what ends with it is recorded before the agent goes."""

from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.jobs.shutdown import HostShutdown
from joblet_agent.model.job import JobState
from tests.unit.jobs.rig import Core, until, with_core

LONG, SHORT = timedelta(seconds=20), timedelta(milliseconds=1)


async def see_off(core: Core, limit: timedelta = LONG) -> None:
    await HostShutdown(core.registry, core.units, core.waiting).see_off(limit)


def test_ends_of_jobs_that_go_down_with_the_host_are_recorded(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        done, stopped = await core.run("sleep"), await core.run("sleep")
        core.host.units.is_host_stopping = True
        core.host.units.end(done.id, "exited", 0)
        core.host.units.stopping(stopped.id)
        core.host.units.end(stopped.id, "killed", 15)
        await see_off(core)
        assert core.host.outcomes() == {done.id: "COMPLETED/", stopped.id: "FAILED/host-rebooted"}

    with_core(tmp_path, case)


def test_a_job_that_waits_is_not_launched_into_a_host_that_goes_down(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = await core.run("sleep"), await core.run("sleep")
        core.host.units.is_host_stopping = True
        core.host.units.end(first.id, "exited", 0)
        await see_off(core)
        assert core.host.units.starts == [first.id]
        assert await core.state(second.id) is JobState.PENDING

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1))


def test_a_job_that_systemd_takes_no_more_waits_for_the_next_boot(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = await core.run("sleep"), await core.run("sleep")
        core.host.units.is_host_stopping = True
        core.host.units.end(first.id, "exited", 0)  # by itself: nothing tells that the host goes down
        await until(lambda: f"start {second.id}" in core.host.calls)
        await until(lambda: core.registry.get(second.id) is None)
        assert core.host.store.records[second.id] == second

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1))


def test_what_waits_is_not_launched_once_a_job_was_stopped_by_the_shutdown(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = await core.run("sleep"), await core.run("sleep")
        core.host.units.is_host_stopping = True
        core.host.units.stopping(first.id)
        core.host.units.end(first.id, "killed", 15)
        await core.ended(first.id)
        assert core.host.units.starts == [first.id]
        assert await core.state(second.id) is JobState.PENDING

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1))


def test_a_host_that_stays_up_is_not_waited_for(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        running = await core.run("sleep")
        await see_off(core)
        assert await core.state(running.id) is JobState.RUNNING

    with_core(tmp_path, case)


def test_a_job_that_does_not_end_is_left_to_the_next_recovery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        core.host.units.is_host_stopping = True
        await see_off(core, SHORT)

    with_core(tmp_path, case)
    assert "1 of 1 jobs have not ended yet" in caplog.text
