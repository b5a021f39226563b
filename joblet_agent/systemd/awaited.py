"""Units that somebody waits for, one at a time: start, wait until something holds of it, let it go."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from dbus_next.signature import Variant

from joblet_agent.errors import HostUnavailable, NotFound
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.names import any_unit_path
from joblet_agent.systemd.property import Property

_LONGER: Final = 15.0
"""Seconds that are waited beyond systemd's own deadline."""


class View:
    """What signals have told of one unit."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.seen: set[str] = set()
        """States that it has been in."""
        self.is_gone = False
        self.is_stale = False
        self.changed = asyncio.Event()

    def look(self) -> None:
        """Let whoever waits ask systemd."""
        self.is_stale = True
        self.changed.set()

    def update(self, changed: Mapping[str, Any]) -> None:
        """Take in changed properties."""
        self.values |= changed
        self.seen.add(changed.get("ActiveState", ""))


class AwaitedUnits:
    """Those that wait, and what signals tell them."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus
        self._views: dict[str, list[View]] = {}
        """By the unit's object path: of each that waits for it."""

    def on_changed(self, path: str, changed: Mapping[str, Any]) -> None:
        """Take in changed properties of a unit that somebody waits for."""
        for view in self._views.get(path, ()):
            view.update(changed)
            view.changed.set()

    def on_removed(self, name: str) -> None:
        """Take in that systemd has unloaded a unit."""
        for view in self._views.get(any_unit_path(name), ()) if self._views else ():
            view.is_gone = True
            view.changed.set()

    def look_again(self) -> None:
        """Ask for the units that somebody waits for: their changes may have been missed."""
        for views in self._views.values():
            for view in views:
                view.look()

    async def _dismiss(self, name: str) -> None:
        for member, body in (("StopUnit", [name, "replace"]), ("ResetFailedUnit", [name])):
            with suppress(NotFound):
                await self._bus.manager(member, "ss" if len(body) > 1 else "s", body)

    async def _start(self, name: str, properties: Sequence[Property]) -> None:
        values = [[entry.name, Variant(entry.signature, entry.value)] for entry in properties]
        await self._bus.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "fail", values, []])

    @contextmanager
    def _watching(self, name: str) -> Iterator[View]:
        path = any_unit_path(name)
        view = View()
        self._views.setdefault(path, []).append(view)
        self._bus.awaited.add(path)
        try:
            yield view
        finally:
            self._views[path].remove(view)
            if not self._views[path]:
                del self._views[path]
                self._bus.awaited.discard(path)

    async def _until(self, name: str, view: View, fits: Callable[[View], bool], deadline_usec: int) -> None:
        deadline = deadline_usec / 1e6 + _LONGER
        try:
            async with asyncio.timeout(deadline):
                while not fits(view):
                    await view.changed.wait()
                    view.changed.clear()
                    if view.is_stale:
                        view.is_stale = False
                        view.update(await self._bus.properties(any_unit_path(name), "Unit"))
        except TimeoutError as error:
            raise HostUnavailable(
                f"unit {name} has not come to an end within {deadline:.0f} s", reason="SYSTEMD_UNAVAILABLE"
            ) from error


def has_started(view: View) -> bool:
    """Say whether the start has come to an end. A unit that has not begun is inactive, too."""
    state = view.values.get("ActiveState")
    return (
        view.is_gone or state in {"active", "failed"} or (state == "inactive" and "activating" in view.seen)
    )


def has_stopped(view: View) -> bool:
    """Say whether a stop has come to an end."""
    state = view.values.get("ActiveState")
    return (
        view.is_gone or state in {"inactive", "failed"} or (state == "active" and "deactivating" in view.seen)
    )
