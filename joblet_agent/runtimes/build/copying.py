"""A copy of a tree of the store, which can be written to: files of its own, no links to objects."""

import os
import shutil
from pathlib import Path
from typing import Final

from joblet_agent.new_files import NEW_FILE
from joblet_agent.runtimes.walk import Place, walk
from joblet_agent.runtimes.working import Wanted

__all__ = ["copy_tree", "empty"]

_PIECE: Final = 1 << 26


def copy_tree(source: Path, into: Path, wanted: Wanted) -> None:
    """Copy what is below ``source`` into the empty directory ``into``. Blocking; raises OSError, Unwanted."""
    modes: list[tuple[Path, int]] = []
    for place in walk(source):
        wanted.check()
        path = into / place.path
        if place.is_directory:
            if place.path:
                path.mkdir(0o700)
            modes.append((path, place.mode))
        elif place.is_link:
            os.symlink(place.target(), path)
        elif place.is_file:
            _copy_file(place, path)
    for path, mode in reversed(modes):
        path.chmod(mode)


def _copy_file(place: Place, path: Path) -> None:
    source = place.open()
    try:
        target = os.open(path, NEW_FILE, 0o600)
        try:
            left = place.status.st_size
            while left and (copied := os.sendfile(target, source, None, min(left, _PIECE))):
                left -= copied
            os.fchmod(target, place.mode)
        finally:
            os.close(target)
    finally:
        os.close(source)


def empty(directory: Path) -> None:
    """Let there be a directory of ours with nothing in it. Blocking; raises OSError.

    It belongs to the agent, as what is going to be in it does: steps see by that whose it is (handing.py).
    """
    directory.mkdir(exist_ok=True)
    directory.chmod(0o755)
    os.chown(directory, os.geteuid(), os.getegid())
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
