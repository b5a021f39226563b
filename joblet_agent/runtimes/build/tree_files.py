"""Reads and writes single files of a tree that hostile programs have made. Blocking; raises OSError.

Nothing here follows a link: not to the host, and not to another place of the tree either.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.new_files import NEW_FILE
from joblet_agent.runtimes.build.plan import PlannedFile

__all__ = ["names_in", "read_file", "write_files"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
MOST_READ: Final = 32 * 1024 * 1024


def write_files(tree: Path, files: Sequence[PlannedFile]) -> None:
    """Write the files, with the directories that are missing.

    Raises InvalidRequest (RUNTIME_BUILD_FILE) where something else than a directory is on the way.
    """
    for file in files:
        *above, name = file.path.strip("/").split("/")
        try:
            with _directory(tree, above, make=True) as directory:
                _write(directory, name, file)
        except (NotADirectoryError, IsADirectoryError, PermissionError) as error:
            raise _in_the_way(file) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _in_the_way(file) from error
            raise


def _in_the_way(file: PlannedFile) -> InvalidRequest:
    return InvalidRequest(
        f"cannot write {file.path} of the definition: on the way there is a link, or a file, in the tree",
        reason="RUNTIME_BUILD_FILE",
        hint="choose another path in files",
    )


def _write(directory: int, name: str, file: PlannedFile) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    descriptor = os.open(name, NEW_FILE, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "wb") as target:
        target.write(file.content.encode("utf-8", "surrogateescape"))
        os.fchmod(target.fileno(), file.mode & 0o777)


@contextmanager
def _directory(tree: Path, names: Sequence[str], *, make: bool = False) -> Iterator[int]:
    descriptor = os.open(tree, _DIRECTORY)
    try:
        for name in names:
            is_new = make and _make(name, descriptor)
            inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
            if is_new:
                os.fchmod(descriptor, 0o755)  # whatever the umask
        yield descriptor
    finally:
        os.close(descriptor)


def _make(name: str, above: int) -> bool:
    try:
        os.mkdir(name, dir_fd=above)
    except FileExistsError:
        return False
    return True


def read_file(tree: Path, path: str) -> bytes:
    """Return what is in a file of the tree; nothing for what is no file, or is not there."""
    *above, name = path.strip("/").split("/")
    try:
        with _directory(tree, above) as directory:
            descriptor = os.open(name, _READ, dir_fd=directory)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return b""
                return file.read(MOST_READ)
    except OSError:
        return b""


def names_in(tree: Path, path: str) -> list[str]:
    """Return the names in a directory of the tree, in order; none if there is no such directory."""
    try:
        with _directory(tree, path.strip("/").split("/")) as directory:
            return sorted(os.listdir(directory))
    except OSError:
        return []
