"""Files whose names must outlast a loss of power."""

import os
from pathlib import Path


def sync_directory(directory: Path) -> None:
    """Make names in the directory last (fsync(2)). Blocking; raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
