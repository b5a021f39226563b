"""systemd's timers in memory. tests/integration holds it to the real one.

It outlives the agent, as the real one does. Its clock is the test's, which says when timers trigger::

    a calendar expression         of one point in time, as for scheduled jobs
    every N                       every N seconds since 1970; with `once` behind it, only the first one
    bad …                         systemd cannot read it
    never                         it has no time ahead
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from joblet_agent.errors import HostUnavailable, InvalidRequest, LaunchFailed
from joblet_agent.ports import TimerId, TimerPhase, TimerStatus
from tests.fakes.clock import FakeClock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass
class _Timer:
    calendar: str
    next_at: datetime | None
    triggered: bool = False


class FakeTimers:
    """ports.TimerManager. ``failure`` is raised by every call."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timers: dict[TimerId, _Timer] = {}
        self.failure: HostUnavailable | None = None
        self._listener: Callable[[TimerStatus], None] = _nobody

    def listen_timers(self, listener: Callable[[TimerStatus], None]) -> None:
        self._listener = listener

    async def start_timer(self, timer: TimerId, calendar: str, title: str) -> datetime | None:
        await asyncio.sleep(0)
        self._check()
        if calendar.startswith("bad"):
            raise InvalidRequest(f"systemd cannot read {calendar!r}: no", reason="BAD_SCHEDULE")
        if timer in self.timers:
            raise LaunchFailed("systemd refused StartTransientUnit: UnitExists", reason="SYSTEMD_REFUSED")
        assert title
        self.timers[timer] = _Timer(calendar, next_time(calendar, self.clock.time))
        self._tell(timer)
        await asyncio.sleep(0)
        return self.timers[timer].next_at

    async def stop_timer(self, timer: TimerId) -> None:
        await asyncio.sleep(0)
        self._check()
        self.timers.pop(timer, None)

    async def present_timers(self) -> Sequence[TimerStatus]:
        await asyncio.sleep(0)
        self._check()
        return [self._status(timer) for timer in self.timers]

    # -- what the test does ------------------------------------------------------------------------

    def advance(self, by: timedelta) -> None:
        """Let time pass, and what is due then trigger."""
        self.clock.time += by
        self.look()

    def look(self) -> None:
        """Trigger what is due, or plan anew after the clock was set."""
        for name, timer in self.timers.items():
            if timer.next_at is not None and timer.next_at <= self.clock.time:
                self._send(TimerStatus(name, TimerPhase.TRIGGERED))
                timer.triggered = True
            is_over = timer.triggered and timer.calendar.endswith("once")
            timer.next_at = None if is_over else next_time(timer.calendar, self.clock.time)
            self._tell(name)

    def reboot(self) -> None:
        """No transient timer survives it."""
        self.timers.clear()

    def vanish(self, timer: TimerId) -> None:
        """Somebody stops it."""
        del self.timers[timer]
        self._send(TimerStatus(timer, TimerPhase.GONE))

    def _tell(self, timer: TimerId) -> None:
        self._send(self._status(timer))

    def _status(self, timer: TimerId) -> TimerStatus:
        next_at = self.timers[timer].next_at
        return TimerStatus(timer, TimerPhase.WAITING if next_at else TimerPhase.ELAPSED, next_at)

    def _send(self, status: TimerStatus) -> None:
        asyncio.get_running_loop().call_soon(self._listener, status)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


def next_time(calendar: str, now: datetime) -> datetime | None:
    """Return the first time after now."""
    if calendar == "never":
        return None
    if found := re.fullmatch(r"every (\d+)( once)?", calendar):
        step = timedelta(seconds=int(found[1]))
        return _EPOCH + ((now - _EPOCH) // step + 1) * step
    moment = datetime.strptime(calendar, "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=UTC)
    return moment if moment > now else None


def _nobody(_status: TimerStatus) -> None:
    """No agent listens."""
