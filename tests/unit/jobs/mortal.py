"""An agent that dies at a point that is given: what it asks for afterwards has no effect."""

import asyncio
from collections.abc import Callable
from typing import Any


class CrashNow(BaseException):
    """The agent is gone: nothing that follows has any effect."""


class CrashPlan:
    """Lets the agent die at the n-th point; from then on nothing reaches the host."""

    def __init__(self, at: int) -> None:
        self._left = at
        self.crashed = asyncio.Event()

    @property
    def is_due(self) -> bool:
        """True once all points before it were passed, so that there may be further ones to die at."""
        return self._left == 0

    @property
    def was_reached(self) -> bool:
        return self.crashed.is_set()

    def point(self) -> None:
        if self._left == 0:
            self.crashed.set()
        if self.crashed.is_set():
            raise CrashNow
        self._left -= 1


class Mortal:
    """Passes calls to a port on, with a point before and after each that waits."""

    def __init__(self, port: Any, plan: CrashPlan) -> None:
        self._port = port
        self._plan = plan

    def listen(self, listener: Callable[..., None], *further: Callable[[], None]) -> None:
        def hear(*told: Any) -> None:
            if not self._plan.was_reached:
                listener(*told)

        self._port.listen(hear, *further)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if not asyncio.iscoroutinefunction(member):
            return member

        async def mortal(*arguments: Any, **named: Any) -> Any:
            self._plan.point()
            result = await member(*arguments, **named)
            self._plan.point()
            return result

        return mortal
