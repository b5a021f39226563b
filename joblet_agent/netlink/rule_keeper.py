"""Keeps our rules in force while others change rules of the host."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol, TypeVar

from joblet_agent.errors import JobletError
from joblet_agent.netlink.firewall import Firewall

_REPAIR_PAUSE = 0.5
"""Seconds between repairs: whoever takes our rules away all the time gets them back twice a second."""
_QUIET = 60.0
"""Seconds without a repair after which the next one is told again."""
_LOOK_PAUSE = 2.0
"""Seconds without a change before the look at what other firewalls made: half of one tells other things."""
_LOOK_PAUSES = 5
"""After as many there is a look nevertheless: on some hosts there are changes all the time."""
_LOOK_SHARE = 0.02
"""Most of the time that looking takes: some hosts have ten thousands of rules that change all the time."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Worker(Protocol):
    """Does something in the kernel's own thread."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Do it, and return what it returned."""
        ...


class Keepable(Protocol):
    """What the keeper needs of the kernel."""

    @property
    def firewall(self) -> Firewall:
        """The one that is kept."""
        ...

    def repair_rules(self) -> bool:
        """Put the rules back if somebody changed them; return whether that was so."""
        ...


class RuleKeeper:
    """Has our rules put back, and tells an administrator once what other firewalls keep from our networks."""

    def __init__(
        self,
        kernel: Keepable,
        do: Worker,
        *,
        repair_pause: float = _REPAIR_PAUSE,
        quiet: float = _QUIET,
        look_pause: float = _LOOK_PAUSE,
    ) -> None:
        self._kernel = kernel
        self._do = do
        self._repair_pause = repair_pause
        self._quiet = quiet
        self._least_look_pause = self._look_pause = look_pause
        self._repaired_at = float("-inf")
        self._obstacles: frozenset[str] = frozenset()
        self._have_changed = asyncio.Event()

    async def keep(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_rules(), name="rules")
            tasks.create_task(self._keep_looking(), name="other-firewalls")

    async def _keep_rules(self) -> None:
        while True:
            if await self._repair():
                await asyncio.sleep(self._repair_pause)
            else:
                self._have_changed.set()
                await _readable(self._kernel.firewall.fileno())

    async def _repair(self) -> bool:
        """Repair what there is to repair; say whether to look again after a pause."""
        try:
            if not await self._do(self._kernel.repair_rules):
                return False
        except JobletError as error:
            self._tell(logging.ERROR, f"{error}; trying again")
        else:
            program = self._kernel.firewall.last_program or "another program"
            self._tell(
                logging.WARNING,
                f"the rules of jobs' networks (inet joblet) were changed by {program}; put back",
            )
        return True

    def _tell(self, level: int, text: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._repaired_at > self._quiet:
            _log.log(level, "%s", text)
        self._repaired_at = now

    async def _keep_looking(self) -> None:
        while True:
            await self._have_changed.wait()
            for _ in range(_LOOK_PAUSES):
                self._have_changed.clear()
                await asyncio.sleep(self._look_pause)
                if not self._have_changed.is_set():
                    break
            self._have_changed.clear()
            await self._look()

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        with suppress(JobletError):  # the next change is the next occasion
            found = frozenset(await self._do(self._kernel.firewall.obstacles))
            for obstacle in sorted(found - self._obstacles):
                _log.warning("%s", obstacle)
            self._obstacles = found
        self._look_pause = max(self._least_look_pause, (loop.time() - began) / _LOOK_SHARE)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)
