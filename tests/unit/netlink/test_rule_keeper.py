import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.netlink.firewall import Firewall
from joblet_agent.netlink.rule_keeper import RuleKeeper

T = TypeVar("T")
DEADLINE = 10.0


class FakeKernel:
    """A kernel that is its own firewall: damaged by the test, repaired by the keeper."""

    def __init__(self) -> None:
        self.firewall = cast(Firewall, self)
        self.last_program = "nft"
        self.repairs = 0
        self.looks = 0
        self.refusals = 0
        self.found: Sequence[str] = ()
        self.always_damaged = False
        self._damages, self._others = os.pipe()
        os.set_blocking(self._damages, False)

    def close(self) -> None:
        os.close(self._damages)
        os.close(self._others)

    def damage(self) -> None:
        os.write(self._others, b"!")

    def fileno(self) -> int:
        return self._damages

    def obstacles(self) -> Sequence[str]:
        self.looks += 1
        return self.found

    def repair_rules(self) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise HostUnavailable("cannot set the rules of networks: busy", reason="NETWORK_RULES_REFUSED")
        try:
            os.read(self._damages, 100)
        except BlockingIOError:
            if not self.always_damaged:
                return False
        self.repairs += 1
        return True


async def at_once(work: Callable[[], T]) -> T:
    return work()


@asynccontextmanager
async def keeping(
    kernel: FakeKernel, *, repair_pause: float = 0.0, quiet: float = 60.0, look_pause: float = 0.0
) -> AsyncIterator[None]:
    keeper = RuleKeeper(kernel, at_once, repair_pause=repair_pause, quiet=quiet, look_pause=look_pause)
    task = asyncio.create_task(keeper.keep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        kernel.close()


async def until(fits: Callable[[], bool]) -> None:
    deadline = asyncio.get_running_loop().time() + DEADLINE
    while not fits():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.001)


def test_damage_is_repaired_and_told_with_who_did_it(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        kernel = FakeKernel()
        async with keeping(kernel):
            kernel.damage()
            await until(lambda: kernel.repairs == 1)
            kernel.damage()
            await until(lambda: kernel.repairs == 2)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    told = "the rules of jobs' networks (inet joblet) were changed by nft; put back"
    assert [record.getMessage() for record in caplog.records] == [told]


def test_who_never_stops_is_answered_after_a_pause(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> int:
        kernel = FakeKernel()
        kernel.always_damaged = True
        async with keeping(kernel, repair_pause=0.05):
            await asyncio.sleep(0.5)  # the length of the fight
            return kernel.repairs

    with caplog.at_level(logging.WARNING):
        assert 1 <= asyncio.run(run()) <= 11
    assert len(caplog.records) == 1


def test_after_quiet_times_it_is_news_again(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        kernel = FakeKernel()
        async with keeping(kernel, quiet=0.0):
            for number in (1, 2):
                kernel.damage()
                await until(lambda number=number: kernel.repairs == number)  # type: ignore[misc]

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert len(caplog.records) == 2


def test_a_repair_that_fails_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        kernel = FakeKernel()
        kernel.refusals = 3
        async with keeping(kernel):
            kernel.damage()
            await until(lambda: kernel.repairs == 1)

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == [
        "cannot set the rules of networks: busy; trying again"
    ]


def test_what_is_in_the_way_is_told_once_and_again_when_it_has_come_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def run() -> None:
        kernel = FakeKernel()
        async with keeping(kernel):
            for found in (["ufw may block"], ["ufw may block"], [], ["ufw may block"]):
                kernel.found, looks = found, kernel.looks
                kernel.damage()
                await until(lambda looks=looks: kernel.looks > looks)  # type: ignore[misc]

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    told = [record.getMessage() for record in caplog.records]
    assert told.count("ufw may block") == 2


def test_a_firewall_that_is_being_made_is_looked_at_when_it_is_complete() -> None:
    pause = 0.5

    async def run() -> tuple[int, float]:
        kernel = FakeKernel()
        loop = asyncio.get_running_loop()
        longest, last = 0.0, loop.time()
        async with keeping(kernel, look_pause=pause):
            for _ in range(8):
                kernel.damage()
                await asyncio.sleep(pause / 8)
                longest, last = max(longest, loop.time() - last), loop.time()
            looks = kernel.looks
            await until(lambda: kernel.looks >= 1)
            return looks, longest

    looks, longest = asyncio.run(run())
    assert looks == 0 or longest > pause / 2  # a machine that is this busy has made a pause of its own


def test_rules_that_change_all_the_time_are_looked_at_nevertheless() -> None:
    async def run() -> None:
        kernel = FakeKernel()
        async with keeping(kernel, look_pause=0.02):
            while kernel.looks < 2:
                kernel.damage()
                await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(run(), DEADLINE))
