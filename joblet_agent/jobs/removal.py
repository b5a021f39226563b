"""Removes a directory tree that somebody hostile made.

``shutil.rmtree`` recurses and keeps a descriptor open for each level: a job that nests some
thousand directories makes it raise RecursionError, or run out of descriptors. Here every directory
is first moved to the top of the tree, so the depth is always one. Links are never followed, and
mounts are never entered: a mount point cannot be renamed (EBUSY, rename(2)).
"""

import os
from collections.abc import Callable
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(directory: Path) -> list[str]:
    """Remove the directory, or whatever it is; return what could not be removed and why.

    Blocking. Nothing may write to the tree meanwhile: its job has ended.
    """
    try:
        top = os.open(directory, _DIRECTORY)
    except FileNotFoundError:
        return []
    except OSError:  # a link, or something else that is no directory
        return _failures_of(os.unlink, directory)
    try:
        failures = _TreeRemover(top).empty()
    finally:
        os.close(top)
    return failures or _failures_of(os.rmdir, directory)


class _TreeRemover:
    """Empties the directory of a descriptor."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._failures: list[str] = []
        self._waiting: list[str] = []
        # A job cannot have guessed these names.
        self._prefix = os.urandom(16).hex()
        self._moved = 0

    def empty(self) -> list[str]:
        self._clear(self._top)
        while self._waiting:
            self._dissolve(self._waiting.pop())
        return self._failures

    def _dissolve(self, name: str) -> None:
        try:
            directory = os.open(name, _DIRECTORY, dir_fd=self._top)
            try:
                self._clear(directory)
            finally:
                os.close(directory)
            os.rmdir(name, dir_fd=self._top)
        except OSError as error:
            self._failures.append(f"{name}: {error.strerror}")

    def _clear(self, directory: int) -> None:
        """Unlink all files of the directory and move its directories to the top."""
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        self._move_up(entry.name, directory)
                    else:
                        os.unlink(entry.name, dir_fd=directory)
                except OSError as error:
                    self._failures.append(f"{entry.name}: {error.strerror}")

    def _move_up(self, name: str, directory: int) -> None:
        if name.startswith(self._prefix):
            return  # moved a moment ago: the top may show what was added while it is read
        staged = f"{self._prefix}-{self._moved}"
        self._moved += 1
        os.rename(name, staged, src_dir_fd=directory, dst_dir_fd=self._top)
        self._waiting.append(staged)


def _failures_of(remove: Callable[[Path], None], path: Path) -> list[str]:
    try:
        remove(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{path.name}: {error.strerror}"]
    return []
