"""Makes a copy of a tree that shares its files. Blocking; raises OSError."""

import errno
import os
from pathlib import Path

from joblet_agent.runtimes import layout
from joblet_agent.runtimes.trees import copy_file
from joblet_agent.runtimes.walk import Place, walk

__all__ = ["check_out"]

_PRIVATE = 0o700


def check_out(tree: Path, into: Path) -> None:
    """Make ``into`` like the tree, with hard links to its files where there may be more, else with copies."""
    directories = []
    for place in walk(tree):
        path = into / place.path
        if place.is_directory:
            os.mkdir(path, _PRIVATE)
            directories.append((path, place.mode))
        elif place.is_link:
            os.symlink(place.target(), path)
            os.utime(path, (layout.MTIME, layout.MTIME), follow_symlinks=False)
        else:
            _link(place, path)
    for path, mode in reversed(directories):
        os.chmod(path, mode)
        os.utime(path, (layout.MTIME, layout.MTIME))


def _link(place: Place, path: Path) -> None:
    try:
        os.link(place.name, path, src_dir_fd=place.directory, follow_symlinks=False)
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
        copy_file(place, path)
