"""Loops that stay open for what gRPC still has for them when their test is over."""

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import ClassVar

import pytest

_KEPT = 32


class _Loop(asyncio.SelectorEventLoop):
    """Is closed some tests later.

    gRPC has one queue for all loops of a process. A loop that runs hands the others theirs, and logs an error
    for one that is closed, which would be the next test's. The agent has one loop for its whole life.
    """

    over: ClassVar[deque["_Loop"]] = deque()

    def close(self) -> None:
        self.over.append(self)
        if len(self.over) > _KEPT:
            self.over.popleft().close_now()

    def close_now(self) -> None:
        super().close()


class _Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _Loop()


@pytest.fixture(autouse=True, scope="package")
def _loops() -> Iterator[None]:
    before = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(_Policy())
    yield
    asyncio.set_event_loop_policy(before)
    while _Loop.over:
        _Loop.over.popleft().close_now()
