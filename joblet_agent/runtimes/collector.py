"""Collects what no runtime needs any more, once in a while.

No timer of systemd's: nothing is due at an hour, and there is nothing for administrators to follow. When the
last collection was is the time of a file, so that an agent which is often started does not collect each time.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import JobletError
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.pauses import wait_until
from joblet_agent.ports import Clock
from joblet_agent.runtimes.gc import Freed
from joblet_agent.units import readable_bytes

__all__ = ["RuntimeCollector"]

_AGAIN = timedelta(hours=1)
"""Until the next try, when one has failed."""

_log = logging.getLogger(__name__)


class RuntimeCollector:
    """Lets the store collect whenever ``runtimes.collect_every`` has passed."""

    def __init__(
        self,
        collect: Callable[[], Awaitable[Freed]],
        config: RuntimesConfig,
        clock: Clock,
        stamp: Path,
    ) -> None:
        """``stamp`` is the file whose time is that of the last collection."""
        self._collect = collect
        self._config = config
        self._clock = clock
        self._stamp = stamp
        self._not_before: datetime | None = None
        self._wanted = asyncio.Event()
        self._tasks = Tasks()

    def begin(self) -> None:
        """Go on in the background, until ``close``."""
        self._tasks.start(self._run(), "collect-runtimes")

    async def close(self) -> None:
        """Begin no collection any more."""
        await self._tasks.close()

    def reconsider(self) -> None:
        """Go by another interval at once."""
        self._wanted.set()

    async def _run(self) -> None:
        while True:
            await wait_until(self._wanted, await self.look())

    async def look(self) -> float | None:
        """Collect if that is due; return how many seconds it is until the next time, None for ever."""
        due = await asyncio.to_thread(self._due)
        if due is not None and due <= self._clock.now():
            await self._try()
            due = await asyncio.to_thread(self._due)
        return None if due is None else (due - self._clock.now()).total_seconds()

    def _due(self) -> datetime | None:
        every, now = self._config.collect_every, self._clock.now()
        if not every:
            return None
        try:
            last = datetime.fromtimestamp(os.stat(self._stamp).st_mtime, UTC)
        except OSError:
            last = now - every
        if last > now:  # the clock was wrong, or is
            last = now - every
        return max(last + every, self._not_before or last)

    async def _try(self) -> None:
        now = self._clock.now()
        try:
            freed = await self._collect()
            await asyncio.to_thread(self._note, now)
        except (JobletError, OSError) as error:  # OSError: the disk does not take the note
            _log.warning("cannot collect runtimes that nobody needs, trying again in an hour: %s", error)
            self._not_before = now + _AGAIN
            return
        self._not_before = None
        if freed.trees or freed.objects:
            _log.info(
                "collected runtimes that nobody needs: %d trees, %d files, %s",
                freed.trees,
                freed.objects,
                readable_bytes(freed.bytes),
            )

    def _note(self, now: datetime) -> None:
        self._stamp.touch(mode=0o600)
        os.utime(self._stamp, (now.timestamp(), now.timestamp()))
