"""Stores of runtimes on the test's own disk, and what is in them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from joblet_agent.errors import JobletError
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes import adding, layout
from joblet_agent.runtimes.store import RuntimeStore
from tests.fakes.clock import FakeClock

Content = str | bytes | None
"""Of a file; of a link, with ``->`` in front of its target; None for a directory."""

SMALL: dict[str, Content] = {
    "usr/bin/tool": "tool",
    "usr/bin/same": "tool",
    "usr/lib/lib.so.1": "library",
    "usr/lib/lib.so": "->lib.so.1",
    "etc/passwd": "root:x:0:0::/:/bin/sh\n",
}


@pytest.fixture(autouse=True)
def _own_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests is who trees belong to."""
    monkeypatch.setattr(layout, "OWNER", (os.getuid(), os.getgid()))


@pytest.fixture(autouse=True)
def _hasty_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: no test takes its power away."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(adding, "sync_file_system", lambda _directory: None)


def plant(top: Path, files: dict[str, Content]) -> Path:
    """Make a tree."""
    top.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        elif isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content.removeprefix("->"))
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return top


class Store(RuntimeStore):
    """One life of the store."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, FakeClock())
        self.root = root
        self.used: set[str] = set()
        self.users = self._used

    async def _used(self) -> set[str]:
        return self.used

    async def plant(self, files: dict[str, Content]) -> Path:
        return plant(await self.staging("test"), files)

    async def put(
        self, files: dict[str, Content], name: str = "tool", version: str = "1.0.0", *, replace: bool = False
    ) -> Runtime:
        """Add a tree with these files."""
        return await self.add(await self.plant(files), facts(name, version), replace=replace)

    def objects(self) -> dict[str, int]:
        """Names of objects, with the number of links to each."""
        found = layout.Layout(self.root).objects.glob("*/*")
        return {path.name: path.stat().st_nlink for path in found}

    def contents(self) -> dict[str, list[str]]:
        """What is in each directory of the store."""
        directories = layout.Layout(self.root).directories[1:]
        return {one.name: sorted(path.name for path in one.iterdir()) for one in directories} | {
            "objects": sorted(self.objects())
        }


def facts(name: str = "tool", version: str = "1.0.0") -> RuntimeFacts:
    return RuntimeFacts(name, version)


def with_store(root: Path, case: Callable[[Store], Awaitable[None]]) -> None:
    """Run the case in one life of the store, and see that nothing is left running or in staging."""

    async def main() -> None:
        store = Store(root)
        await store.open()
        try:
            async with asyncio.timeout(20):
                await case(store)
        finally:
            await store.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


async def refused(work: Awaitable[object], kind: type[JobletError], reason: str) -> str:
    with pytest.raises(kind) as caught:
        await work
    assert caught.value.reason == reason
    return str(caught.value)
