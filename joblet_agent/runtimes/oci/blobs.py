"""What an archive of an image holds: parts by name, each read where it lies. Blocking; call from a thread.

The archive is a tar file whose members come in any order. Their places are kept, nothing is unpacked.
"""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.errors import NotFound
from joblet_agent.runtimes.oci.refusals import broken, refused, shown
from joblet_agent.runtimes.oci.tar_reader import Kind, TarReader
from joblet_agent.runtimes.working import Wanted

DIGEST: Final = re.compile(r"sha256:([0-9a-f]{64})")
_MOST_MEMBERS: Final = 10_000
_MOST_DOCUMENT: Final = 4 << 20
"""Bytes of an index, manifest or configuration."""
_PIECE: Final = 1 << 18
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


@dataclass(frozen=True, slots=True)
class _Place:
    begin: int
    size: int


class _Window:
    """Reads part of a file, from its beginning on."""

    def __init__(self, file: int, place: _Place) -> None:
        self._file, self._at, self._end = file, place.begin, place.begin + place.size

    def read(self, size: int) -> bytes:
        piece = os.pread(self._file, min(size, self._end - self._at), self._at)
        self._at += len(piece)
        return piece

    def skip(self, size: int) -> int:
        passed = min(size, self._end - self._at)
        self._at += passed
        return passed


class ArchiveFile:
    """An archive that is open for reading."""

    def __init__(self, path: Path) -> None:
        """Open it. Raises NotFound, OSError."""
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a fifo would wait
        except FileNotFoundError as error:
            raise NotFound(
                f"cannot read image: {path} is not there",
                reason="RUNTIME_ARCHIVE_NOT_FOUND",
                hint="the agent sees the host's files but for /home, /root and /tmp",
            ) from error
        self._places: dict[str, _Place] = {}
        self._links: dict[str, str] = {}

    def __enter__(self) -> "ArchiveFile":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def open(self, wanted: Wanted) -> None:
        """Find all members. Raises InvalidRequest for what is no archive, or not a whole one."""
        status = os.fstat(self._file)
        if not stat.S_ISREG(status.st_mode):
            raise refused("it is no file")
        self._check_form()
        window = _Window(self._file, _Place(0, status.st_size))
        reader = TarReader(window.read, window.skip)
        for count, entry in enumerate(reader):
            wanted.check()
            if count >= _MOST_MEMBERS:
                raise refused(f"the archive has more than {_MOST_MEMBERS} members")
            name = os.path.normpath(entry.name.lstrip("/"))
            if entry.kind is Kind.FILE:
                self._places[name] = _Place(reader.place, entry.size)
            elif entry.kind is Kind.LINK:
                self._links[name] = os.path.normpath(os.path.join(os.path.dirname(name), entry.target))

    def has(self, name: str) -> bool:
        """Say whether there is such a member."""
        return self._found(name) is not None

    def size(self, name: str) -> int:
        """Return how many bytes a member has."""
        return self._place(name).size

    def document(self, name: str, digest: str = "") -> bytes:
        """Return a short member. Raises InvalidRequest if it is missing, too long or has another digest."""
        place = self._place(name)
        if place.size > _MOST_DOCUMENT:
            raise refused(f"{shown(name)} has {place.size} bytes; {_MOST_DOCUMENT} are allowed")
        text = os.pread(self._file, place.size, place.begin)
        if digest and f"sha256:{hashlib.sha256(text).hexdigest()}" != digest:
            raise broken(f"{shown(name)} does not have its digest")
        return text

    def pieces(self, name: str) -> Iterator[bytes]:
        """Return what a member has, piece by piece."""
        window = _Window(self._file, self._place(name))
        while piece := window.read(_PIECE):
            yield piece

    def _check_form(self) -> None:
        begin = os.pread(self._file, 8, 0)
        for magic, program in _COMPRESSED.items():
            if begin.startswith(magic):
                raise refused(f"the archive as a whole is compressed with {program}", "unpack that first")

    def _place(self, name: str) -> _Place:
        place = self._found(name)
        if place is None:
            raise broken(f"{shown(name)} is missing")
        return place

    def _found(self, name: str) -> _Place | None:
        return self._places.get(name) or self._places.get(self._links.get(name, ""))


def blob_name(digest: str) -> str:
    """Return the name of a blob in a layout. Raises InvalidRequest for what is no digest."""
    found = DIGEST.fullmatch(digest)
    if not found:
        raise refused(f"{shown(digest)} is no SHA-256 digest")
    return f"blobs/sha256/{found[1]}"
