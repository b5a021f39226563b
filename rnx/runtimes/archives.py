"""Archives of runtimes on this side: sent and received in pieces, never half a file under its name."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from rnx.client import pb
from rnx.exits import RnxError
from rnx.output import clean
from rnx.progress import Progress

PIECE = 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


def save_archive(target: Path, pieces: Iterable[Any], *, force: bool) -> Any:
    """Write an archive that comes (ExportRuntimeResponse); return the first message, which says what it is.

    Raises RnxError for an archive that is not what its digest says, and for a file that is there already.
    """
    if target.is_dir():
        raise RnxError(f"cannot write {target}: it is a directory", hint="give the name of a file with -o")
    if not force and os.path.lexists(target):
        raise RnxError(f"cannot write {target}: it exists", hint="give another place with -o, or --force")
    part = _part_of(target)
    try:
        with _new_file(part) as file:
            first = _receive(pieces, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise RnxError(f"cannot write {target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
    return first


def replace_file(target: Path, content: bytes) -> None:
    """Write a small file at once. Raises RnxError."""
    part = _part_of(target)
    try:
        with _new_file(part) as file:
            file.write(content)
        os.chmod(part, 0o644)
        os.replace(part, target)
    except OSError as error:
        raise RnxError(f"cannot write {target}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def archive_messages(
    path: Path, *, name: str, version: str, force: bool, sha256: str, progress: Progress
) -> Iterator[Any]:
    """Yield the messages (ImportRuntimeRequest) that bring an archive to the agent. Raises RnxError."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            progress.expect(size)
            start = pb.ImportRuntimeStart(
                name=name, version=version, force=force, sha256=sha256, size_bytes=size
            )
            yield pb.ImportRuntimeRequest(start=start)
            offset = 0
            while piece := file.read(PIECE):
                yield pb.ImportRuntimeRequest(offset=offset, content=piece)
                offset += len(piece)
                progress.add(len(piece))
    except OSError as error:
        raise RnxError(f"cannot read {path}: {error.strerror}") from error


def _receive(pieces: Iterable[Any], file: Any) -> Any:
    first, position, seen = None, 0, hashlib.sha256()
    told = b""
    with Progress("Downloading", 0) as progress:
        for piece in pieces:
            if first is None:
                first = piece
                progress.expect(piece.size_bytes)
            if piece.content:
                if piece.offset != position:
                    raise RnxError("cannot go on: the agent sent a piece that does not belong there")
                file.write(piece.content)
                seen.update(piece.content)
                position += len(piece.content)
                progress.add(len(piece.content))
            told = piece.sha256 or told
    if first is None or seen.digest() != told:
        raise RnxError("cannot save the archive: it arrived damaged or not whole", hint="try again")
    return first


def _part_of(target: Path) -> Path:
    return target.with_name(f".{clean(target.name)[:200]}.{os.getpid()}.part")


def _new_file(part: Path) -> Any:
    return open(os.open(part, _NEW_FILE, 0o644), "wb")
