"""Slices of workflows in memory. tests/contract holds it to the real one.

It outlives the agent, as systemd does. Its unit manager makes a slice for a job that names it, too.
"""

import asyncio
from collections.abc import Callable, Sequence

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.ids import WorkflowId


class FakeWorkflowSlices:
    """ports.WorkflowSlices. ``failure`` is raised by every call; ``end`` stops what is in a slice."""

    def __init__(self, end: Callable[[WorkflowId], None]) -> None:
        self.titles: dict[WorkflowId, str] = {}
        """Of each slice that is there; empty for one that was made for a job."""
        self.failure: HostUnavailable | None = None
        self._end = end

    async def make(self, workflow_id: WorkflowId, title: str) -> None:
        await self._called()
        self.titles.setdefault(workflow_id, title)

    async def remove(self, workflow_id: WorkflowId) -> None:
        await self._called()
        if self.titles.pop(workflow_id, None) is not None:
            self._end(workflow_id)

    async def present(self) -> Sequence[WorkflowId]:
        await self._called()
        return list(self.titles)

    def slice_name(self, workflow_id: WorkflowId) -> str:
        return f"joblet-jobs-{workflow_id.replace('-', '')}.slice"

    async def _called(self) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
