"""When runtimes are collected by themselves."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import StoreFailed
from joblet_agent.runtimes.collector import RuntimeCollector
from joblet_agent.runtimes.gc import Freed
from tests.fakes.clock import FakeClock

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


class Rig:
    """A collector, and what it has done."""

    def __init__(self, home: Path, clock: FakeClock, every: timedelta = DAY) -> None:
        self.clock = clock
        self.stamp = home / "collected"
        self.count = 0
        self.fails = False
        self.again = asyncio.Event()
        self.config = RuntimesConfig(collect_every=every)
        self.collector = RuntimeCollector(self._collect, self.config, clock, self.stamp)

    async def _collect(self) -> Freed:
        self.count += 1
        if self.count > 1:
            self.again.set()
        if self.fails:
            raise StoreFailed("cannot read", reason="STORE_FAILED")
        return Freed(0, 0, 0)


def life(
    home: Path, clock: FakeClock, case: Callable[[Rig], Coroutine[Any, Any, None]], every: timedelta = DAY
) -> None:
    asyncio.run(case(Rig(home, clock, every)))


def test_it_collects_once_in_each_interval_whoever_restarts_the_agent(tmp_path: Path) -> None:
    clock = FakeClock()

    async def first(rig: Rig) -> None:
        for wanted in (1, 1, 2):
            seconds = await rig.collector.look()
            assert seconds is not None
            assert 0 < seconds <= DAY.total_seconds()
            assert rig.count == wanted
            clock.time += DAY / 2

    async def again(rig: Rig) -> None:
        await rig.collector.look()
        assert rig.count == 0
        clock.time += DAY / 2
        await rig.collector.look()
        assert rig.count == 1

    life(tmp_path, clock, first)
    life(tmp_path, clock, again)


def test_zero_is_never(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.clock.time += 1000 * DAY
        assert await rig.collector.look() is None
        assert rig.count == 0

    life(tmp_path, FakeClock(), case, timedelta(0))


def test_what_fails_is_tried_again_in_an_hour(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.fails = True
        for _ in range(2):
            seconds = await rig.collector.look()
            assert seconds is not None
            assert 0 < seconds <= HOUR.total_seconds()
            assert rig.count == 1
        rig.fails = False
        rig.clock.time += HOUR
        await rig.collector.look()
        assert rig.count == 2

    life(tmp_path, FakeClock(), case)


def test_a_time_that_is_yet_to_come_delays_nothing(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.stamp.touch()
        later = (rig.clock.time + 1000 * DAY).timestamp()
        os.utime(rig.stamp, (later, later))
        for _ in range(2):
            await rig.collector.look()
            assert rig.count == 1

    life(tmp_path, FakeClock(), case)


def test_another_interval_counts_at_once_in_the_background(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        await rig.collector.look()
        rig.collector.begin()
        object.__setattr__(rig.config, "collect_every", HOUR)
        rig.clock.time += HOUR
        rig.collector.reconsider()
        async with asyncio.timeout(20):
            await rig.again.wait()
        await rig.collector.close()

    life(tmp_path, FakeClock(), case)
