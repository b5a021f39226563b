"""What the store asks of the disk, and its refusals in our words. Blocking; raises OSError."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from joblet_agent.durable import is_full, sync_directory
from joblet_agent.errors import HostUnavailable
from joblet_agent.new_files import NEW_FILE, write_all

__all__ = ["Ended", "disk_errors", "names_in", "publish", "sync_file_system", "write_new"]

_libc = ctypes.CDLL(None, use_errno=True)


class Ended(Exception):
    """The agent is about to end, and so does what a thread of it is at."""


@contextmanager
def disk_errors(act: str) -> Iterator[None]:
    """Raise HostUnavailable for what the disk refuses within the block: ``cannot ACT``."""
    try:
        yield
    except Ended:
        raise HostUnavailable(
            f"cannot {act}: the agent is about to end", reason="AGENT_ENDS", hint="try again"
        ) from None
    except OSError as error:
        if is_full(error):
            raise HostUnavailable(
                f"cannot {act}: the disk is full",
                reason="RUNTIME_DISK_FULL",
                hint="make room, for instance by: rnx runtime remove, rnx runtime gc",
            ) from error
        raise HostUnavailable(
            f"cannot {act}: {error.strerror or error}",
            reason="RUNTIME_DISK_FAILED",
            hint="see the journal of the host: journalctl --dmesg",
        ) from error


def sync_file_system(directory: Path) -> None:
    """Have everything that was written to the file system on the disk itself (syncfs(2)).

    One call for all files of a tree: 15,000 of fsync(2) take minutes on some disks.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes) -> None:
    """Write a file that is not there, and have its content on the disk."""
    descriptor = os.open(path, NEW_FILE, 0o600)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(new: Path, path: Path) -> None:
    """Let a complete file be found at the path, instead of what is there, also after a loss of power."""
    os.rename(new, path)
    sync_directory(path.parent)


def names_in(directory: Path) -> list[str]:
    """Return the names in the directory; none if there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
