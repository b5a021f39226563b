"""Copies files into a volume that hostile jobs may be changing this very moment. Blocking: use a thread.

Every directory is opened from the descriptor of the one above, without following links, and a file appears
by a rename into an open directory, complete and as its owner's. So whatever a name becomes between two calls,
nothing outside of the volume is written to, and what was there under the name is replaced, not written to.
"""

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from joblet_agent.jobs.tree import DIRECTORY
from joblet_agent.new_files import NEW_FILE

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20
_DIRECTORY_MODE = 0o770


class Put:
    """One copy; ``count`` and ``size`` tell how far it is."""

    def __init__(self, number: int, is_unwanted: Callable[[], bool] = lambda: False) -> None:
        """Let what is made belong to the user and group ``number``."""
        self.count = 0
        self.size = 0
        self._number = number
        self._is_unwanted = is_unwanted

    def tree(self, source: Path, contents: Path, parts: Sequence[str]) -> None:
        """Copy all below ``source``, which only the agent writes to, into a directory of the volume.

        Directories that are not there are made. Raises OSError: ENOTDIR and ELOOP for what is no directory,
        EISDIR for a directory where a file is to be.
        """
        place = os.open(contents, DIRECTORY)
        try:
            for part in parts:
                place = self._entered(place, part)
            self._copy(source, place)
        finally:
            os.close(place)

    def _entered(self, above: int, name: str) -> int:
        """Return the directory below, made if it is missing; the one above is closed."""
        below = self._opened(above, name)
        os.close(above)
        return below

    def _opened(self, above: int, name: str) -> int:
        is_new = False
        with suppress(FileExistsError):
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=above)
            is_new = True
        below = os.open(name, DIRECTORY, dir_fd=above)
        try:
            if is_new:
                os.fchown(below, self._number, self._number)
        except OSError:
            os.close(below)
            raise
        return below

    def _copy(self, source: Path, place: int) -> None:
        with os.scandir(source) as entries:
            for entry in entries:
                if self._is_unwanted():
                    raise InterruptedError(errno.EINTR, "it is not wanted any more")
                if entry.is_dir(follow_symlinks=False):
                    below = self._opened(place, entry.name)
                    try:
                        self._copy(Path(entry.path), below)
                    finally:
                        os.close(below)
                else:
                    self._copy_file(entry.path, entry.name, place)

    def _copy_file(self, source: str, name: str, place: int) -> None:
        fresh = f".joblet-{secrets.token_hex(16)}"
        file = os.open(fresh, NEW_FILE, 0o600, dir_fd=place)
        try:
            with open(file, "wb") as new, open(os.open(source, _READ), "rb") as old:
                shutil.copyfileobj(old, new, _PIECE)
                new.flush()
                mode = os.fstat(old.fileno()).st_mode & 0o700
                os.fchmod(file, mode | mode >> 3)  # the group may do what its owner may, others nothing
                os.fchown(file, self._number, self._number)
                self.size += os.fstat(file).st_size
            os.rename(fresh, name, src_dir_fd=place, dst_dir_fd=place)
        except OSError:
            with suppress(FileNotFoundError):
                os.unlink(fresh, dir_fd=place)
            raise
        self.count += 1
