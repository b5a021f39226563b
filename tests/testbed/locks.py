"""File locks that tell the living from the dead.

A lock belongs to an open file, so the kernel drops it when its last holder ends, in
whatever way. That makes it a better sign of life than a process id in a file.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def acquire(path: Path, *, shared: bool = False, wait: bool = True) -> int | None:
    """Lock ``path``, creating it, and return the file descriptor that holds the lock.

    Without ``wait``: None when somebody else holds it. Close the descriptor to release.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def held(path: Path, *, shared: bool = False) -> Iterator[int]:
    """Hold the lock on ``path`` for the length of a block; waits for it."""
    descriptor = acquire(path, shared=shared)
    assert descriptor is not None
    try:
        yield descriptor
    finally:
        os.close(descriptor)
