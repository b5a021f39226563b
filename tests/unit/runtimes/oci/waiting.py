"""Waits for what threads do to files."""

import asyncio
from collections.abc import Callable


async def until(is_so: Callable[[], object]) -> None:
    """Return when it is so; the test's own time limit ends it otherwise."""
    while not is_so():  # noqa: ASYNC110 - files tell nobody
        await asyncio.sleep(0)
