"""The tree that an image becomes, made of the entries of its layers. Blocking; call from a thread.

Names come from strangers. Each part of a path is opened from the descriptor of the directory above, without
following links; a link on the way is followed here, by hand, as a process would see it that has the tree for
its root: nothing leads out of it, and nobody else writes to the tree meanwhile. Engines of containers do so:
there are images that need it: with files in ``lib/``, where a lower layer has a link to ``usr/lib``.
"""

import errno
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from joblet_agent.new_files import NEW_FILE, write_all
from joblet_agent.runtimes.normalise import MOST_PATH
from joblet_agent.runtimes.oci.refusals import refused, shown, too_large
from joblet_agent.runtimes.walk import MOST_DEPTH

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40
"""On the way to one file, as the kernel has it."""
_MOST_LEVELS: Final = MOST_DEPTH - 1
_MOST_NAME: Final = 255
_ON_THE_WAY: Final = 0o755

Parts = Sequence[str]


class Budget:
    """How much may be made, all layers together; what a later layer removes again was made."""

    def __init__(self, most_bytes: int, most_files: int) -> None:
        """``most_bytes`` 0: no limit but the disk's."""
        self.most_bytes, self.most_files = most_bytes, most_files
        self.size = self.files = 0

    def take(self, size: int = 0) -> None:
        """Count a file or directory that is about to be made. Raises LimitReached."""
        self.files += 1
        self.size += size
        if self.files > self.most_files:
            raise too_large(f"it has more than {self.most_files} files and directories")
        if self.most_bytes and self.size > self.most_bytes:
            raise too_large(f"it has more than {self.most_bytes} bytes of files")


def parts_of(name: str) -> tuple[str, ...]:
    """Return the parts of a name in an archive; none for the root. Raises InvalidRequest for ``..``."""
    parts = tuple(part for part in name.split("/") if part not in {"", "."})
    if ".." in parts:
        raise refused(f"{shown(name)} has '..' in its name")
    if len(os.fsencode(name)) > MOST_PATH or len(parts) > _MOST_LEVELS:
        raise refused(f"{shown(name)}: at most {MOST_PATH} bytes and {_MOST_LEVELS} levels are allowed")
    if any(len(os.fsencode(part)) > _MOST_NAME for part in parts):
        raise refused(f"{shown(name)}: a name has more than {_MOST_NAME} bytes")
    return parts


class ImageTree:
    """Makes and removes below the directory ``top``, which must exist. Raises OSError, InvalidRequest."""

    def __init__(self, top: Path, budget: Budget) -> None:
        self._top = os.open(top, _DIRECTORY)
        self._budget = budget
        self._last: tuple[Parts, int] | None = None
        """The directory that was looked for last: most entries are beside the one before."""
        self._is_stale = False
        """Something was removed that may have been on the way to it."""

    def __enter__(self) -> "ImageTree":
        return self

    def __exit__(self, *_: object) -> None:
        self._forget()
        os.close(self._top)

    def directory(self, parts: Parts, mode: int) -> None:
        """Make a directory; one that is there keeps what is in it, whatever else is there goes.

        The root keeps its mode: jobs must get in.
        """
        if not parts:
            return
        parent, name = self._parent(parts), parts[-1]
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._budget.take()
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
                self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
                self._budget.take()
        os.chmod(name, mode, dir_fd=parent)  # a directory it is, and nobody else is here

    def file(self, parts: Parts, mode: int, size: int, pieces: Iterable[bytes]) -> None:
        """Make a file with that content."""
        self._budget.take(size)
        file = self._new(parts)
        try:
            for piece in pieces:
                write_all(file, piece)
            os.fchmod(file, mode)
        finally:
            os.close(file)

    def link(self, parts: Parts, target: str) -> None:
        """Make a symbolic link, wherever it leads: only what follows it decides where that is."""
        self._budget.take()
        self._fresh(parts)
        os.symlink(target, self._named(parts), dir_fd=self._parent(parts))

    def hard_link(self, parts: Parts, target: Parts) -> None:
        """Give a file of the tree a second name. Raises InvalidRequest if there is no such file."""
        self._budget.take()
        source = self._open(target[:-1], make=False) if target else None
        try:
            if source is None or not _is_file(source, target[-1]):
                to = shown("/".join(target))
                raise refused(f"{shown('/'.join(parts))} is a hard link to {to}, which is no file of it")
            if self._is_same(parts, source, target[-1]):
                return
            self._fresh(parts)
            os.link(
                target[-1],
                self._named(parts),
                src_dir_fd=source,
                dst_dir_fd=self._parent(parts),
                follow_symlinks=False,
            )
        finally:
            if source is not None:
                os.close(source)

    def remove(self, parts: Parts) -> None:
        """Remove what has the name, with all that is in it, if there is anything."""
        parent = self._open(parts[:-1], make=False) if parts else None
        if parent is not None:
            try:
                self._clear(parent, parts[-1])
            finally:
                os.close(parent)

    def empty(self, parts: Parts) -> None:
        """Remove all that is in a directory, if there is one."""
        directory = self._open(parts, make=False)
        if directory is not None:
            try:
                for name in os.listdir(directory):
                    self._clear(directory, name)
            finally:
                os.close(directory)

    def _new(self, parts: Parts) -> int:
        """Return a new file."""
        name, parent = self._named(parts), self._parent(parts)
        try:
            return os.open(name, NEW_FILE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._fresh(parts)
            return os.open(name, NEW_FILE, 0o600, dir_fd=self._parent(parts))

    def _fresh(self, parts: Parts) -> None:
        """Let nothing have the name."""
        self._clear(self._parent(parts), self._named(parts))

    def _named(self, parts: Parts) -> str:
        if not parts:
            raise refused("its root is no directory")
        return parts[-1]

    def _is_same(self, parts: Parts, source: int, name: str) -> bool:
        """Say whether both names are one file already; then nothing must be removed to make it so."""
        try:
            there = os.lstat(self._named(parts), dir_fd=self._parent(parts))
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.lstat(name, dir_fd=source))

    def _clear(self, parent: int, name: str) -> None:
        self._is_stale = True
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            shutil.rmtree(name, dir_fd=parent)

    def _parent(self, parts: Parts) -> int:
        """Return the directory that the name is in, made if it is missing; it stays this class's."""
        wanted = tuple(parts[:-1])
        if self._last is None or self._is_stale or self._last[0] != wanted:
            found = self._open(wanted, make=True)
            assert found is not None
            self._forget()
            self._last = wanted, found
            self._is_stale = False
        return self._last[1]

    def _forget(self) -> None:
        if self._last is not None:
            os.close(self._last[1])
            self._last = None

    def _open(self, parts: Parts, *, make: bool) -> int | None:
        """Return the directory, for the caller to close; None if it is not there and not to be made."""
        here, path = os.dup(self._top), list[str]()
        left, links = deque(parts), 0
        try:
            while left:
                name = left.popleft()
                below: int | str | None
                if name == "..":
                    below, path = self._walked(path[:-1]), path[:-1]
                else:
                    below = self._entered(here, name, make=make)
                    if isinstance(below, int):
                        path.append(name)
                if isinstance(below, int):
                    os.close(here)
                    here = below
                    _check_path(path)
                    continue
                if below is None:
                    os.close(here)
                    return None
                links += 1
                if links > _MOST_LINKS:
                    raise refused(f"{shown('/'.join(parts))}: too many links on the way")
                if below.startswith("/"):
                    os.close(here)
                    here, path = os.dup(self._top), []
                left.extendleft(reversed([part for part in below.split("/") if part not in {"", "."}]))
                if len(left) > MOST_PATH:
                    raise refused(f"{shown('/'.join(parts))}: links on the way are too long")
        except BaseException:
            os.close(here)
            raise
        return here

    def _walked(self, path: Parts) -> int:
        """Return the directory at a path without links, for the caller to close."""
        here = os.dup(self._top)
        for part in path:
            below = os.open(part, _DIRECTORY, dir_fd=here)
            os.close(here)
            here = below
        return here

    def _entered(self, above: int, name: str, *, make: bool) -> int | str | None:
        """Return the directory below, the target of a link, or None if there is nothing."""
        try:
            return os.open(name, _DIRECTORY, dir_fd=above)
        except FileNotFoundError:
            if not make:
                return None
            self._budget.take()
            os.mkdir(name, 0o700, dir_fd=above)
            os.chmod(name, _ON_THE_WAY, dir_fd=above)
            return os.open(name, _DIRECTORY, dir_fd=above)
        except OSError as error:
            if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
                raise
        with suppress(OSError):
            return os.readlink(name, dir_fd=above)
        if not make:
            return None
        raise refused(f"{shown(name)} is a file, and something is to be in it")


def _check_path(path: Parts) -> None:
    if len(path) > _MOST_LEVELS or sum(len(os.fsencode(part)) + 1 for part in path) > MOST_PATH:
        raise refused(
            f"{shown('/'.join(path))}: at most {MOST_PATH} bytes and {_MOST_LEVELS} levels are allowed"
        )


def _is_file(directory: int, name: str) -> bool:
    """Say whether it can have a second name. A link can: it is not followed."""
    try:
        return not stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False
