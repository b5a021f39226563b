"""The store of runtimes on a disk that ends: how many links a file may have, and how much room there is."""

import asyncio
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.store import RuntimeStore
from tests.fakes.clock import FakeClock

pytestmark = pytest.mark.systemd

EXT4_MOST = 65_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB: ext4, as on most hosts, whatever the machine itself is on."""
    image, mount = tmp_path / "image", tmp_path / "mount"
    mount.mkdir()
    subprocess.run(["truncate", "--size=24M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-N", "6000", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, mount], check=True)
    yield mount / "runtimes"
    subprocess.run(["umount", mount], check=True)


def with_store(root: Path, case: Callable[[RuntimeStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = RuntimeStore(root, FakeClock())
        await store.open()
        try:
            await case(store)
        finally:
            await store.close()

    asyncio.run(main())


async def planted(store: RuntimeStore, **files: bytes) -> Path:
    tree = await store.staging("test")
    for name, content in files.items():
        (tree / name).write_bytes(content)
    return tree


def link_often(file: Path, directory: Path) -> None:
    for number in range(EXT4_MOST):
        os.link(file, directory / str(number))


def files_of(top: Path) -> list[Path]:
    return sorted(path for path in top.rglob("*") if path.is_file())


def test_a_file_that_has_all_its_links_gets_a_second_copy(disk: Path) -> None:
    async def case(store: RuntimeStore) -> None:
        one = await store.add(await planted(store, file=b"same"), RuntimeFacts("one", "1.0.0"))
        file = store.tree(one.digest) / "file"
        others = disk.parent / "others"
        others.mkdir()
        with pytest.raises(OSError, match="Too many links"):
            link_often(file, others)
        two = await store.add(await planted(store, file=b"same", more=b"x"), RuntimeFacts("two", "1.0.0"))
        second = store.tree(two.digest) / "file"
        assert second.read_bytes() == b"same"
        assert second.stat().st_ino != file.stat().st_ino
        assert await store.verify(one) == await store.verify(two) == ()
        three = await store.add(
            await planted(store, file=b"same", other=b"x"), RuntimeFacts("three", "1.0.0")
        )
        assert (store.tree(three.digest) / "file").stat().st_ino == second.stat().st_ino

    with_store(disk, case)


def test_a_full_disk_is_named_and_nothing_is_left(disk: Path) -> None:
    """The tree comes from another disk, and is larger than what is left here."""

    async def case(store: RuntimeStore) -> None:
        one = await store.add(await planted(store, file=b"x" * 1000), RuntimeFacts("one", "1.0.0"))
        before = files_of(disk)
        tree = disk.parent.parent / "tree"
        tree.mkdir()
        for number in range(40):
            (tree / str(number)).write_bytes(os.urandom(1 << 20))
        with pytest.raises(HostUnavailable, match="the disk is full") as caught:
            await store.add(tree, RuntimeFacts("large", "1.0.0"))
        assert caught.value.reason == "RUNTIME_DISK_FULL"
        assert files_of(disk) == before
        assert os.listdir(disk / "staging") == []
        assert not tree.exists()
        assert store.all() == (one,)
        assert await store.verify(one) == ()
        small = await store.add(await planted(store, file=b"y" * 1000), RuntimeFacts("small", "1.0.0"))
        assert await store.verify(small) == ()

    with_store(disk, case)
