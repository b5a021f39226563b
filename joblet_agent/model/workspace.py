"""How much a job may keep in a file system of a size: bytes, and files."""

from typing import Final

LEAST_WORK: Final = 4096
MOST_WORK: Final = 2**50
"""Bytes that the size of a workspace may be limited to."""

_BYTES_PER_FILE: Final = 16 * 1024
"""As mke2fs(8) makes them: who has a share of the space has the same share of the inodes."""
_LEAST_FILES: Final = 1024


def most_files(size: int) -> int:
    """Return how many inodes go with so many bytes.

    Without a limit of their own they are what a job fills a disk with, or the host's memory.
    """
    return max(size // _BYTES_PER_FILE, _LEAST_FILES)
