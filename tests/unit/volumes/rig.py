"""Lives of the agent on a host with volumes."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from joblet_agent.config import VolumesConfig
from joblet_agent.errors import HostUnavailable, JobletError
from joblet_agent.jobs.paths import VolumePaths
from joblet_agent.model.job import JobSpec
from joblet_agent.store.fields import usec_of
from joblet_agent.volumes.check import parse_mounts
from tests.unit.jobs.rig import Core, Host

MIB = 1024**2
FIRST = VolumesConfig().uid_first

Case = Callable[[Core], Awaitable[None]]


def run(host: Host, case: Case, *, config: VolumesConfig | None = None) -> None:
    """One life of the agent on the host."""

    async def main() -> None:
        core = Core(host, volumes=config)
        await core.open()
        try:
            async with asyncio.timeout(20):
                await case(core)
        finally:
            await core.close()

    asyncio.run(main())


async def settled(core: Core) -> None:
    """Wait until nothing is recovered any more."""
    await asyncio.gather(*core.volumes._catalog._tasks._tasks)


async def refused(work: Awaitable[object], kind: type[JobletError], reason: str) -> str:
    with pytest.raises(kind) as caught:
        await work
    assert caught.value.reason == reason
    assert caught.value.hint or kind is HostUnavailable
    return str(caught.value)


def spec(*volumes: str, command: str = "sleep") -> JobSpec:
    return JobSpec(command, network="none", volumes=parse_mounts(volumes))


def own(host: Host, name: str) -> VolumePaths:
    """The paths of the volume, with its image's name."""
    return VolumePaths(host.paths.volume(name).home, f"-{usec_of(host.volumes.volumes[name].created_at):x}")


def homes(host: Host) -> list[str]:
    return sorted(path.name for path in host.paths.volumes.iterdir())
