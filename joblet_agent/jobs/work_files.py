"""Looks into the workspace of a job that is hostile and may be changing it this very moment.

Every name is opened from the descriptor of its directory, without following a link and without waiting for
a FIFO, and only what then is a regular file on the workspace's own file system is read. So whatever a
name becomes between two calls, nothing outside is ever opened. Blocking; the generators keep descriptors
until they are closed (pieces.py).
"""

import errno
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.tree import DIRECTORY
from joblet_agent.jobs.upload_check import MOST_DEPTH
from joblet_agent.model.files import FileKind, FilePiece, WorkFile

PIECE = 256 * 1024
"""Bytes of content in one piece of a download."""
LIST_BATCH = 500
"""Entries in one piece of a list."""
MOST_ENTRIES = 1_000_000
"""Of one list or download: a job may make files faster than anybody can take them."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_REFUSED = {FileKind.LINK: "a symbolic link", FileKind.OTHER: "no regular file"}


def list_directory(top: Path, parts: Sequence[str]) -> Iterator[list[WorkFile]]:
    """Yield the entries of a directory of the workspace ``top``, some at a time.

    Raises NotFound, InvalidRequest for what is no directory, LimitReached.
    """
    with _Place(top, parts) as place:
        directory = place.descriptor
        if not stat.S_ISDIR(os.fstat(directory).st_mode):
            raise InvalidRequest(
                f"cannot list files: {place.shown} is a file, not a directory", reason="NOT_A_DIRECTORY"
            )
        count, batch = 0, []
        with os.scandir(directory) as entries:
            for entry in entries:
                count += 1
                _check_count(count)
                if (found := _seen(entry.name, directory)) is not None:
                    batch.append(found)
                if len(batch) == LIST_BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch


def read_tree(top: Path, parts: Sequence[str], shown: str = "/work") -> Generator[FilePiece, None, None]:
    """Yield a file of the workspace ``top``, or a directory with all that is below it.

    ``shown`` is what errors call the workspace.

    A file is read up to the size that it has when it is opened, holes are left out. In a directory, links
    and what is no regular file come without content. Raises NotFound, InvalidRequest, LimitReached.
    """
    with _Place(top, parts, shown) as place:
        status = os.fstat(place.descriptor)
        yield FilePiece(_work_file("", status))
        if stat.S_ISDIR(status.st_mode):
            yield from _Walk(status.st_dev).pieces(place.descriptor)
        else:
            yield from _content(place.descriptor, status.st_size)


def read_start(top: Path, parts: Sequence[str], most: int) -> bytes:
    """Return the first bytes of a file of the workspace ``top``.

    Raises NotFound, and InvalidRequest for what is no regular file.
    """
    with _Place(top, parts) as place:
        if stat.S_ISDIR(os.fstat(place.descriptor).st_mode):
            raise InvalidRequest(f"cannot read files: {place.shown}: it is a directory", reason="NOT_A_FILE")
        return os.pread(place.descriptor, most, 0)


class _Place:
    """The open descriptor of a path in a workspace: of a directory or a regular file, nothing else."""

    def __init__(self, top: Path, parts: Sequence[str], shown: str = "/work") -> None:
        self.shown = quoted("/".join(parts) or shown)
        self.descriptor = self._open(top, parts)

    def __enter__(self) -> "_Place":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def _open(self, top: Path, parts: Sequence[str]) -> int:
        try:
            here = os.open(top, DIRECTORY)
        except FileNotFoundError as error:
            raise NotFound(
                "cannot read files: the job has none; it left none, or they are no longer kept",
                reason="NO_FILES",
                hint="how long files are kept: retention.work_for, retention.work_size",
            ) from error
        device = os.fstat(here).st_dev
        for place, part in enumerate(parts, start=1):
            above = here
            try:
                here = os.open(part, _READ if place == len(parts) else DIRECTORY, dir_fd=above)
            except OSError as error:
                raise self._refused(error) from error
            finally:
                os.close(above)
        status = os.fstat(here)
        if status.st_dev != device or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            os.close(here)
            raise self._not_readable("it is neither a file nor a directory")
        return here

    def _refused(self, error: OSError) -> JobletError:
        if error.errno == errno.ENOENT:
            return NotFound(
                f"cannot read files: there is no {self.shown}",
                reason="FILE_NOT_FOUND",
                hint="see what is there: list or fetch the directory",
            )
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            return self._not_readable("it leads through a symbolic link, or through what is no directory")
        if error.errno in {errno.ENXIO, errno.ENODEV}:
            return self._not_readable("it is neither a file nor a directory")
        return HostUnavailable(
            f"cannot read files: {self.shown}: {error.strerror}", reason="CANNOT_READ_FILES"
        )

    def _not_readable(self, why: str) -> InvalidRequest:
        return InvalidRequest(f"cannot read files: {self.shown}: {why}", reason="NOT_A_FILE")


class _Walk:
    """Goes through a tree, a directory before what is in it."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._count = 0

    def pieces(self, directory: int, prefix: str = "", depth: int = 0) -> Iterator[FilePiece]:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._count += 1
                _check_count(self._count)
                found = _seen(entry.name, directory)
                if found is not None:
                    yield from self._entry(entry.name, found, directory, prefix, depth)

    def _entry(
        self, name: str, seen: WorkFile, directory: int, prefix: str, depth: int
    ) -> Iterator[FilePiece]:
        file = _renamed(seen, prefix + seen.name)
        why = _REFUSED.get(seen.kind, "")
        if name != seen.name:
            why = "its name is not UTF-8"
        elif seen.kind is FileKind.DIRECTORY and depth == MOST_DEPTH:
            why = f"deeper than {MOST_DEPTH} directories"
        if why:
            yield FilePiece(file, skipped=why)
            return
        try:
            descriptor = os.open(
                name, DIRECTORY if seen.kind is FileKind.DIRECTORY else _READ, dir_fd=directory
            )
        except OSError as error:  # it became something else, or went away
            yield FilePiece(file, skipped=f"it cannot be opened: {error.strerror}")
            return
        try:
            yield from self._opened(descriptor, file, depth)
        finally:
            os.close(descriptor)

    def _opened(self, descriptor: int, file: WorkFile, depth: int) -> Iterator[FilePiece]:
        status = os.fstat(descriptor)
        if status.st_dev != self._device:
            yield FilePiece(file, skipped="on another file system")
        elif stat.S_ISDIR(status.st_mode) and file.kind is FileKind.DIRECTORY:
            yield FilePiece(_work_file(file.name, status))
            yield from self.pieces(descriptor, file.name + "/", depth + 1)
        elif stat.S_ISREG(status.st_mode):
            yield FilePiece(_work_file(file.name, status))
            yield from _content(descriptor, status.st_size)
        else:
            yield FilePiece(file, skipped="it became something else")


def _content(descriptor: int, size: int) -> Iterator[FilePiece]:
    offset = 0
    while offset < size:
        try:
            offset = os.lseek(descriptor, offset, os.SEEK_DATA)
            end = min(os.lseek(descriptor, offset, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole to the end, or the file was cut
                return
            raise
        while offset < end:
            content = os.pread(descriptor, min(PIECE, end - offset), offset)
            if not content:
                return
            yield FilePiece(offset=offset, content=content)
            offset += len(content)


def _seen(name: str, directory: int) -> WorkFile | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None  # it went away meanwhile
    return _work_file(os.fsencode(name).decode("utf-8", "backslashreplace"), status)


def _work_file(name: str, status: os.stat_result) -> WorkFile:
    kind = _kind(status.st_mode)
    return WorkFile(
        name=name,
        kind=kind,
        size=status.st_size if kind is FileKind.FILE else 0,
        mode=stat.S_IMODE(status.st_mode),
        modified_at=_time(status.st_mtime),
    )


def _renamed(file: WorkFile, name: str) -> WorkFile:
    return WorkFile(name, file.kind, file.size, file.mode, file.modified_at)


def _kind(mode: int) -> FileKind:
    if stat.S_ISREG(mode):
        return FileKind.FILE
    if stat.S_ISDIR(mode):
        return FileKind.DIRECTORY
    return FileKind.LINK if stat.S_ISLNK(mode) else FileKind.OTHER


def _time(seconds: float) -> datetime:
    """Return the time; a job may set one that no calendar has."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _check_count(count: int) -> None:
    if count > MOST_ENTRIES:
        raise LimitReached(
            f"cannot read files: there are more than {MOST_ENTRIES}",
            reason="TOO_MANY_FILES",
            hint="ask for a directory below",
        )
