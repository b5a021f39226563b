"""Transient timers that wake the agent, over the bus of the unit manager.

A transient timer cannot say which unit it triggers (no Unit= over D-Bus, systemd 252 to 257): it is the one
of the same name. So timers are instances (``joblet-job@UUID.timer``), and what they trigger are instances of
static units (units/joblet-job@.service) that do nothing. What wakes the agent is the signal that the timer
has triggered. When it will do so again, and what a calendar expression means, systemd computes, with the
clock, its jumps and the time zone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from dbus_next.signature import Variant

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LaunchFailed, NotFound
from joblet_agent.ports import TimerId, TimerPhase, TimerStatus
from joblet_agent.systemd.bus import ArgumentsRefused, SystemBus
from joblet_agent.systemd.names import TIMER_UNIT_PATTERNS, timer_of_unit, timer_path, timer_unit_name
from joblet_agent.systemd.property import line_text

_DEADLINE = 15.0
_NO_TIME = frozenset({0, 2**64 - 1})
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PHASES = {"waiting": TimerPhase.WAITING, "running": TimerPhase.TRIGGERED, "elapsed": TimerPhase.ELAPSED}


class _View:
    """What signals have told of one timer, and who waits for it to get somewhere."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.changed = asyncio.Event()

    def update(self, changed: Mapping[str, Any]) -> None:
        self.values |= changed
        self.changed.set()


class SystemdTimers:
    """The timer manager (ports.TimerManager). ``ready`` waits while systemd cannot take new units."""

    def __init__(self, bus: SystemBus, ready: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._ready = ready
        self._views: dict[TimerId, _View] = {}
        self._listener: Callable[[TimerStatus], None] = _ignore

    def listen_timers(self, listener: Callable[[TimerStatus], None]) -> None:
        """See ports.TimerManager."""
        self._listener = listener

    async def start_timer(self, timer: TimerId, calendar: str, title: str) -> datetime | None:
        """See ports.TimerManager."""
        await self._ready()
        view = self._views[timer] = _View()
        try:
            await self._bus.manager(
                "StartTransientUnit",
                "ssa(sv)a(sa(sv))",
                [timer_unit_name(timer), "fail", _properties(calendar, title), []],
            )
            await self._until(timer, view, lambda: _phase(view.values) is not None)
        except ArgumentsRefused as error:
            self._views.pop(timer, None)
            raise InvalidRequest(
                f"systemd cannot read {calendar!r}: {error.words}", reason="BAD_SCHEDULE"
            ) from error
        except JobletError:
            self._views.pop(timer, None)
            raise
        status = _status(timer, view.values)
        if status.phase is TimerPhase.GONE:
            raise LaunchFailed(
                f"systemd refused the timer {timer_unit_name(timer)}",
                reason="SYSTEMD_REFUSED",
                hint=f"see: systemctl status {timer_unit_name(timer)}, and its .service",
            )
        return status.next_at

    async def stop_timer(self, timer: TimerId) -> None:
        """See ports.TimerManager."""
        view = self._views.setdefault(timer, _View())
        name = timer_unit_name(timer)
        try:
            await self._bus.manager("StopUnit", "ss", [name, "replace"])
            await self._bus.manager("ResetFailedUnit", "s", [name])
            await self._until(timer, view, lambda: timer not in self._views)
        except NotFound:
            self._views.pop(timer, None)

    async def present_timers(self) -> Sequence[TimerStatus]:
        """See ports.TimerManager."""
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], TIMER_UNIT_PATTERNS])
        found = [timer for unit in units if unit[2] == "loaded" and (timer := timer_of_unit(unit[0]))]
        return await asyncio.gather(*(self._read(timer) for timer in found))

    async def _read(self, timer: TimerId) -> TimerStatus:
        view = self._views.setdefault(timer, _View())
        path = timer_path(timer)
        sub_state, next_usec = await asyncio.gather(
            self._bus.property(path, "Unit", "SubState"),
            self._bus.property(path, "Timer", "NextElapseUSecRealtime"),
        )
        view.update({"SubState": sub_state, "NextElapseUSecRealtime": next_usec})
        return _status(timer, view.values)

    def on_changed(self, timer: TimerId, changed: Mapping[str, Any]) -> None:
        """Take in changed properties of a timer's unit."""
        view = self._views.get(timer)
        if view is not None:
            view.update(changed)
            if _phase(view.values) is not None:
                self._listener(_status(timer, view.values))

    def on_removed(self, timer: TimerId) -> None:
        """Take in that systemd has unloaded a timer's unit."""
        view = self._views.pop(timer, None)
        if view is not None:
            view.changed.set()
            self._listener(TimerStatus(timer, TimerPhase.GONE))

    async def _until(self, timer: TimerId, view: _View, fits: Callable[[], bool]) -> None:
        try:
            async with asyncio.timeout(_DEADLINE):
                while not fits() and self._views.get(timer) is view:
                    view.changed.clear()
                    await view.changed.wait()
        except TimeoutError as error:
            raise HostUnavailable(
                f"cannot change the timer {timer_unit_name(timer)}: no answer within {_DEADLINE:.0f} s",
                reason="SYSTEMD_UNAVAILABLE",
            ) from error


def _properties(calendar: str, title: str) -> list[list[Any]]:
    return [
        ["Description", Variant("s", line_text(title))],
        ["TimersCalendar", Variant("a(ss)", [["OnCalendar", calendar]])],
        # The default of a minute is meant to save power.
        ["AccuracyUSec", Variant("t", 1)],
    ]


def _phase(values: Mapping[str, Any]) -> TimerPhase | None:
    """Say where the timer is; None while that is not known yet."""
    sub_state = values.get("SubState", "")
    if sub_state == "failed":
        return TimerPhase.GONE
    if sub_state == "waiting":
        next_usec = values.get("NextElapseUSecRealtime")
        if next_usec is None:
            return None
        # It triggers: the signal of the one interface comes before that of the other.
        return TimerPhase.TRIGGERED if next_usec in _NO_TIME else TimerPhase.WAITING
    return _PHASES.get(sub_state)


def _status(timer: TimerId, values: Mapping[str, Any]) -> TimerStatus:
    phase = _phase(values) or TimerPhase.GONE
    if phase is not TimerPhase.WAITING:
        return TimerStatus(timer, phase)
    return TimerStatus(timer, phase, _EPOCH + timedelta(microseconds=values["NextElapseUSecRealtime"]))


def _ignore(_status: TimerStatus) -> None:
    """Nobody listens yet."""
