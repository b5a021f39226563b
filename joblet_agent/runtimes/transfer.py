"""Archives of runtimes on their way to and from callers: files in staging, gone when the call is over."""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from joblet_agent.config.values import RuntimesConfig, UploadsConfig
from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.model.runtime import Runtime
from joblet_agent.new_files import NEW_FILE, write_all
from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.installer import RuntimeImporter
from joblet_agent.runtimes.service import RuntimeService
from joblet_agent.runtimes.store import RuntimeStore
from joblet_agent.units import format_bytes

__all__ = ["ArchivePiece", "Carrier", "Export", "ImportWanted", "RuntimeTransfer"]

PIECE: Final = 1024 * 1024
MOST_PIECE: Final = 4 * 1024 * 1024
_NAME: Final = "archive.oci.tar"
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class Carrier(RuntimeImporter, Protocol):
    """Makes archives of runtimes and runtimes of archives (carrier.py)."""

    async def export(self, runtime: Runtime, to: Path) -> None:
        """Write the archive."""


@dataclass(frozen=True, slots=True)
class ImportWanted:
    """What a caller says of an archive before it comes."""

    name: str = ""
    version: str = ""
    force: bool = False
    sha256: str = ""
    """64 hexadecimal digits; empty for whatever comes."""
    size: int = 0
    """Bytes; 0 for whatever comes."""


@dataclass(frozen=True, slots=True)
class ArchivePiece:
    """A piece of an archive."""

    offset: int
    content: bytes


class Export:
    """An archive that is ready; whoever has it closes it."""

    def __init__(self, runtime: Runtime, path: Path, store: RuntimeStore) -> None:
        self.runtime = runtime
        self.size = path.stat().st_size
        self._path = path
        self._store = store
        self._seen = hashlib.sha256()
        self._file = open(path, "rb")  # noqa: SIM115 - closed with the export
        self._offset = 0

    @property
    def sha256(self) -> bytes:
        """Return the digest of what was read so far."""
        return self._seen.digest()

    def __aiter__(self) -> "Export":
        return self

    async def __anext__(self) -> ArchivePiece:
        """Return the next piece."""
        with disk_errors("export runtime"):
            content = await asyncio.to_thread(self._read)
        if not content:
            raise StopAsyncIteration
        piece = ArchivePiece(self._offset, content)
        self._offset += len(content)
        return piece

    def _read(self) -> bytes:
        content = self._file.read(PIECE)
        self._seen.update(content)
        return content

    async def aclose(self) -> None:
        """Remove the archive."""
        self._file.close()
        await self._store.discard(self._path.parent)


class RuntimeTransfer:
    """Sends runtimes to callers and takes them in. ``uploads`` has the limits of what is on its way."""

    def __init__(
        self,
        runtimes: RuntimeService,
        store: RuntimeStore,
        carrier: Carrier,
        config: RuntimesConfig,
        uploads: UploadsConfig,
    ) -> None:
        self._runtimes = runtimes
        self._store = store
        self._carrier = carrier
        self._config = config
        self._uploads = uploads
        self._receiving = 0

    async def export(self, given: str) -> Export:
        """Make an archive of the runtime. Raises NotFound, InvalidRequest, HostUnavailable."""
        runtime = self._runtimes.get(given)
        place = await self._store.staging("export")
        try:
            path = place / _NAME
            with self._store.hold(runtime.digest):
                await self._carrier.export(runtime, path)
            with disk_errors("export runtime"):
                return await asyncio.to_thread(Export, runtime, path, self._store)
        except BaseException:
            await asyncio.shield(self._store.discard(place))
            raise

    async def take_in(
        self,
        wanted: ImportWanted,
        pieces: AsyncIterator[ArchivePiece],
        note: Callable[[str], None] = lambda _: None,
    ) -> Runtime:
        """Receive an archive and make it a runtime, as a whole or not at all.

        ``note`` is told what of it was left out.

        Raises InvalidRequest for what is wrong with it, LimitReached (``runtimes.max_size``, ``uploads``),
        WrongState for a name and version that another one has, HostUnavailable.
        """
        self._check(wanted)
        if self._receiving >= self._uploads.max_at_once:
            raise LimitReached(
                f"cannot import runtime: {self._receiving} archives come already (uploads.max_at_once)",
                reason="TOO_MANY_UPLOADS",
                hint="try again when one has ended",
            )
        self._receiving += 1
        place = None
        try:
            place = await self._store.staging("import")
            archive = place / _NAME
            await self._receive(wanted, pieces, archive)
            return await self._carrier.import_archive(
                archive, name=wanted.name, version=wanted.version, replace=wanted.force, note=note
            )
        finally:
            self._receiving -= 1
            if place is not None:
                await asyncio.shield(self._store.discard(place))

    def _check(self, wanted: ImportWanted) -> None:
        if wanted.sha256 and not _SHA256.fullmatch(wanted.sha256):
            raise InvalidRequest(
                "cannot import runtime: sha256 is not 64 hexadecimal digits", reason="INVALID_SHA256"
            )
        if max(wanted.size, 0) > self._config.max_size:
            raise self._too_large()

    async def _receive(
        self, wanted: ImportWanted, pieces: AsyncIterator[ArchivePiece], archive: Path
    ) -> None:
        with disk_errors("import runtime"):
            file = await asyncio.to_thread(os.open, archive, NEW_FILE, 0o600)
        try:
            size, seen = 0, hashlib.sha256()
            while (piece := await self._next(pieces)) is not None:
                if piece.offset != size or len(piece.content) > MOST_PIECE:
                    raise InvalidRequest(
                        f"cannot import runtime: a piece for byte {piece.offset} came at byte {size}, "
                        f"with {len(piece.content)} bytes",
                        reason="WRONG_PIECE",
                        hint="send pieces of at most 4 MiB, one behind the other",
                    )
                size += len(piece.content)
                if size > self._config.max_size:
                    raise self._too_large()
                with disk_errors("import runtime"):
                    await asyncio.to_thread(_write, file, piece.content, seen)
        finally:
            os.close(file)
        if wanted.size and size != wanted.size:
            raise InvalidRequest(
                f"cannot import runtime: {size} bytes came of {wanted.size}",
                reason="ARCHIVE_TRUNCATED",
                hint="send it again",
            )
        if wanted.sha256 and seen.hexdigest() != wanted.sha256:
            raise InvalidRequest(
                f"cannot import runtime: the archive's SHA-256 is {seen.hexdigest()}, not {wanted.sha256}",
                reason="RUNTIME_DIGEST_MISMATCH",
                hint="it was changed on the way, or is another archive",
            )

    async def _next(self, pieces: AsyncIterator[ArchivePiece]) -> ArchivePiece | None:
        idle = self._uploads.idle_timeout.total_seconds()
        try:
            async with asyncio.timeout(idle):
                return await anext(pieces, None)
        except TimeoutError as error:
            raise LimitReached(
                f"cannot import runtime: nothing came for {idle:g} s (uploads.idle_timeout)",
                reason="UPLOAD_STALLED",
                hint="send it again; is the network slow?",
            ) from error

    def _too_large(self) -> LimitReached:
        return LimitReached(
            "cannot import runtime: the archive is larger than "
            f"{format_bytes(self._config.max_size)} (runtimes.max_size)",
            reason="RUNTIME_TOO_LARGE",
        )


def _write(file: int, content: bytes, seen: "hashlib._Hash") -> None:
    seen.update(content)
    write_all(file, content)
