"""Files that travel inside the request of a job."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rnx.exits import RnxError, UsageError

LIMIT = 128 * 1024 * 1024
"""Bytes of all files together: they are one message with the rest of the request."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file or directory below the workspace; ``mode`` holds permission bits alone."""

    path: str
    content: bytes
    mode: int
    is_directory: bool = False


def read_uploads(files: Iterable[str], directories: Iterable[str]) -> list[Upload]:
    """Read every file; a file lands under its base name, a directory's contents at the top."""
    uploads: list[Upload] = []
    size = 0
    for upload in _all(files, directories):
        size += len(upload.content)
        if size > LIMIT:
            raise RnxError(
                f"cannot send {upload.path}: the files together are larger than {LIMIT // 2**20} MB",
                hint="put large data into a volume",
            )
        uploads.append(upload)
    return uploads


def _all(files: Iterable[str], directories: Iterable[str]) -> Iterator[Upload]:
    for name in files:
        if Path(name).is_dir():
            raise UsageError(f"cannot send {name}: it is a directory", hint=f"write --upload-dir={name}")
        yield _read(Path(name), Path(name).name)
    for name in directories:
        if not Path(name).is_dir():
            raise UsageError(f"cannot send {name}: not a directory", hint=f"write --upload={name}")
        yield from _contents(Path(name))


def _contents(top: Path) -> Iterator[Upload]:
    """Yield directories before what is in them, in a stable order."""
    for place, directories, files in os.walk(top, onerror=_fail):
        directories.sort()
        here = Path(place)
        for name in directories:
            path = here / name
            yield Upload(
                path.relative_to(top).as_posix(), b"", path.stat().st_mode & 0o777, is_directory=True
            )
        for name in sorted(files):
            yield _read(here / name, (here / name).relative_to(top).as_posix())


def _read(path: Path, name: str) -> Upload:
    try:
        if not path.is_file():
            raise RnxError(f"cannot send {path}: {'not a regular file' if path.exists() else 'no such file'}")
        if path.stat().st_size > LIMIT:
            raise RnxError(f"cannot send {path}: larger than {LIMIT // 2**20} MB")
        return Upload(name, path.read_bytes(), path.stat().st_mode & 0o777)
    except OSError as error:
        raise RnxError(f"cannot send {path}: {error.strerror}") from error


def _fail(error: OSError) -> None:
    raise RnxError(f"cannot send {error.filename}: {error.strerror}") from error
