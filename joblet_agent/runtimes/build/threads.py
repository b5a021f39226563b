"""Blocking work of builds, which must have ended before what it works on is removed."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from joblet_agent.durable import is_full
from joblet_agent.errors import HostUnavailable, JobletError
from joblet_agent.runtimes import working
from joblet_agent.runtimes.working import Wanted

__all__ = ["disk_refused", "in_thread", "to_its_end"]

T = TypeVar("T")


async def in_thread(runtime: str, work: Callable[[Wanted], T]) -> T:
    """Do blocking work (working.py); let the disk's refusal be ours."""
    try:
        return await working.in_thread(work)
    except OSError as error:
        raise disk_refused(runtime, error) from error


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Do what cannot be left half done: who is canceled here gets its result, and was canceled too late."""
    task = asyncio.create_task(work)
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            if (current := asyncio.current_task()) is not None:
                current.uncancel()


def disk_refused(runtime: str, error: OSError) -> JobletError:
    """Return what a refusal of the disk means for the build."""
    no_room = is_full(error)
    why = "there is no room left for its files" if no_room else error.strerror or str(error)
    what = f": {error.filename}" if error.filename else ""
    return HostUnavailable(
        f"cannot build runtime {runtime}: {why}{what}",
        reason="RUNTIME_BUILD_DISK_FULL" if no_room else "RUNTIME_BUILD_DISK",
        hint="make room on the disk with the agent's state_dir, or give the build more: limits.disk"
        if no_room
        else None,
    )
