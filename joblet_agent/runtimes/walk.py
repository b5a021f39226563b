"""Goes through a tree of somebody else: follows no link, enters no mount. Blocking; raises OSError."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.tree import DIRECTORY

__all__ = ["FILE", "MOST_DEPTH", "MOST_ENTRIES", "Place", "printable", "walk"]

FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""Flags to open a file, and nothing that only leads to one."""
MOST_DEPTH: Final = 200
"""Each level is a descriptor while the tree is gone through."""
MOST_ENTRIES: Final = 2_000_000


@dataclass(frozen=True, slots=True)
class Place:
    """Something in a tree, until the walk goes on."""

    path: str
    """From the top of the tree; empty for the top itself."""
    directory: int
    """Descriptor of the directory that it is in; of itself for the top."""
    name: str
    """In that directory."""
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Say whether it is one."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Say whether it is a regular one."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Say whether it is a symbolic one."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def mode(self) -> int:
        """Return its permissions, with the three bits in front of them."""
        return stat.S_IMODE(self.status.st_mode)

    def open(self) -> int:
        """Open the file or directory to be read, whoever replaces it by a link meanwhile."""
        return os.open(self.name, DIRECTORY if self.is_directory else FILE, dir_fd=self.directory)

    def target(self) -> str:
        """Return where the link leads."""
        return os.readlink(self.name, dir_fd=self.directory)


def walk(top: Path) -> Iterator[Place]:
    """Yield everything in the tree, directories before what is in them; first the top.

    What is below a mount point is left out. Raises InvalidRequest for a tree without end.
    """
    directory = os.open(top, DIRECTORY)
    try:
        status = os.fstat(directory)
        yield Place("", directory, ".", status)
        for number, place in enumerate(_below(directory, "", status.st_dev, 1), start=1):
            if number > MOST_ENTRIES:
                raise _endless(f"it has more than {MOST_ENTRIES} files and directories")
            yield place
    finally:
        os.close(directory)


def _below(directory: int, above: str, device: int, depth: int) -> Iterator[Place]:
    if depth > MOST_DEPTH:
        raise _endless(f"{printable(above)} is more than {MOST_DEPTH} directories deep")
    with os.scandir(directory) as found:
        entries = list(found)
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        path = above + entry.name
        yield Place(path, directory, entry.name, status)
        if stat.S_ISDIR(status.st_mode) and status.st_dev == device:
            inner = os.open(entry.name, DIRECTORY, dir_fd=directory)
            try:
                yield from _below(inner, f"{path}/", device, depth + 1)
            finally:
                os.close(inner)


def printable(path: str) -> str:
    """Return a path of a tree fit for people: names are bytes, not text."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(part if part.isprintable() else part.encode("unicode_escape").decode() for part in text)


def _endless(fault: str) -> InvalidRequest:
    return InvalidRequest(f"cannot take the tree as a runtime: {fault}", reason="RUNTIME_TREE_REFUSED")
