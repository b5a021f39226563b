"""Tries come again, each after a longer pause than the one before, and soon again after one that was good."""

import asyncio

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.pauses import GrowingPause, do_on_demand


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let no time pass, and keep how much should have."""
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def fake(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr("joblet_agent.pauses.asyncio.sleep", fake)
    return pauses


def test_pauses_grow_up_to_the_bound_and_begin_again(slept: list[float]) -> None:
    async def case() -> None:
        pause = GrowingPause(first=1, most=5)
        for _ in range(5):
            await pause.wait()
        pause.reset()
        await pause.wait()

    asyncio.run(case())
    assert slept == [1, 2, 4, 5, 5, 1]


def test_work_on_demand_is_tried_until_it_is_done(
    slept: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    async def case() -> None:
        wanted, done = asyncio.Event(), asyncio.Event()
        failures = [HostUnavailable("systemd is away", reason="SYSTEMD_UNAVAILABLE")] * 2

        async def work() -> None:
            if failures:
                raise failures.pop()
            done.set()

        task = asyncio.create_task(do_on_demand(wanted, work, "look", GrowingPause(first=1)))
        await asyncio.sleep(0)
        assert (slept, done.is_set()) == ([0], False)  # nobody has asked
        for rounds in (1, 2):
            wanted.set()
            await done.wait()
            done.clear()
            failures += [HostUnavailable("again", reason="SYSTEMD_UNAVAILABLE")] * (2 - rounds)
        assert not wanted.is_set()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(case())
    assert slept == [0, 1, 2, 1]
    assert caplog.messages[0] == "cannot look, trying again: systemd is away"
