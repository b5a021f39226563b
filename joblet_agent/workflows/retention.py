"""Which ended workflows stay: ``retention.keep_workflows`` of them at most, for ``retention.keep_for``.

One task lets them go, one after the other. It sleeps until a workflow ends or the next one is due. Jobs go by
limits of their own (jobs/retention.py): those of a workflow may be gone before it.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from joblet_agent.config import RetentionConfig
from joblet_agent.errors import JobletError
from joblet_agent.model.workflow import WorkflowId
from joblet_agent.pauses import wait_until
from joblet_agent.ports import Clock, WorkflowStore

_RETRY = timedelta(minutes=5)

_log = logging.getLogger(__name__)


class WorkflowRetention:
    """Deletes ended workflows beyond the limits."""

    def __init__(
        self,
        *,
        config: RetentionConfig,
        store: WorkflowStore,
        clock: Clock,
        delete: Callable[[WorkflowId], Awaitable[object]],
    ) -> None:
        """``delete`` forgets a workflow with all that belongs to it, and refuses one that has not ended."""
        self._config = config
        self._store = store
        self._clock = clock
        self._delete = delete
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin with those of earlier agents. Call once."""
        self._task = asyncio.create_task(self._run(), name="workflow-retention")

    async def close(self) -> None:
        """Stop. What was not deleted yet is deleted by the next agent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def reconsider(self) -> None:
        """Look at once: a workflow has ended, or the limits are others."""
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            try:
                due = await self._enforce()
            except JobletError as error:
                _log.error("retention of workflows: %s; trying again", error)
                due = self._clock.now() + _RETRY
            left = None if due is None else (due - self._clock.now()).total_seconds()
            await wait_until(self._wanted, left)

    async def _enforce(self) -> datetime | None:
        """Delete what is beyond the limits; return when to look again, at the latest."""
        before = self._clock.now() - self._config.keep_for
        beyond = await self._store.ended_beyond(keep=self._config.keep_workflows, before=before)
        stay = [workflow_id for workflow_id in beyond if not await self._is_deleted(workflow_id)]
        if len(stay) < len(beyond):
            _log.info("retention: forgot %d ended workflows", len(beyond) - len(stay))
        if stay:
            return self._clock.now() + _RETRY
        oldest = await self._store.oldest_end()
        return None if oldest is None else oldest + self._config.keep_for

    async def _is_deleted(self, workflow_id: WorkflowId) -> bool:
        try:
            await self._delete(workflow_id)
        except JobletError as error:  # the others go nevertheless
            _log.warning("retention: workflow %s stays for now: %s", workflow_id, error)
            return False
        return True
