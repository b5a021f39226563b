"""Files with the file systems of volumes. Blocking; call from a thread. Raises OSError."""

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from joblet_agent.units import MIB, format_bytes, readable_bytes

_SPARE = 64 * MIB
"""Bytes that stay free on the host's disk when an image is made."""
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409  # ioctl_ficlone(2)
_COPY_PIECE = 1 << 24
_STEP = 1 << 30
_SUPERBLOCK, _SUPERBLOCK_SIZE = 1024, 1024
_STATE, _INCOMPATIBLE = 0x3A, 0x60  # offsets in the superblock of ext4
_VALID, _NEEDS_RECOVERY = 0x1, 0x4
_REFUSED = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY})


def check_room(directory: Path, size: int) -> None:
    """Raise OSError (ENOSPC) unless so many bytes can be taken from the disk of the directory."""
    status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if size + _SPARE > free:
        raise OSError(
            errno.ENOSPC,
            f"it takes {format_bytes(size)} of the disk of {directory}, "
            f"which has {readable_bytes(free)} left",
        )


def make(image: Path, size: int, is_unwanted: Callable[[], bool] = lambda: False) -> None:
    """Make a file that has all its blocks: what is written to it later cannot fail for a full disk."""
    check_room(image.parent, size)
    descriptor = os.open(image, _NEW, 0o600)
    try:
        _allocate(descriptor, 0, size, is_unwanted)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def extend(image: Path, size: int) -> None:
    """Let the file have more blocks at its end; one that cannot have all gets none."""
    descriptor = os.open(image, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor).st_size
        if size <= before:
            return
        check_room(image.parent, size - before)
        try:
            _allocate(descriptor, before, size, lambda: False)
        except OSError:
            os.ftruncate(descriptor, before)
            raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, start: int, end: int, is_unwanted: Callable[[], bool]) -> None:
    for first in range(start, end, _STEP):
        if is_unwanted():
            raise InterruptedError(errno.EINTR, "it is not wanted any more")
        os.posix_fallocate(descriptor, first, min(_STEP, end - first))


def copy(source: Path, target: Path, is_unwanted: Callable[[], bool] = lambda: False) -> bool:
    """Make a copy of an image that nobody writes to; return whether they share their blocks."""
    with (
        open(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as old,
        open(os.open(target, _NEW, 0o600), "r+b") as new,
    ):
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError as error:
            if error.errno not in _REFUSED:
                raise
        else:
            os.fsync(new.fileno())
            return True
        size = os.fstat(old.fileno()).st_size
        check_room(target.parent, size)
        os.posix_fallocate(new.fileno(), 0, size)
        while os.copy_file_range(old.fileno(), new.fileno(), _COPY_PIECE):
            if is_unwanted():
                raise InterruptedError(errno.EINTR, "it is not wanted any more")
        os.fsync(new.fileno())
    return False


def is_clean(image: Path) -> bool:
    """Say whether the file system was unmounted as it should be; OSError (EUCLEAN) if there is none."""
    with open(os.open(image, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        file.seek(_SUPERBLOCK)
        block = file.read(_SUPERBLOCK_SIZE)
    if len(block) < _SUPERBLOCK_SIZE:
        return False
    (state,) = struct.unpack_from("<H", block, _STATE)
    (incompatible,) = struct.unpack_from("<I", block, _INCOMPATIBLE)
    return bool(state & _VALID) and not incompatible & _NEEDS_RECOVERY


def attached_to(image: Path) -> Path | None:
    """Return the loop device that has the image, wherever it is mounted."""
    for entry in Path("/sys/block").glob("loop*/loop/backing_file"):
        with suppress(OSError):  # it is being detached
            if entry.read_text(encoding="utf-8", errors="replace").rstrip("\n") == str(image):
                return Path("/dev", entry.parent.parent.name)
    return None
