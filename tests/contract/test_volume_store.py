"""What every VolumeStore does: the one in memory that other tests use, and the one on disk."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from joblet_agent.model.volume import Backing, Volume, VolumeSnapshot, VolumeState, VolumeType
from joblet_agent.ports import VolumeStore
from joblet_agent.store import SqliteJobStore
from tests.fakes.volume_store import MemoryVolumeStore

START = datetime(2026, 3, 1, 20, 0, 0, 123456, tzinfo=UTC)
SMALL = Volume("b", VolumeType.MEMORY, Backing.TMPFS, 2**20, "1MB", 70000, START)
FULL = Volume(
    name="a-B_9",
    type=VolumeType.FILESYSTEM,
    backing=Backing.QUOTA,
    size=2**50,
    size_text="1024TB",
    number=2**32 - 3,
    created_at=START,
    state=VolumeState.REMOVING,
    project=2**32 - 2,
    warning='it was "torn"\nä',
    snapshots=(VolumeSnapshot("one", START), VolumeSnapshot("two", START)),
)

Body = Callable[[VolumeStore], Awaitable[None]]


@pytest.fixture(params=["memory", "sqlite"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Body], None]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[VolumeStore]:
        if request.param == "memory":
            yield MemoryVolumeStore()
            return
        store = await SqliteJobStore.open(tmp_path / "state.db")
        try:
            yield store.volumes
        finally:
            await store.close()

    def run(body: Body) -> None:
        async def main() -> None:
            async with opened() as store:
                await body(store)

        asyncio.run(main())

    return run


def test_volumes_are_kept_by_name(run: Callable[[Body], None]) -> None:
    async def body(store: VolumeStore) -> None:
        await store.save(SMALL)
        await store.save(FULL)
        assert list(await store.all()) == [FULL, SMALL]
        changed = replace(SMALL, state=VolumeState.READY, size=2**21)
        await store.save(changed)
        await store.delete(FULL.name)
        await store.delete("nobody")
        assert list(await store.all()) == [changed]

    run(body)


def test_r4_a_broken_row_is_told_and_left_where_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "state.db"

    async def main() -> None:
        store = await SqliteJobStore.open(path)
        await store.volumes.save(SMALL)
        await store.volumes.save(FULL)
        await store.close()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("UPDATE volumes SET record = ? WHERE name = ?", (b"{}", FULL.name))
        store = await SqliteJobStore.open(path)
        assert list(await store.volumes.all()) == [SMALL]
        await store.close()

    asyncio.run(main())
    assert "the record of volume 'a-B_9' is broken" in caplog.text
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM volumes").fetchone() == (2,)
