"""Makes files below a directory that only the agent writes to. Blocking; call from a thread.

Every part of a path is opened from the descriptor of its directory and no link is followed, so a path
that was checked (upload_check.py) cannot lead elsewhere, whatever is there.
"""

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from joblet_agent.jobs.upload_check import checked_mode, path_parts
from joblet_agent.model.files import NewFile

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags to open a directory, and nothing that only leads to one."""

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PRIVATE = 0o700
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
            file = os.open(parts[-1], _NEW_FILE, _PRIVATE, dir_fd=directory)
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
