"""Files that are made, and never found: whatever has the name already is neither opened nor followed."""

import os
from typing import Final

NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
"""Flags of open(2)."""


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write everything, also where the kernel takes a piece at a time. Blocking; raises OSError."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
