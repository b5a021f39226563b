"""Background work of one owner."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from joblet_agent.errors import JobletError

T = TypeVar("T")

_log = logging.getLogger(__name__)


class Tasks:
    """Tasks that end with their owner.

    What one raises is for whoever awaits it; what is no error of ours is a bug, and a line in the log.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run the work in a task; whoever started it may go away."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    async def close(self) -> None:
        """Cancel all, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reap(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not isinstance(error, JobletError):
            _log.error("%s failed", task.get_name(), exc_info=error)
