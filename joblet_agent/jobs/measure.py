"""How much a directory tree takes of a disk, whoever made it."""

import os
from contextlib import suppress
from pathlib import Path

from joblet_agent.jobs.tree import DIRECTORY

_BLOCK = 512


def tree_bytes(top: Path) -> int | None:
    """Return the bytes on disk of everything below the directory; None if it is not there.

    Blocking. Links are not followed; a file with several names counts once. Two descriptors are open at a
    time, however deep the tree is: the way up is ``..``, so nobody may move things meanwhile.
    """
    try:
        here = os.open(top, DIRECTORY)
    except OSError:
        return None
    try:
        total = 0
        levels: list[list[str]] = []
        size, names = _entries(here)
        while True:
            total += size
            while not names:
                if not levels:
                    return total
                here, names = _changed(here, ".."), levels.pop()
            name = names.pop()
            size = 0
            with suppress(OSError):
                here = _changed(here, name)
                levels.append(names)
                size, names = _entries(here)
    finally:
        os.close(here)


def _changed(here: int, name: str) -> int:
    there = os.open(name, DIRECTORY, dir_fd=here)
    os.close(here)
    return there


def _entries(directory: int) -> tuple[int, list[str]]:
    """Return the bytes of the entries, and the names of the directories among them."""
    total, names = 0, []
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * _BLOCK // max(status.st_nlink, 1)
                if entry.is_dir(follow_symlinks=False):
                    names.append(entry.name)
    return total, names
