"""Makes files below a directory that only the agent writes to. Blocking; call from a thread.

Every part of a path is opened from the descriptor of its directory and no link is followed, so a path
that was checked (upload_check.py) cannot lead elsewhere, whatever is there.
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from joblet_agent.jobs.upload_check import checked_mode, path_parts
from joblet_agent.model.files import NewFile
from joblet_agent.new_files import NEW_FILE

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a directory, and nothing that only leads to one."""

_PRIVATE = 0o700
_COPY_PIECE = 1 << 26
_ON_THE_WAY = 0o755


class TreeWriter:
    """Writes below the directory ``top``, which must exist. Raises OSError, e.g. for a full disk."""

    def __init__(self, top: Path) -> None:
        self._top = os.open(top, DIRECTORY)

    def __enter__(self) -> "TreeWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the directory go."""
        os.close(self._top)

    def make_directory(self, parts: Sequence[str], mode: int) -> None:
        """Make the directory and those on the way to it; one that is there gets the mode."""
        directory = self._open_directory(parts)
        try:
            os.chmod(directory, mode)
        finally:
            os.close(directory)

    def create(self, parts: Sequence[str], mode: int) -> int:
        """Make an empty file, and the directories on the way to it; return its descriptor."""
        directory = self._open_directory(parts[:-1])
        try:
            file = os.open(parts[-1], NEW_FILE, _PRIVATE, dir_fd=directory)
        finally:
            os.close(directory)
        os.chmod(file, mode)
        return file

    def _open_directory(self, parts: Sequence[str]) -> int:
        here = os.dup(self._top)
        for part in parts:
            above = here
            try:
                with suppress(FileExistsError):
                    os.mkdir(part, _PRIVATE, dir_fd=above)
                    os.chmod(part, _ON_THE_WAY, dir_fd=above)  # whatever the umask
                here = os.open(part, DIRECTORY, dir_fd=above)
            finally:
                os.close(above)
        return here


def write_tree(top: Path, files: Iterable[NewFile]) -> None:
    """Write files and directories that were checked together (upload_check.py)."""
    with TreeWriter(top) as writer:
        for file in files:
            parts = path_parts(file.path, doing="take files")
            if file.is_directory:
                writer.make_directory(parts, checked_mode(file))
                continue
            with open(writer.create(parts, checked_mode(file)), "wb") as content:
                content.write(file.content)


def copy_tree(source: Path, top: Path, is_unwanted: Callable[[], bool] = lambda: False) -> None:
    """Make ``top`` a copy of a tree that only the agent writes to; they share blocks if the disk can.

    No hard links: whoever gets the copy may change it. Raises OSError, also once it ``is_unwanted``.
    """
    for directory, _, files in os.walk(source):
        here = top / Path(directory).relative_to(source)
        here.mkdir(mode=_PRIVATE)
        shutil.copymode(directory, here)
        for name in files:
            _copy_file(Path(directory, name), here / name, is_unwanted)


def copy_part(
    source: Path, top: Path, parts: Sequence[str], is_unwanted: Callable[[], bool] = lambda: False
) -> int:
    """Copy what is at one path of a tree to the same path below ``top``; return how many bytes it has.

    As copy_tree(), but what is there already stays: parts of one tree can be copied one after the other,
    whether they overlap or not. Directories on the way get the modes they have in the tree.
    """
    old, new = source, top
    for part in parts[:-1]:
        old, new = old / part, new / part
        _copy_directory(old, new)
    old, new = old / parts[-1], new / parts[-1]
    if not old.is_dir():
        return 0 if new.exists() else _copy_file(old, new, is_unwanted)
    copied = 0
    for directory, _, files in os.walk(old):
        here = new / Path(directory).relative_to(old)
        _copy_directory(Path(directory), here)
        for name in files:
            if not (here / name).exists():
                copied += _copy_file(Path(directory, name), here / name, is_unwanted)
    return copied


def _copy_directory(source: Path, directory: Path) -> None:
    if not directory.exists():
        directory.mkdir(mode=_PRIVATE)
        shutil.copymode(source, directory)


def _copy_file(source: Path, file: Path, is_unwanted: Callable[[], bool]) -> int:
    with source.open("rb") as old, open(os.open(file, NEW_FILE, _PRIVATE), "wb") as new:
        status = os.fstat(old.fileno())
        os.fchmod(new.fileno(), status.st_mode & 0o777)
        while os.copy_file_range(old.fileno(), new.fileno(), _COPY_PIECE):
            if is_unwanted():
                raise InterruptedError(errno.EINTR, "it is not wanted any more")
    return status.st_size


def entries(top: Path) -> list[str]:
    """Return the paths of all that is below a directory, directories included; nothing if it is not there."""
    found = []
    for place, directories, files in os.walk(top):
        below = os.path.relpath(place, top)
        found += [os.path.normpath(os.path.join(below, name)) for name in (*directories, *files)]
    return found


def give_tree(top: Path, uid: int) -> None:
    """Let everything below, and the directory itself, belong to the user and group."""
    for _, _, names, directory in os.fwalk(top, follow_symlinks=False):
        os.chown(directory, uid, uid)
        for name in names:
            os.chown(name, uid, uid, dir_fd=directory, follow_symlinks=False)


def sync_tree(top: Path) -> None:
    """Have everything below on the disk itself when this returns. Raises OSError."""
    for _, _, names, directory in os.fwalk(top, follow_symlinks=False):
        for name in names:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        os.fsync(directory)
