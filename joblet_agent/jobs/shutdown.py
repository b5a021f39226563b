"""The last thing an agent does on a host that goes down: see off the jobs that systemd stops with it."""

import asyncio
import logging
from datetime import timedelta

from joblet_agent.errors import JobletError
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.waiting import WaitingJobs
from joblet_agent.ports import UnitManager

_log = logging.getLogger(__name__)


class HostShutdown:
    """Records the ends that nobody could tell after the boot: units and their results are gone by then."""

    def __init__(self, registry: JobRegistry, units: UnitManager, waiting: WaitingJobs) -> None:
        self._registry = registry
        self._units = units
        self._waiting = waiting

    async def see_off(self, limit: timedelta) -> None:
        """Wait until every job has ended and is recorded, if the host goes down; otherwise return at once.

        From then on no job is launched: systemd refuses new units, and a job that waits is to wait on. Jobs
        that take longer than ``limit`` are found by the next recovery, as ``host-rebooted``.
        """
        if not await self._is_going_down():
            return
        await self._waiting.close()
        jobs = list(self._registry)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                for job in jobs:
                    await job.forgotten.wait()
        except TimeoutError:
            left = sum(not job.forgotten.is_set() for job in jobs)
            _log.warning("the host goes down, and %d of %d jobs have not ended yet", left, len(jobs))

    async def _is_going_down(self) -> bool:
        try:
            return await self._units.host_is_stopping()
        except JobletError as error:
            _log.debug("cannot ask systemd whether the host goes down: %s", error)
            return False
