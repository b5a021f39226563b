"""Files that are there as a whole or not at all, and outlive a power cut; the lock against two at once."""

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from joblet_agent.durable import sync_directory
from joblet_agent.errors import HostUnavailable, WrongState

SECRET, PUBLIC = 0o600, 0o644
_LONGEST_WAIT = 30  # seconds; whoever holds the lock needs a fraction of one


def place(path: Path, content: bytes, mode: int) -> None:
    """Put the file in its place with one rename, whatever was there."""
    fresh = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()  # of somebody who was killed
    _write(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), content, mode)
    fresh.rename(path)
    sync_directory(path.parent)


class NewFile:
    """A file for one who asked: made before there is anything to lose, never in the place of another one."""

    def __init__(self, path: Path) -> None:
        """Make sure that it can be written. Raises WrongState if there is such a file, or OSError."""
        self._path = path
        if os.path.lexists(path):
            raise self._taken()
        self._fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
        self._descriptor = os.open(
            self._fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, SECRET
        )

    def write(self, content: bytes) -> None:
        """Fill it and give it its name. Raises WrongState if somebody was faster, or OSError."""
        descriptor, self._descriptor = self._descriptor, -1
        _write(descriptor, content, SECRET)
        try:
            os.link(self._fresh, self._path)  # a rename would replace
        except FileExistsError as error:
            raise self._taken() from error
        sync_directory(self._path.parent)

    def close(self) -> None:
        """Leave nothing but the finished file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(FileNotFoundError):
            self._fresh.unlink()

    def _taken(self) -> WrongState:
        return WrongState(
            f"cannot write {self._path}: there is such a file, and it may hold a key",
            reason="FILE_EXISTS",
            hint="remove it, or name another one with -o",
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only one in the directory within the block. Raises HostUnavailable if another one stays."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _write(descriptor: int, content: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _lock(descriptor: int, directory: Path) -> None:
    def give_up(*_: object) -> NoReturn:
        raise HostUnavailable(
            f"cannot change {directory}: another joblet-agent pki has been at it for {_LONGEST_WAIT} s",
            reason="PKI_BUSY",
            hint="see who it is: fuser -v " + str(directory),
        )

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LONGEST_WAIT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
