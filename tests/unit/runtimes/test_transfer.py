"""Archives on their way: whole or nothing, within bounds, and never left in staging."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.config.values import RuntimesConfig, UploadsConfig
from joblet_agent.errors import InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.runtimes import transfer as module
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.service import RuntimeService, nobody
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.runtimes.transfer import ArchivePiece, ImportWanted, RuntimeTransfer
from joblet_agent.runtimes.trial import RuntimeTrial
from tests.fakes.clock import FakeClock

CONTENT = bytes(range(256)) * 64
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class FakeCarrier:
    """Archives are CONTENT, whatever the runtime."""

    store: RuntimeStore
    received: list[tuple[bytes, dict[str, Any]]] = field(default_factory=list)
    error: JobletError | None = None

    async def export(self, runtime: Runtime, to: Path) -> None:
        await asyncio.to_thread(to.write_bytes, CONTENT)
        if self.error is not None:
            raise self.error

    async def import_archive(
        self, archive: Path, *, note: Callable[[str], None] = lambda _: None, **wanted: Any
    ) -> Runtime:
        note("left out: a device (1)")
        self.received.append((await asyncio.to_thread(archive.read_bytes), wanted))
        if self.error is not None:
            raise self.error
        return self.store.all()[0]


@dataclass
class Rig:
    store: RuntimeStore
    carrier: FakeCarrier
    transfer: RuntimeTransfer
    root: Path

    def staged(self) -> list[str]:
        return [path.name for path in (self.root / "staging").iterdir()]

    async def refused(self, kind: type[JobletError], reason: str, work: Awaitable[object]) -> None:
        with pytest.raises(kind) as caught:
            await work
        assert caught.value.reason == reason
        assert self.staged() == []


def run(
    tmp_path: Path,
    case: Callable[[Rig], Awaitable[None]],
    *,
    uploads: UploadsConfig | None = None,
    most: int = 1 << 30,
) -> None:
    async def main() -> None:
        root = tmp_path / "runtimes"
        store = RuntimeStore(root, FakeClock())
        await store.open()
        tree = await store.staging("test")
        (tree / "who").write_text("me")
        await store.add(tree, RuntimeFacts("go-1.24", "1.0.0"))
        unused: Any = None
        service = RuntimeService(store, RuntimeCatalog(store), RuntimeTrial(unused), nobody)
        carrier = FakeCarrier(store)
        config = RuntimesConfig(max_size=most)
        transfer = RuntimeTransfer(service, store, carrier, config, uploads or UploadsConfig())
        try:
            async with asyncio.timeout(20):
                await case(Rig(store, carrier, transfer, root))
        finally:
            await store.close()

    asyncio.run(main())


async def pieces(*found: ArchivePiece) -> AsyncIterator[ArchivePiece]:
    for piece in found:
        yield piece


def cut(content: bytes, size: int = 4096) -> Sequence[ArchivePiece]:
    return [ArchivePiece(at, content[at : at + size]) for at in range(0, len(content), size)]


def test_an_export_is_read_in_pieces_and_gone_when_it_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE", 5000)

    async def case(rig: Rig) -> None:
        export = await rig.transfer.export("go:1.24")
        assert (str(export.runtime.facts), export.size) == ("go-1.24@1.0.0", len(CONTENT))
        found = [piece async for piece in export]
        assert b"".join(piece.content for piece in found) == CONTENT
        assert [piece.offset for piece in found] == [0, 5000, 10000, 15000]
        assert export.sha256.hex() == SHA256
        assert len(rig.staged()) == 1
        await export.aclose()
        assert rig.staged() == []

    run(tmp_path, case)


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.carrier.error = InvalidRequest("no", reason="X")
        await rig.refused(InvalidRequest, "X", rig.transfer.export("go:1.24"))
        await rig.refused(NotFound, "RUNTIME_UNKNOWN", rig.transfer.export("ruby"))

    run(tmp_path, case)


def test_an_archive_arrives_whole(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        wanted = ImportWanted("n", "1.0.0", True, SHA256, len(CONTENT))
        notes: list[str] = []
        await rig.transfer.take_in(wanted, pieces(*cut(CONTENT)), notes.append)
        await rig.transfer.take_in(ImportWanted(), pieces(ArchivePiece(0, b""), *cut(CONTENT)))
        first, second = rig.carrier.received
        assert notes == ["left out: a device (1)"]
        assert first == (CONTENT, {"name": "n", "version": "1.0.0", "replace": True})
        assert second == (CONTENT, {"name": "", "version": "", "replace": False})
        assert rig.staged() == []

    run(tmp_path, case)


@pytest.mark.parametrize(
    ("wanted", "came", "reason"),
    [
        (ImportWanted(size=len(CONTENT)), cut(CONTENT)[:-1], "ARCHIVE_TRUNCATED"),
        (ImportWanted(size=10), cut(CONTENT), "ARCHIVE_TRUNCATED"),
        (ImportWanted(sha256="0" * 64), cut(CONTENT), "RUNTIME_DIGEST_MISMATCH"),
        (ImportWanted(sha256="xyz"), cut(CONTENT), "INVALID_SHA256"),
        (ImportWanted(), cut(CONTENT)[1:], "WRONG_PIECE"),
        (ImportWanted(), [cut(CONTENT)[0], cut(CONTENT)[0]], "WRONG_PIECE"),
        (ImportWanted(), [ArchivePiece(0, bytes(module.MOST_PIECE + 1))], "WRONG_PIECE"),
        (ImportWanted(), [ArchivePiece(-1, b"x")], "WRONG_PIECE"),
    ],
)
def test_an_archive_that_is_not_what_was_said_is_refused(
    tmp_path: Path, wanted: ImportWanted, came: Sequence[ArchivePiece], reason: str
) -> None:
    async def case(rig: Rig) -> None:
        await rig.refused(InvalidRequest, reason, rig.transfer.take_in(wanted, pieces(*came)))
        assert rig.carrier.received == []

    run(tmp_path, case)


@pytest.mark.parametrize("wanted", [ImportWanted(size=len(CONTENT)), ImportWanted()])
def test_an_archive_that_is_too_large_is_refused(tmp_path: Path, wanted: ImportWanted) -> None:
    async def case(rig: Rig) -> None:
        work = rig.transfer.take_in(wanted, pieces(*cut(CONTENT)))
        await rig.refused(LimitReached, "RUNTIME_TOO_LARGE", work)

    run(tmp_path, case, most=len(CONTENT) - 1)


def test_an_archive_that_does_not_come_is_given_up(tmp_path: Path) -> None:
    async def never() -> AsyncIterator[ArchivePiece]:
        yield cut(CONTENT)[0]
        await asyncio.Event().wait()

    async def case(rig: Rig) -> None:
        await rig.refused(LimitReached, "UPLOAD_STALLED", rig.transfer.take_in(ImportWanted(), never()))

    run(tmp_path, case, uploads=UploadsConfig(idle_timeout=timedelta(milliseconds=10)))


def test_a_caller_that_goes_away_leaves_nothing_and_makes_room(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        begun = asyncio.Event()

        async def stuck() -> AsyncIterator[ArchivePiece]:
            yield cut(CONTENT)[0]
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(rig.transfer.take_in(ImportWanted(), stuck()))
        await begun.wait()
        other = rig.transfer.take_in(ImportWanted(), pieces(*cut(CONTENT)))
        with pytest.raises(LimitReached, match=r"uploads\.max_at_once"):
            await other
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.staged() == []
        await rig.transfer.take_in(ImportWanted(), pieces(*cut(CONTENT)))

    run(tmp_path, case, uploads=UploadsConfig(max_at_once=1))


def test_an_archive_that_is_no_runtime_leaves_nothing(tmp_path: Path) -> None:
    async def case(rig: Rig) -> None:
        rig.carrier.error = InvalidRequest("cut off", reason="RUNTIME_ARCHIVE_BROKEN")
        work = rig.transfer.take_in(ImportWanted(), pieces(*cut(CONTENT)))
        await rig.refused(InvalidRequest, "RUNTIME_ARCHIVE_BROKEN", work)

    run(tmp_path, case)
