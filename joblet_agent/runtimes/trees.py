"""Makes a tree of the store: hard links to objects. Blocking; raises OSError.

An object is a file by its content and mode. What no tree has yet becomes an object without being copied, if
the tree that it is from is on the same file system; objects are never written to.
"""

import errno
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from joblet_agent.new_files import NEW_FILE
from joblet_agent.runtimes import layout
from joblet_agent.runtimes.digest import Entry, Kind, digest_of, entry_of
from joblet_agent.runtimes.walk import Place, walk

__all__ = ["MadeTree", "TreeMaker", "copy_file"]

_PRIVATE = 0o700
_PIECE = 1 << 26
_TRIES = 4
"""An object may go, or be full of links, between two looks."""


@dataclass(frozen=True, slots=True)
class MadeTree:
    """What was made."""

    entries: list[Entry]
    digest: str
    size: int
    """Bytes of its files, each content once."""
    files: int


@dataclass(slots=True)
class TreeMaker:
    """Makes one tree, in a directory on the file system of the store that is not there yet."""

    layout: layout.Layout
    into: Path
    ending: threading.Event
    _made: list[str] = field(default_factory=list)
    _parents: set[str] = field(default_factory=set)
    """Directories of objects that are there."""
    _own_links: Counter[int] = field(default_factory=Counter)
    _sizes: dict[str, int] = field(default_factory=dict)

    def make(self, source: Path) -> MadeTree:
        """Make the tree like another one, which is normal (normalise.py) and stays. Raises Ended."""
        self._own_links = Counter(
            place.status.st_ino for place in walk(source) if place.is_file and place.status.st_nlink > 1
        )
        entries: list[Entry] = []
        for place in walk(source):
            entry = entry_of(place, self.ending)
            entries.append(entry)
            self._make_one(place, entry)
        for entry in reversed(entries):
            self._finish(entry)
        return MadeTree(entries, digest_of(entries), sum(self._sizes.values()), self._files(entries))

    def undo(self) -> None:
        """Remove the objects that were made and that no tree has, once the tree itself is where it stays."""
        for path in self._made:
            try:
                if os.lstat(path).st_nlink == 1:
                    os.unlink(path)
            except FileNotFoundError:
                continue

    @staticmethod
    def _files(entries: list[Entry]) -> int:
        return sum(entry.kind is Kind.FILE for entry in entries)

    def _make_one(self, place: Place, entry: Entry) -> None:
        path = f"{self.into}/{entry.path}"  # many: making a Path takes as long as the system call
        match entry.kind:
            case Kind.DIRECTORY:
                os.mkdir(path, _PRIVATE)
            case Kind.LINK:
                os.symlink(entry.content, path)
                os.utime(path, (layout.MTIME, layout.MTIME), follow_symlinks=False)
            case Kind.FILE:
                self._sizes[f"{entry.content}-{entry.mode}"] = place.status.st_size
                self._link(place, entry, path)

    def _finish(self, entry: Entry) -> None:
        """Give a directory its mode and time, when everything is in it."""
        if entry.kind is Kind.DIRECTORY:
            path = self.into / entry.path
            os.chmod(path, entry.mode)
            os.utime(path, (layout.MTIME, layout.MTIME))

    def _link(self, place: Place, entry: Entry, path: str) -> None:
        found = str(self.layout.object(entry.content, entry.mode))
        for _ in range(_TRIES):
            try:
                os.link(found, path)
            except FileNotFoundError:
                self._make_object(place, found)
            except OSError as error:
                if error.errno != errno.EMLINK:
                    raise
                # ext4 has 65,000 links to a file. Trees keep theirs; new ones get those of a second copy.
                self._copy_object(place, found)
            else:
                return
        raise OSError(errno.EAGAIN, "objects vanish as they are made", found)

    def _make_object(self, place: Place, found: str) -> None:
        parent = os.path.dirname(found)
        if parent not in self._parents:
            self._parents.add(parent)
            Path(parent).mkdir(mode=_PRIVATE, exist_ok=True)
        if self._is_of_another(place):
            return self._copy_object(place, found)
        try:
            os.link(place.name, found, src_dir_fd=place.directory, follow_symlinks=False)
        except FileExistsError:
            return None
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EMLINK}:
                raise
            return self._copy_object(place, found)
        self._made.append(found)
        return None

    def _is_of_another(self, place: Place) -> bool:
        """Say whether somebody else has a link to the file, through which it could be written to later."""
        links = place.status.st_nlink
        return links > 1 and self._own_links[place.status.st_ino] < links

    def _copy_object(self, place: Place, found: str) -> None:
        copy = self.into.parent / "object"
        copy_file(place, copy)
        os.rename(copy, found)
        self._made.append(found)


def copy_file(place: Place, path: Path) -> None:
    """Make a file with the same content and mode, and the time that all have."""
    source = place.open()
    try:
        target = os.open(path, NEW_FILE, _PRIVATE)
        try:
            left = place.status.st_size
            while left and (copied := os.sendfile(target, source, None, min(left, _PIECE))):
                left -= copied
            os.fchmod(target, place.mode)
            os.utime(target, (layout.MTIME, layout.MTIME))
        finally:
            os.close(target)
    finally:
        os.close(source)
