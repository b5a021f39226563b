"""Files that must outlast a loss of power, and a disk that has no room for them."""

import errno
import os
from pathlib import Path

_FULL = {errno.ENOSPC, errno.EDQUOT}


def sync_directory(directory: Path) -> None:
    """Make names in the directory last (fsync(2)). Blocking; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(error: OSError) -> bool:
    """Tell whether the disk, or what the user may have of it, is used up."""
    return error.errno in _FULL
