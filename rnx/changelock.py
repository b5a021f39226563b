"""One change of the configuration at a time, in whatever way its process ends: the system keeps the lock."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _open(directory: Path) -> int:
        """Open a file of its own: Windows opens no directories."""
        return os.open(directory / ".rnx-config.lock", os.O_RDWR | os.O_CREAT, 0o600)

    def _lock(descriptor: int) -> None:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _finish(descriptor: int) -> None:
        """Do nothing: a name is as lasting as its file there."""

else:
    import fcntl

    def _open(directory: Path) -> int:
        return os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _finish(descriptor: int) -> None:
        """Have the new name on the disk before anybody is told."""
        os.fsync(descriptor)


class Taken(Exception):
    """Somebody else is changing it."""


@contextmanager
def one_at_a_time(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory; what was renamed in it lasts when it is given back. Raises Taken."""
    descriptor = _open(directory)
    try:
        try:
            _lock(descriptor)
        except OSError as error:
            raise Taken from error
        yield
        _finish(descriptor)
    finally:
        os.close(descriptor)
