"""Pause, resume and kill on fakes; the real ones are in tests/e2e/test_live.py."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.errors import WrongState
from joblet_agent.jobs.live import LiveControl
from joblet_agent.model.job import JobState, Reason
from tests.unit.jobs.rig import Core, Host, states, until, with_core


def control(core: Core) -> LiveControl:
    return LiveControl(
        find=core.service.get,
        registry=core.registry,
        control=core.control,
        units=core.units,
        journal=core.journal,
    )


def test_a_job_is_paused_and_resumed(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        live = control(core)
        assert (await live.pause(job.id)).paused
        assert (await core.service.get(job.id)).paused
        with pytest.raises(WrongState) as caught:
            await live.pause(job.id[:10])
        assert caught.value.reason == "JOB_PAUSED"
        assert not (await live.resume(job.id)).paused
        with pytest.raises(WrongState) as caught:
            await live.resume(job.id)
        assert caught.value.reason == "JOB_NOT_PAUSED"
        assert [event for event, _ in core.journal.events][-2:] == ["paused", "resumed"]

    with_core(tmp_path, case)


def test_what_does_not_run_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "0")
        await core.ended(job.id)
        live = control(core)
        for act in (live.pause(job.id), live.resume(job.id), live.kill(job.id, "USR1")):
            with pytest.raises(WrongState, match="it is COMPLETED, not running") as caught:
                await act
            assert caught.value.reason == "JOB_NOT_RUNNING"

    with_core(tmp_path, case)


def test_a_pause_by_others_is_noticed(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await core.host.units.freeze(job.id)
        active = core.registry.get(job.id)
        assert active is not None
        await until(lambda: active.record.paused)
        assert (await control(core).resume(job.id)).paused is False

    with_core(tmp_path, case)


def test_a_stop_that_comes_while_a_pause_is_under_way_is_sent_again(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        active = core.registry.get(job.id)
        assert active is not None
        pausing = core.control.pause(active)
        stopping = core.control.stop(active, force=False)
        await asyncio.gather(pausing, stopping, return_exceptions=True)
        assert (await core.ended(job.id)).state is JobState.STOPPED

    with_core(tmp_path, case)


def test_a_signal_ends_a_job_with_its_number(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        record, number = await control(core).kill(job.id, "SIGUSR1")
        assert (record.state, number) == (JobState.RUNNING, 10)
        outcome = (await core.ended(job.id)).outcome
        assert outcome is not None
        assert (outcome.reason, outcome.signal) == (Reason.SIGNAL, 10)

    host = with_core(tmp_path, case)
    assert states(host.store.history)[-1] is JobState.FAILED


def test_a_pause_is_found_again_by_the_next_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        first = Core(host)
        await first.open()
        job = await first.run("sleep")
        await control(first).pause(job.id)
        await first.close()
        second = Core(host)
        await second.open()
        assert (await second.service.get(job.id)).paused
        await second.service.stop(job.id, force=False)
        assert not (await second.ended(job.id)).paused
        await second.close()

    asyncio.run(main())
