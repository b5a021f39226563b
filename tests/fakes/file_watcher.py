"""A file watcher whose events the test sends."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from joblet_agent.errors import HostUnavailable


class FakeFileWatcher:
    """ports.FileWatcher without a kernel: ``changed`` stands for the write."""

    def __init__(self) -> None:
        self.armed: list[FakeFileWatch] = []
        self._is_closed = False
        self._someone_waits = asyncio.Event()

    def watch(self, path: Path, wake: Callable[[], None]) -> "FakeFileWatch":
        return FakeFileWatch(self, path, wake)

    def changed(self, path: Path) -> None:
        for watch in [watch for watch in self.armed if watch.path == path]:
            watch.fire()

    async def until_armed(self) -> None:
        """Return when somebody waits for a change."""
        await self._someone_waits.wait()

    def close(self) -> None:
        self._is_closed = True
        for watch in list(self.armed):
            watch.fire()

    def arm(self, watch: "FakeFileWatch") -> None:
        if self._is_closed:
            raise HostUnavailable("cannot watch: the agent is stopping", reason="AGENT_STOPPING")
        if watch not in self.armed:
            self.armed.append(watch)
            self._someone_waits.set()

    def disarm(self, watch: "FakeFileWatch") -> None:
        if watch in self.armed:
            self.armed.remove(watch)
        if not self.armed:
            self._someone_waits.clear()


class FakeFileWatch:
    def __init__(self, watcher: FakeFileWatcher, path: Path, wake: Callable[[], None]) -> None:
        self.path = path
        self._watcher = watcher
        self._wake = wake

    def arm(self) -> None:
        self._watcher.arm(self)

    def close(self) -> None:
        self._watcher.disarm(self)

    def fire(self) -> None:
        self.close()
        self._wake()
