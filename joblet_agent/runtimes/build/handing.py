"""Trees that somebody else has filled, made ready for the next step. Blocking; follows no link of a tree.

The agent does this itself, as root of the host with CHOWN and DAC_OVERRIDE, while nothing of the build runs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR, S_ISLNK
from typing import Final

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.mount_points import DIRECTORIES, FILES
from joblet_agent.new_files import NEW_FILE
from joblet_agent.runtimes.walk import MOST_DEPTH

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWN: Final = "opt/runtime"
_IDS: Final = 65_536
_OF_THE_HOST: Final = ("etc/hostname", "etc/hosts", "etc/resolv.conf")


def mount_points(tree: Path) -> None:
    """Let there be what systemd mounts something over. Raises InvalidRequest (RUNTIME_TREE_REFUSED)."""
    for name in DIRECTORIES:
        with _opened(tree, os.path.dirname(name)) as parent:
            _make_directory(parent, os.path.basename(name), name)
    for name in FILES:
        with _opened(tree, os.path.dirname(name)) as parent:
            _make_file(parent, os.path.basename(name), is_hosts=name in _OF_THE_HOST)


def hand_over(tree: Path, uid: int, gid: int) -> None:
    """Give everything below /opt/runtime to the user. Raises InvalidRequest (RUNTIME_TREE_REFUSED)."""
    mount_points(tree)
    with _opened(tree, _OWN) as top:
        os.fchown(top, uid, gid)
        os.fchmod(top, 0o755)
        for directory, name, _status in _everything(top):
            os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)


def give_to_namespace(tree: Path, first: int) -> None:
    """Let what is root's of this host be root's of the namespace whose ids begin at ``first``, and so on.

    A tree whose top is the namespace's already is left as it is.
    """
    with _opened(tree, "") as top:
        if not first <= os.fstat(top).st_uid < first + _IDS:
            for directory, name, status in _everything(top):
                uid, gid = (
                    number if number >= first else first + number % _IDS
                    for number in (status.st_uid, status.st_gid)
                )
                os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
            os.fchown(top, first, first)


def _everything(directory: int, depth: int = 1) -> Iterator[tuple[int, str, os.stat_result]]:
    """Yield what is below a directory: the descriptor of where it is, its name there, and what it is."""
    if depth > MOST_DEPTH:
        raise InvalidRequest(
            f"the tree cannot be used: it is more than {MOST_DEPTH} directories deep",
            reason="RUNTIME_TREE_REFUSED",
        )
    with os.scandir(directory) as entries:
        names = [entry.name for entry in entries]
    for name in names:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        yield directory, name, status
        if S_ISDIR(status.st_mode):
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                yield from _everything(inner, depth + 1)
            finally:
                os.close(inner)


@contextmanager
def _opened(tree: Path, name: str) -> Iterator[int]:
    """Open a directory of the tree, one part of its name at a time."""
    descriptor = os.open(tree, _DIRECTORY)
    try:
        for part in filter(None, name.split("/")):
            try:
                inner = os.open(part, _DIRECTORY, dir_fd=descriptor)
            except OSError as error:
                raise _refused(name, error) from error
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _make_directory(parent: int, name: str, path: str) -> None:
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        if not S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise _refused(path, None) from None
        return
    os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 - whatever the umask


def _make_file(parent: int, name: str, *, is_hosts: bool) -> None:
    with suppress(FileNotFoundError):
        is_link = S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
        if not (is_link and is_hosts):
            return
        os.unlink(name, dir_fd=parent)  # to somewhere in /run, where nothing is
    descriptor = os.open(name, NEW_FILE, 0o644, dir_fd=parent)
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)


def _refused(name: str, error: OSError | None) -> InvalidRequest:
    why = "it is no directory" if error is None else f"{error.strerror}"
    return InvalidRequest(f"/{name} of the tree cannot be used: {why}", reason="RUNTIME_TREE_REFUSED")
