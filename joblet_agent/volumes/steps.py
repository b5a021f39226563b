"""What every step on the files of a volume needs: their paths, threads, and the words of a refusal."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from joblet_agent.durable import is_full
from joblet_agent.errors import HostUnavailable, LaunchFailed, WrongState
from joblet_agent.jobs.paths import AgentPaths, VolumePaths
from joblet_agent.model.volume import Volume

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LONG_AT_ONCE = 2

T = TypeVar("T")


class Steps:
    """Steps on the files of volumes; each can be done again."""

    def __init__(self, paths: AgentPaths) -> None:
        self._paths = paths
        self._is_closed = False
        self.long = asyncio.Semaphore(_LONG_AT_ONCE)
        """For threads that copy for a long time: they must not be all there are."""

    def close(self) -> None:
        """Let long copies end."""
        self._is_closed = True

    def is_closed(self) -> bool:
        """Say whether long copies are to end."""
        return self._is_closed

    def paths(self, volume: Volume) -> VolumePaths:
        """Return the paths of the volume, with its image's name."""
        mark = (volume.created_at - _EPOCH) // timedelta(microseconds=1)
        return VolumePaths(self._paths.volume(volume.name).home, f"-{mark:x}")

    async def act(self, act: str, volume: Volume, work: Callable[[], T]) -> T:
        """Do blocking work; let the disk's refusal be ours."""
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            no_room = is_full(error)
            raise HostUnavailable(
                f"cannot {act} volume {volume.name}: {error.strerror}",
                reason="DISK_FULL" if no_room else "CANNOT_PREPARE_VOLUME",
                hint=f"make room on the disk of {self._paths.volumes}, or choose another size"
                if no_room
                else None,
            ) from error

    async def tool(self, act: str, volume: Volume, work: Coroutine[Any, Any, None]) -> None:
        """Let systemd do something; let its refusal be ours."""
        try:
            await work
        except LaunchFailed as error:
            raise HostUnavailable(
                f"cannot {act} volume {volume.name}: {error}", reason=error.reason, hint=error.hint
            ) from error


def gone(volume: Volume, path: Path) -> WrongState:
    """Return the refusal of a volume whose files are lost."""
    return WrongState(
        f"cannot use volume {volume.name}: {path} is not there any more, and what was in it is lost",
        reason="VOLUME_GONE",
        hint=f"put it back from a copy, or make the volume anew: rnx volume remove {volume.name}",
    )
