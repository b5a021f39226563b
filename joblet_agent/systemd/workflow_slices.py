"""Slices of workflows (ports.WorkflowSlices): transient, below the slice of all jobs.

systemd makes a slice for the first job that names it, and keeps it after the last one: a slice that nobody
stops stays until the next boot. ``make`` comes before, for the title; ``remove`` takes away both kinds.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from dbus_next.signature import Variant

from joblet_agent.errors import HostUnavailable, LaunchFailed, NotFound
from joblet_agent.model.ids import WorkflowId
from joblet_agent.systemd.bus import SystemBus, UnitIsThere
from joblet_agent.systemd.names import WORKFLOW_SLICE_PATTERN, workflow_of_slice, workflow_slice
from joblet_agent.systemd.property import line_text

_DEADLINE: Final = 15.0
_MOST_TITLE: Final = 200
"""Characters; a name has no such bound."""

_log = logging.getLogger(__name__)


class _Change:
    """The work on one slice; who comes next waits for its end."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0
        self.look = asyncio.Event()
        """The slice may be gone."""


class SystemdWorkflowSlices:
    """The port on systemd's D-Bus interface. ``ready`` waits while systemd cannot take new units."""

    def __init__(self, bus: SystemBus, ready: Callable[[], Awaitable[None]]) -> None:
        self._bus = bus
        self._ready = ready
        self._changes: dict[WorkflowId, _Change] = {}

    def slice_name(self, workflow_id: WorkflowId) -> str:
        """See ports.WorkflowSlices."""
        return workflow_slice(workflow_id)

    async def make(self, workflow_id: WorkflowId, title: str) -> None:
        """See ports.WorkflowSlices."""
        await self._ready()
        name = workflow_slice(workflow_id)
        properties: list[Any] = [["Description", Variant("s", description(title))]]
        async with self._changing(workflow_id):
            try:
                await self._bus.manager(
                    "StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "fail", properties, []]
                )
            except UnitIsThere:  # a job has made it, or somebody has stopped it and it is not unloaded yet
                await self._bus.manager("StartUnit", "ss", [name, "replace"])

    async def remove(self, workflow_id: WorkflowId) -> None:
        """See ports.WorkflowSlices."""
        await self._ready()
        name = workflow_slice(workflow_id)
        async with self._changing(workflow_id) as change:
            if not await self._thaw(name):
                return
            change.look.clear()
            await self._bus.manager("StopUnit", "ss", [name, "replace"])
            try:
                async with asyncio.timeout(_DEADLINE):
                    while not await self._is_unloaded(name):
                        await change.look.wait()
                        change.look.clear()
            except TimeoutError as error:
                raise HostUnavailable(
                    f"cannot remove the slice {name}: it is still there after {_DEADLINE:.0f} s",
                    reason="SYSTEMD_UNAVAILABLE",
                    hint=f"units that are in it keep it; see: systemctl status {name}",
                ) from error

    async def present(self) -> Sequence[WorkflowId]:
        """See ports.WorkflowSlices."""
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [WORKFLOW_SLICE_PATTERN]])
        return [workflow for unit in units if (workflow := workflow_of_slice(unit[0])) is not None]

    def on_removed(self, workflow_id: WorkflowId) -> None:
        """Take in that systemd has unloaded a slice; it may be a reload, which loads it again."""
        if (change := self._changes.get(workflow_id)) is not None:
            change.look.set()

    def look_again(self) -> None:
        """Ask for the slices that somebody waits for: their ends may have been missed."""
        for change in self._changes.values():
            change.look.set()

    async def _thaw(self, name: str) -> bool:
        """Let go on what somebody has frozen, which systemd 257 would not stop; say whether it is there."""
        try:
            await self._bus.manager("ThawUnit", "s", [name])
        except NotFound:
            return False
        except LaunchFailed as error:  # it is not active, say
            _log.debug("%s", error)
        return True

    async def _is_unloaded(self, name: str) -> bool:
        try:
            await self._bus.manager("GetUnit", "s", [name])
        except NotFound:
            return True
        return False

    @asynccontextmanager
    async def _changing(self, workflow_id: WorkflowId) -> AsyncIterator[_Change]:
        """Let nobody else make or remove the slice: a start cancels a stop that has not come to its end."""
        change = self._changes.setdefault(workflow_id, _Change())
        change.users += 1
        try:
            async with change.lock:
                yield change
        finally:
            change.users -= 1
            if not change.users:
                del self._changes[workflow_id]


def description(title: str) -> str:
    """Return what ``systemctl`` shows for the slice."""
    return line_text(f"Joblet workflow {title[:_MOST_TITLE]}")
