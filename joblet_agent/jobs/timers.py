"""Keeps systemd's timers as the store wants them: what is wanted is there, what is not wanted goes.

Timers are the agent's alarm clock and the administrator's view (``systemctl list-timers``). They hold
nothing of their own: after a reboot, or when somebody stopped one, it is made again.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from joblet_agent.errors import HostUnavailable, JobletError
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.pauses import GrowingPause, do_on_demand
from joblet_agent.ports import TimerId, TimerKind, TimerManager, TimerPhase, TimerStatus

_log = logging.getLogger(__name__)

Listener = Callable[[TimerStatus], None]
"""Called on the event loop with what a timer of its kind does, and for each of them after a comparison."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    calendar: str
    title: str


class TimerKeeper:
    """The timers that the agent wants, by what they wake it for."""

    def __init__(self, timers: TimerManager) -> None:
        self._timers = timers
        self._wanted: dict[TimerId, _Wanted] = {}
        self._starting: set[TimerId] = set()
        self._listeners: dict[TimerKind, Listener] = {}
        self._tasks = Tasks()
        self._resync_wanted = asyncio.Event()

    def listen(self, kind: TimerKind, listener: Listener) -> None:
        """Tell the listener of the timers of this kind."""
        self._listeners[kind] = listener

    def expect(self, timer: TimerId, calendar: str, title: str) -> None:
        """Want a timer that is there already or will be made by ``recover``."""
        self._wanted[timer] = _Wanted(calendar, title)

    async def start(self, timer: TimerId, calendar: str, title: str) -> datetime | None:
        """Make a timer and return when it will wake the agent first; None if never.

        Raises InvalidRequest with systemd's words for a bad calendar, LaunchFailed, HostUnavailable;
        the timer is not wanted then.
        """
        self.expect(timer, calendar, title)
        self._starting.add(timer)
        try:
            return await self._timers.start_timer(timer, calendar, title)
        except JobletError:
            self.stop(timer)  # a lost answer may have left one
            raise
        finally:
            self._starting.discard(timer)

    def stop(self, timer: TimerId) -> None:
        """Want the timer no more; it goes soon."""
        if self._wanted.pop(timer, None) is not None:
            self._tasks.start(self._stop(timer), f"stop-timer-{timer.id}")

    async def stop_and_wait(self, timer: TimerId) -> None:
        """Want the timer no more, and wait until it has gone; should systemd not answer, it goes later."""
        self._wanted.pop(timer, None)
        await self._stop(timer)

    async def recover(self) -> None:
        """Compare with systemd for the first time. Call once, when all that is wanted is known."""
        self._timers.listen_timers(self._on_timer)
        await self._resync()
        self._tasks.start(
            do_on_demand(
                self._resync_wanted, self._resync, "compare timers with systemd", GrowingPause(most=30.0)
            ),
            "timers",
        )

    def request_resync(self) -> None:
        """Compare with systemd again, soon: something may have been missed."""
        self._resync_wanted.set()

    async def close(self) -> None:
        """Hear no more of the timers, and let them be. Comes before those who listen are closed."""
        self._timers.listen_timers(_ignore)
        await self._tasks.close()

    def _on_timer(self, status: TimerStatus) -> None:
        if status.timer not in self._wanted:
            return
        if status.phase is TimerPhase.GONE:
            _log.warning("timer of %s %s was stopped, it is made again", status.timer.kind, status.timer.id)
            self.request_resync()
        self._listeners[status.timer.kind](status)

    async def _stop(self, timer: TimerId) -> None:
        try:
            await self._timers.stop_timer(timer)
        except HostUnavailable:
            self.request_resync()

    async def _resync(self) -> None:
        present = {status.timer: status for status in await self._timers.present_timers()}
        for timer in present.keys() - self._wanted.keys():
            await self._timers.stop_timer(timer)
        for timer, wanted in list(self._wanted.items()):
            if timer in self._starting:
                continue
            status = present.get(timer) or await self._made_again(timer, wanted)
            if timer in self._wanted:
                self._listeners[timer.kind](status)

    async def _made_again(self, timer: TimerId, wanted: _Wanted) -> TimerStatus:
        try:
            next_at = await self._timers.start_timer(timer, wanted.calendar, wanted.title)
        except HostUnavailable:
            raise
        except (
            JobletError
        ) as error:  # trying again would not help, and its owner knows what is due without it
            _log.error("no timer wakes %s %s: %s", timer.kind, timer.id, error)
            return TimerStatus(timer, TimerPhase.GONE)
        return TimerStatus(timer, TimerPhase.WAITING if next_at else TimerPhase.ELAPSED, next_at)


def _ignore(_status: TimerStatus) -> None:
    """Nobody listens any more."""
