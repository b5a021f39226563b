"""Runtimes go from one store to another, and strange images into one; what fails leaves nothing."""

import asyncio
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.errors import InvalidRequest, JobletError
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes import adding
from joblet_agent.runtimes import carrier as carrier_module
from joblet_agent.runtimes.carrier import RuntimeCarrier
from joblet_agent.runtimes.layout import Layout
from joblet_agent.runtimes.oci import image_tree
from joblet_agent.runtimes.oci.reading import unpack
from joblet_agent.runtimes.oci.writing import pack
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.runtimes.trees import MadeTree
from tests.fakes.clock import FakeClock
from tests.unit.runtimes.oci.images import archive_of, directory, file, layer, link, special
from tests.unit.runtimes.oci.waiting import until

Case = Callable[[RuntimeStore, RuntimeCarrier], Awaitable[None]]
_FACTS = RuntimeFacts(name="tool", version="1.0.0", environment={"A": "1"}, definition="name: tool\n")


def _run(root: Path, case: Case, max_size: int = 1 << 30) -> None:
    """Run the case with an open store; afterwards nothing is under way."""

    async def whole() -> None:
        store = RuntimeStore(root, FakeClock())
        await store.open()
        try:
            await case(store, RuntimeCarrier(store, RuntimesConfig(max_size=max_size)))
        finally:
            await store.close()
        assert os.listdir(Layout(root).staging) == []

    asyncio.run(whole())


async def _added(store: RuntimeStore, content: str = "1") -> str:
    tree = await store.staging("test") / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_text(content)
    (tree / "usr/bin/same").write_text(content)
    runtime = await store.add(tree, _FACTS)
    await store.discard(tree.parent)
    return runtime.digest


def _exported(tmp_path: Path) -> tuple[Path, str]:
    digests = []

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        digests.append(await _added(store))
        await carrier.export(store.all()[0], tmp_path / "tool.tar")
        await carrier.export(store.all()[0], tmp_path / "again.tar")
        assert (tmp_path / "again.tar").read_bytes() == (tmp_path / "tool.tar").read_bytes()

    _run(tmp_path / "one", case)
    return tmp_path / "tool.tar", digests[0]


def test_a_runtime_has_the_same_digest_on_another_host(tmp_path: Path) -> None:
    archive, digest = _exported(tmp_path)

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        runtime = await carrier.import_archive(archive, expected=digest)
        assert (runtime.digest, store.all()) == (digest, (runtime,))
        assert (runtime.facts.environment, runtime.facts.definition) == ({"A": "1"}, "name: tool\n")
        assert (store.tree(digest) / "usr/bin/tool").read_text() == "1"
        again = await carrier.import_archive(archive, name="other", version="2.0.0", source="file:/x")
        assert (str(again.facts), again.digest, again.facts.source) == ("other@2.0.0", digest, "file:/x")

    _run(tmp_path / "two", case)


def test_a_changed_runtime_is_refused_whatever_else_fits(tmp_path: Path) -> None:
    archive, digest = _exported(tmp_path)
    changed = tmp_path / "changed.tar"

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        await unpack(archive, tree, most_bytes=0)
        (tree / "usr/bin/tool").write_text("2")
        await pack(tree, _FACTS, digest, changed)
        await _refused(carrier.import_archive(changed), "RUNTIME_DIGEST_MISMATCH")
        await pack(tree, _FACTS, "0" * 64, changed)
        await _refused(carrier.import_archive(changed, expected=digest), "RUNTIME_DIGEST_MISMATCH")
        await pack(tree, _FACTS, "no digest\n", changed)
        await _refused(carrier.import_archive(changed), "RUNTIME_ARCHIVE_BROKEN")
        assert store.all() == ()
        assert not any((Layout(store.tree("").parents[1]).objects).rglob("*-*"))

    _run(tmp_path / "two", case)


async def _refused(work: Awaitable[object], reason: str) -> None:
    with pytest.raises(JobletError) as caught:
        await work
    assert caught.value.reason == reason


def test_any_image_becomes_a_runtime_under_a_name(tmp_path: Path) -> None:
    items = [
        directory("usr/bin"),
        link("bin", "usr/bin"),
        file("usr/bin/su", b"x", 0o4755),
        special("dev/x", b"3"),
    ]
    archive = archive_of(tmp_path / "i", layer(*items), Env=["PATH=/usr/bin", "LD_PRELOAD=/x.so"])

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        await _refused(carrier.import_archive(archive), "RUNTIME_NAME_MISSING")
        notes: list[str] = []
        runtime = await carrier.import_archive(archive, name="strange", version="1.0.0", note=notes.append)
        assert runtime.facts.environment == {"PATH": "/usr/bin"}
        assert [note.split(":")[1].split()[0] for note in notes] == ["devices", "setuid", "variable"]
        mode = (store.tree(runtime.digest) / "usr/bin/su").stat().st_mode
        assert mode & 0o7777 == 0o755

    _run(tmp_path / "store", case)


def test_an_image_larger_than_the_configuration_allows_is_refused(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "i", layer(file("a", bytes(2 << 20))))

    async def case(_: RuntimeStore, carrier: RuntimeCarrier) -> None:
        await _refused(carrier.import_archive(archive, name="a", version="1.0.0"), "RUNTIME_TOO_LARGE")

    _run(tmp_path / "store", case, max_size=1 << 20)


def test_another_runtime_of_the_name_stays_unless_it_is_replaced(tmp_path: Path) -> None:
    archive, digest = _exported(tmp_path)

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        there = await _added(store, "other")
        await _refused(carrier.import_archive(archive), "RUNTIME_EXISTS")
        assert [runtime.digest for runtime in store.all()] == [there]
        assert (await carrier.import_archive(archive, replace=True)).digest == digest

    _run(tmp_path / "two", case)


def test_an_import_that_nobody_wants_leaves_nothing(tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "i", layer(*(file(str(number), bytes(100)) for number in range(3000))))

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        staging = Layout(tmp_path / "store").staging
        task = asyncio.create_task(carrier.import_archive(archive, name="a", version="1.0.0"))
        await until(lambda: list(staging.glob("import.*/tree/*")))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert store.all() == ()

    _run(tmp_path / "store", case)


def test_who_goes_away_while_the_tree_is_read_takes_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive, digest = _exported(tmp_path)
    entered, go = threading.Event(), threading.Event()
    real = adding.Adder.make

    def slow(adder: adding.Adder, source: Path) -> MadeTree:
        entered.set()
        go.wait(30)
        return real(adder, source)

    monkeypatch.setattr(adding.Adder, "make", slow)

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        task = asyncio.create_task(carrier.import_archive(archive))
        await until(entered.is_set)
        task.cancel()
        for _turn in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [runtime.digest for runtime in store.all()] == [digest]

    _run(tmp_path / "two", case)


def test_what_a_killed_agent_has_left_is_gone_with_the_next_start(tmp_path: Path) -> None:
    left = Layout(tmp_path / "store").staging / "import.1234"
    (left / "tree/usr").mkdir(parents=True)

    async def case(_: RuntimeStore, __: RuntimeCarrier) -> None:
        await until(lambda: not left.exists())

    _run(tmp_path / "store", case)


def test_a_full_disk_in_the_middle_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = archive_of(tmp_path / "i", layer(*(file(f"{number}", b"1") for number in range(20))))
    written = []

    def full(_: int, piece: bytes) -> None:
        written.append(piece)
        if len(written) == 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(image_tree, "write_all", full)

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        work = carrier.import_archive(archive, name="a", version="1.0.0")
        await _refused(work, "RUNTIME_DISK_FULL")
        assert store.all() == ()

    _run(tmp_path / "store", case)


def test_many_at_once_leave_threads_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    working, most = [], []

    async def slow(*_: object) -> None:
        working.append(1)
        most.append(len(working))
        for _turn in range(5):
            await asyncio.sleep(0)
        working.pop()

    monkeypatch.setattr(carrier_module, "pack", slow)

    async def case(store: RuntimeStore, carrier: RuntimeCarrier) -> None:
        await _added(store)
        exports = [carrier.export(store.all()[0], tmp_path / str(number)) for number in range(9)]
        await asyncio.gather(*exports)
        assert (len(most), max(most)) == (9, 2)

    _run(tmp_path / "store", case)


def test_errors_are_of_the_request(tmp_path: Path) -> None:
    async def case(_: RuntimeStore, carrier: RuntimeCarrier) -> None:
        (tmp_path / "x").write_text("no archive")
        with pytest.raises(InvalidRequest, match="cannot read image"):
            await carrier.import_archive(tmp_path / "x", name="a", version="1.0.0")

    _run(tmp_path / "store", case)
