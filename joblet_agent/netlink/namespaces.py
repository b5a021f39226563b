"""Network namespaces: entering them, giving them a name, finding those that have one. Nothing forks.

A thread enters a namespace for as long as it opens netlink sockets and writes settings there; other threads
stay where they are (setns(2)).
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from joblet_agent.model.job import JobId
from joblet_agent.netlink.names import NAMESPACES, job_of, namespace_path

# os.setns and os.unshare come with Python 3.12; mount has never come.
_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 0x1000, 0x4000, 0x100000
_MNT_DETACH = 0x2
_OWN = "/proc/thread-self/ns/net"


def open_own() -> int:
    """Return a descriptor of the calling thread's namespace."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


@contextmanager
def inside(descriptor: int) -> Iterator[None]:
    """Let the calling thread be in the namespace within the block."""
    home = open_own()
    try:
        _enter(descriptor)
        try:
            yield
        finally:
            _return(home)
    finally:
        os.close(home)


@contextmanager
def inside_new() -> Iterator[int]:
    """Let the calling thread be in a new namespace within the block.

    The caller closes the descriptor; without a name, a process or a descriptor a namespace goes by itself.
    """
    home = open_own()
    try:
        _checked(_libc.unshare(_CLONE_NEWNET))
        try:
            yield open_own()
        finally:
            _return(home)
    finally:
        os.close(home)


def prepare_directory() -> None:
    """Let NAMESPACES be a mount of its own that is shared, as ``ip netns`` does when it finds it otherwise.

    If that came later, it would put all names there are under a second mount, and removing one would
    leave its namespace behind.
    """
    NAMESPACES.mkdir(mode=0o755, exist_ok=True)
    directory = os.fsencode(NAMESPACES)
    if _libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None) != 0:  # no mount yet
        _checked(_libc.mount(directory, directory, b"none", _MS_BIND | _MS_REC, None))
        _checked(_libc.mount(b"", directory, b"none", _MS_SHARED | _MS_REC, None))


def give_name(descriptor: int, path: Path) -> None:
    """Mount the namespace at the path, which keeps it alive. Raises FileExistsError if there is something."""
    os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400))
    source = f"/proc/thread-self/fd/{descriptor}".encode()
    try:
        _checked(_libc.mount(source, os.fsencode(path), b"none", _MS_BIND, None))
    except OSError:
        path.unlink()
        raise


def take_name(path: Path) -> None:
    """Unmount what is there and remove the file; a name that is gone is no error."""
    while _libc.umount2(os.fsencode(path), _MNT_DETACH) == 0:  # EINVAL: no mount any more
        pass
    with suppress(FileNotFoundError):
        path.unlink()


def open_named(path: Path) -> int | None:
    """Return a descriptor of the namespace with that name; None if there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if os.fstat(descriptor).st_dev == os.stat(_OWN).st_dev:  # of nsfs; a file without its mount is not
        return descriptor
    os.close(descriptor)
    return None


def named() -> Iterator[tuple[JobId, Path]]:
    """Yield the names of ours, those without a namespace among them."""
    for entry in sorted(os.listdir(NAMESPACES)):
        job_id = job_of(entry)
        if job_id is not None:
            yield job_id, namespace_path(job_id)


def _enter(descriptor: int) -> None:
    _checked(_libc.setns(descriptor, _CLONE_NEWNET))


def _return(home: int) -> None:
    if _libc.setns(home, _CLONE_NEWNET) != 0:
        os.abort()  # whatever came next would be done to another namespace than is meant


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
