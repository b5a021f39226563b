"""Files that travel with a job: found first, read only while they are sent.

Together they go inside the request while they are small, and as a stream of their own when they are not.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rnx.client import Client, pb
from rnx.exits import NotOffered, RnxError, UsageError
from rnx.progress import Progress

SMALL = 4 * 1024 * 1024
"""Bytes of all files together that go inside the request."""
LIMIT = 128 * 1024 * 1024
"""The same for an agent that takes no streams: the request is one message."""
PIECE = 1024 * 1024

_MOST_IN_REQUEST = 10_000


@dataclass(frozen=True, slots=True)
class Upload:
    """A file or directory below the workspace, and where it is here; ``mode`` holds permission bits alone."""

    path: str
    source: Path
    size: int
    mode: int
    is_directory: bool = False


def find_uploads(files: Iterable[str], directories: Iterable[str]) -> list[Upload]:
    """Find every file; a file lands under its base name, a directory's contents at the top.

    A directory that comes from several places is one. Raises UsageError and RnxError.
    """
    found: dict[str, Upload] = {}
    for upload in _all(files, directories):
        present = found.setdefault(upload.path, upload)
        if present is not upload and not (present.is_directory and upload.is_directory):
            raise UsageError(
                f"cannot send {upload.source}: {present.source} has the same name in the workspace"
            )
    return list(found.values())


def file_below(source: Path, path: str) -> Upload:
    """Return a file that lands under ``path``. Raises RnxError."""
    return _file(source, path)


def directory_below(source: Path, path: str) -> Iterator[Upload]:
    """Yield a directory that lands under ``path``, and everything in it. Raises RnxError."""
    top = source.resolve()
    yield Upload(path, source, 0, _mode(source), is_directory=True)
    yield from _Tree(top).contents(source, f"{path}/", (_identity(top),))


def fit_inside(uploads: list[Upload]) -> bool:
    """Tell whether all of it goes inside a request."""
    return sum(upload.size for upload in uploads) <= SMALL and len(uploads) <= _MOST_IN_REQUEST


def send_uploads(client: Client, uploads: list[Upload], *, field: str = "uploads") -> dict[str, Any]:
    """Send what is large, and return the fields of the request that bring all of it.

    ``field`` is the one that takes files inside the request.
    """
    if fit_inside(uploads):
        return {field: _inside(uploads)}
    size = sum(upload.size for upload in uploads)
    try:
        return {"upload_id": stream_uploads(client, uploads)}
    except NotOffered:
        if size <= LIMIT:
            return {field: _inside(uploads)}
        raise RnxError(
            f"cannot send the files: together they are larger than {LIMIT // 2**20} MB, "
            "and this agent takes larger ones only as a volume"
        ) from None


def stream_uploads(client: Client, uploads: list[Upload]) -> str:
    """Send files in a stream of their own; return the id that a request names them by."""
    with Progress("Uploading", sum(upload.size for upload in uploads)) as progress:
        reply = client.send(client.agent.UploadFiles, _chunks(uploads, progress.add))
    return str(reply.upload_id)


def _all(files: Iterable[str], directories: Iterable[str]) -> Iterator[Upload]:
    for name in files:
        if Path(name).is_dir():
            raise UsageError(f"cannot send {name}: it is a directory", hint=f"write --upload-dir={name}")
        yield _file(Path(name), Path(name).name)
    for name in directories:
        if not Path(name).is_dir():
            raise UsageError(f"cannot send {name}: not a directory", hint=f"write --upload={name}")
        top = Path(name).resolve()
        yield from _Tree(top).contents(Path(name), "", (_identity(top),))


class _Tree:
    """Finds the contents of one directory, in a stable order; a link counts as what it points to."""

    def __init__(self, top: Path) -> None:
        self._top = top

    def contents(self, place: Path, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[Upload]:
        """Yield what is in ``place``; ``above`` are the directories that lead to it, itself included."""
        try:
            names = sorted(os.listdir(place))
        except OSError as error:
            raise _failed(place, error) from error
        for name in names:
            source, path = place / name, prefix + name
            if source.is_symlink():
                self._check_link(source)
            if not source.is_dir():
                yield _file(source, path)
                continue
            identity = _identity(source)
            if identity in above:
                raise RnxError(f"cannot send {source}: the link leads back to a directory that it is in")
            yield Upload(path, source, 0, _mode(source), is_directory=True)
            yield from self.contents(source, path + "/", (*above, identity))

    def _check_link(self, link: Path) -> None:
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise RnxError(f"cannot send {link}: it is a link to something that is not there") from error
        if not target.is_relative_to(self._top):
            raise RnxError(
                f"cannot send {link}: it is a link out of the directory, to {target}",
                hint="put what it points to into the directory, or send it with a flag of its own",
            )


def _file(source: Path, path: str) -> Upload:
    try:
        status = source.stat()
    except FileNotFoundError as error:
        raise RnxError(f"cannot send {source}: no such file") from error
    except OSError as error:
        raise _failed(source, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise RnxError(f"cannot send {source}: not a regular file")
    if not os.access(source, os.R_OK):
        raise RnxError(f"cannot send {source}: permission denied")
    return Upload(path, source, status.st_size, status.st_mode & 0o777)


def _identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


def _mode(directory: Path) -> int:
    return directory.stat().st_mode & 0o777


def _inside(uploads: list[Upload]) -> list[Any]:
    return [
        pb.FileUpload(
            path=each.path,
            content=b"" if each.is_directory else b"".join(_content(each)),
            mode=each.mode,
            is_directory=each.is_directory,
        )
        for each in uploads
    ]


def _chunks(uploads: list[Upload], sent: Callable[[int], None]) -> Iterator[Any]:
    for each in uploads:
        entry = pb.UploadEntry(path=each.path, mode=each.mode, is_directory=each.is_directory, size=each.size)
        if each.is_directory:
            yield pb.UploadChunk(entry=entry)
            continue
        digest, offset = hashlib.sha256(), 0
        # The last piece has the digest with it: a small file is one message.
        for piece in _content(each):
            digest.update(piece)
            end = digest.digest() if offset + len(piece) == each.size else b""
            yield pb.UploadChunk(
                entry=entry if offset == 0 else None, offset=offset, content=piece, sha256=end
            )
            offset += len(piece)
            sent(len(piece))


def _content(upload: Upload) -> Iterator[bytes]:
    """Yield as many bytes as the file had when it was found; one empty piece for an empty file."""
    left = upload.size
    try:
        with upload.source.open("rb") as file:
            while True:
                piece = file.read(min(PIECE, left))
                left -= len(piece)
                if left and not piece:
                    raise RnxError(f"cannot send {upload.source}: it became shorter while it was sent")
                yield piece
                if not left:
                    return
    except OSError as error:
        raise _failed(upload.source, error) from error


def _failed(source: Path, error: OSError) -> RnxError:
    return RnxError(f"cannot send {source}: {error.strerror}")
