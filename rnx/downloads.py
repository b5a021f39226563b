"""Writes what an agent sends of a job's files. The agent may lie: nothing outside the target is written.

Every name is checked, no link is followed or made, a file is complete before it has its name, and what is
there already stays unless the user says otherwise.
"""

import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from rnx.exits import RnxError
from rnx.output import Format, clean, show
from rnx.progress import Progress

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_ZEROS = bytes(64 * 1024)


def receive(form: Format, chunks: Iterable[Any], place: str | None, name: str, *, force: bool) -> None:
    """Write what comes to ``place`` (``-`` for standard output, else see ``target_of``) and say what it was.

    With ``force``, what is there is replaced.
    """
    if place == "-":
        write_to(sys.stdout.buffer, chunks)
        return
    target = target_of(place, name)
    try:
        count, skipped = save(target, chunks, force=force)
    except OSError as error:
        raise RnxError(f"cannot write {target}: {error.strerror}") from error
    data = {"target": str(target), "files": count, "left_out": skipped}
    left = f", {skipped} left out" if skipped else ""
    show(form, data, lambda: f"{count} files in {clean(str(target))}{left}")


def write_to(output: BinaryIO, chunks: Iterable[Any]) -> None:
    """Write one file to a stream, its holes as zeros."""
    size, written = 0, 0
    for chunk in chunks:
        if chunk.HasField("file"):
            if chunk.file.kind != "file":
                raise RnxError("cannot write a directory to standard output", hint="give a directory: -o DIR")
            size = chunk.file.size
        _check_place(chunk, written, size)
        _fill(output, chunk.offset - written if chunk.content else 0)
        output.write(chunk.content)
        written = max(written, chunk.offset + len(chunk.content))
    _fill(output, size - written)
    output.flush()


def save(target: Path, chunks: Iterable[Any], *, force: bool) -> tuple[int, int]:
    """Write a file or directory to ``target``; return how many files, and how many entries were left out.

    With ``force``, what is there is replaced, file by file; without, it is an error.
    """
    with Progress("Downloading", 0) as progress:
        saving = _Saving(target, progress, force=force)
        try:
            for chunk in chunks:
                saving.take(chunk)
            saving.end_file()
        finally:
            saving.abandon()
    return saving.file_count, saving.skipped_count


def target_of(place: str | None, name: str) -> Path:
    """Return where something called ``name`` goes: into the directory ``place``, or to that path."""
    if place is None:
        return Path(name)
    return Path(place, name) if Path(place).is_dir() else Path(place)


class _Saving:
    """The state of one download."""

    def __init__(self, target: Path, progress: Progress, *, force: bool) -> None:
        self.file_count = 0
        self.skipped_count = 0
        self._target = target
        self._progress = progress
        self._force = force
        self._has_begun = False
        self._file: BinaryIO | None = None
        self._path = target
        self._part = target
        self._info: Any = None
        self._position = 0

    def take(self, chunk: Any) -> None:
        """Write what one message says."""
        if chunk.HasField("file"):
            self.end_file()
            self._begin(chunk)
        if chunk.content:
            if self._file is None:
                raise _lies("content of no file")
            _check_place(chunk, self._position, self._info.size)
            self._file.seek(chunk.offset)
            self._file.write(chunk.content)
            self._position = chunk.offset + len(chunk.content)
            self._progress.add(len(chunk.content))

    def end_file(self) -> None:
        """Give the file that is being written its size, mode and name."""
        if self._file is None:
            return
        self._file.truncate(self._info.size)
        self._file.close()
        self._file = None
        os.chmod(self._part, self._info.mode & 0o777)
        os.replace(self._part, self._path)
        self.file_count += 1

    def abandon(self) -> None:
        """Remove a file that did not become complete."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)

    def _begin(self, chunk: Any) -> None:
        info = chunk.file
        path = self._place(info.name)
        if chunk.skipped:
            print(f"rnx: left out {clean(info.name)}: {clean(chunk.skipped)}", file=sys.stderr)
            self.skipped_count += 1
        elif info.kind == "directory":
            self._make_directory(path, info.mode)
        elif info.kind == "file":
            self._make_file(path, info)
        else:
            raise _lies(f"something that is neither a file nor a directory: {info.kind}")

    def _place(self, name: str) -> Path:
        """Return where the entry goes. Only the first one has no name."""
        if not self._has_begun:
            self._has_begun = True
            if name:
                raise _lies("a first entry with a name")
            if not self._force and os.path.lexists(self._target):
                raise _exists(self._target)
            return self._target
        parts = name.split("/")
        if any(not _is_plain(part) for part in parts):
            raise _lies(f"a path that leads elsewhere: {name}")
        here = self._target
        for part in parts[:-1]:
            here = here / part
            if here.is_symlink() or not here.is_dir():
                raise RnxError(f"cannot write {here / parts[-1]}: {here} is no directory")
        return here / parts[-1]

    def _make_directory(self, path: Path, mode: int) -> None:
        if path.is_symlink():
            raise RnxError(f"cannot write {path}: it is a link")
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            path.chmod((mode & 0o777) | 0o700)  # or nothing could be written into it
        except OSError as error:
            raise RnxError(f"cannot write {path}: {error.strerror}") from error

    def _make_file(self, path: Path, info: Any) -> None:
        try:
            if os.path.lexists(path) and (not self._force or not stat.S_ISREG(path.lstat().st_mode)):
                raise _exists(path)
            self._part = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
            self._file = open(os.open(self._part, _NEW_FILE, 0o600), "wb")  # noqa: SIM115 - closed in end_file
        except OSError as error:
            raise RnxError(f"cannot write {path}: {error.strerror}") from error
        self._path, self._info, self._position = path, info, 0
        self._progress.expect(info.size)


def _check_place(chunk: Any, position: int, size: int) -> None:
    if chunk.content and not (position <= chunk.offset and chunk.offset + len(chunk.content) <= size):
        raise _lies("content that does not belong into the file")


def _fill(output: BinaryIO, count: int) -> None:
    while count > 0:
        output.write(_ZEROS[:count])
        count -= len(_ZEROS)


def _is_plain(part: str) -> bool:
    foreign = {os.sep, os.altsep or os.sep, "\0"} | ({":", "\\"} if os.name == "nt" else set())
    return part not in {"", ".", ".."} and not any(letter in part for letter in foreign)


def _lies(what: str) -> RnxError:
    return RnxError(f"cannot go on: the agent sent {what}")


def _exists(path: Path) -> RnxError:
    return RnxError(f"cannot write {path}: it exists", hint="give another place with -o, or --force")
