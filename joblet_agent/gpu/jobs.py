"""The GPUs of jobs (ports.JobGpus): each has its own; who has which, the records say."""

import asyncio
import logging
from collections.abc import Callable, Collection

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.gpu.host import NoDriver, find_driver
from joblet_agent.model.gpu import GpuDriver, HeldGpus

_log = logging.getLogger(__name__)


class JobGpus:
    """What jobs need of GPUs. A driver may come and go while the agent runs, so it is looked for again."""

    def __init__(self, find: Callable[[], GpuDriver] | None = None) -> None:
        self._find = find or find_driver
        self._driver: GpuDriver | None = None
        self._why_not = "nobody has looked for a driver yet"

    async def refresh(self) -> None:
        """See ports.JobGpus."""
        try:
            self._driver = await asyncio.to_thread(self._find)
        except NoDriver as error:
            self._driver, self._why_not = None, str(error)
            _log.debug("no GPUs for jobs: %s", error)

    def check(self, count: int, *, needed_by: str = "") -> None:
        """See ports.JobGpus."""
        if count < 0:
            raise InvalidRequest(
                f"cannot run job: {count} is no number of GPUs",
                reason="INVALID_GPU_COUNT",
                hint="the least is 0, for none",
            )
        if needed_by and not count:
            raise InvalidRequest(
                f"cannot run job: runtime {needed_by} needs a GPU",
                reason="GPU_NEEDED",
                hint="ask for one: --gpu=1",
            )
        if count:
            self._enough(count)

    def take(self, count: int, busy: Collection[int]) -> HeldGpus | None:
        """See ports.JobGpus."""
        if not count:
            return None
        driver = self._enough(count)
        free = [(index, nodes) for index, nodes in driver.gpus if index not in busy][:count]
        if len(free) < count:
            raise LimitReached(
                f"cannot run job: it asks for {_words(count)}, and of {len(driver.gpus)} on this host "
                f"{len(free)} {'is' if len(free) == 1 else 'are'} free",
                reason="GPUS_BUSY",
                hint="try again when a job that has one ends",
            )
        own = [node for _index, nodes in free for node in nodes]
        return HeldGpus(
            indices=tuple(index for index, _nodes in free),
            nodes=tuple(dict.fromkeys([*driver.shared, *own])),
            libraries=driver.libraries,
        )

    def _enough(self, count: int) -> GpuDriver:
        driver = self._driver
        if driver is None:
            raise InvalidRequest(
                f"cannot run job: this host has no GPU for jobs: {self._why_not}",
                reason="NO_GPU_DRIVER",
                hint="install NVIDIA's driver; nvidia-ctk cdi generate writes a file of what it has",
            )
        if count > len(driver.gpus):
            raise InvalidRequest(
                f"cannot run job: it asks for {_words(count)}, and this host has {len(driver.gpus)}",
                reason="TOO_FEW_GPUS",
                hint="ask for fewer, or another host",
            )
        return driver


def _words(count: int) -> str:
    return "a GPU" if count == 1 else f"{count} GPUs"
