"""What can be said about the names of files without looking at a disk. Pure."""

from collections.abc import Sequence
from urllib.parse import unquote

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.jobs.check import MOST_PATH, quoted
from joblet_agent.model.files import NewFile

MOST_PART = 255
"""Bytes of one name: NAME_MAX of every usual file system."""
MOST_DEPTH = 128
"""Directories inside one another."""
MOST_TOLD = 1000
"""Paths of an upload that its job's record keeps."""

_FILE_MODE, _DIRECTORY_MODE = 0o644, 0o755
_PERMISSIONS = 0o777


def path_parts(path: str, *, doing: str) -> tuple[str, ...]:
    """Return the names in a path below a workspace.

    Raises InvalidRequest (``cannot {doing}: …``) for a path that is empty, absolute, has a part that is
    empty, ``.`` or ``..``, plainly or percent-encoded, or is longer than a file system takes.
    """
    parts = tuple(path.split("/"))
    problem = _problem(path, parts)
    if problem:
        raise InvalidRequest(
            f"cannot {doing}: path {quoted(path)} {problem}",
            reason="BAD_PATH",
            hint="paths are relative to the job's workspace, for example results/summary.txt",
        )
    return parts


def checked_mode(file: NewFile) -> int:
    """Return the permission bits: what was sent may hold more (setuid, Go's own flags), which nobody gets."""
    return (file.mode & _PERMISSIONS) or (_DIRECTORY_MODE if file.is_directory else _FILE_MODE)


class _Directory:
    """A directory of the tree; a file in it is None."""

    __slots__ = ("entries", "is_sent")

    def __init__(self, *, is_sent: bool = False) -> None:
        self.entries: dict[str, _Directory | None] = {}
        self.is_sent = is_sent
        """It came as an entry, and not only on the way to one."""


class TreeCheck:
    """Says whether files can be together in one tree, one after the other; makes nothing."""

    def __init__(self, most_entries: int) -> None:
        self._most = most_entries
        self._count = 0
        self._top = _Directory()

    def add(self, file: NewFile) -> tuple[str, ...]:
        """Return the parts of the file's path.

        Raises InvalidRequest for a path that is bad, comes twice, or would be file and directory at once,
        and LimitReached for too many of them, directories on the way included.
        """
        parts = path_parts(file.path, doing="take files")
        directory = self._top
        for part in parts[:-1]:
            directory = self._inner(directory, part, file.path)
        name = parts[-1]
        if name not in directory.entries:
            self._add(directory, name, _Directory(is_sent=True) if file.is_directory else None)
            return parts
        present = directory.entries[name]
        if (present is None) == file.is_directory:
            raise _both(file.path)
        if present is None or present.is_sent:
            raise InvalidRequest(
                f"cannot take files: {quoted(file.path)} comes twice", reason="DUPLICATE_PATH"
            )
        present.is_sent = True
        return parts

    def _inner(self, directory: _Directory, name: str, path: str) -> _Directory:
        if name not in directory.entries:
            self._add(directory, name, _Directory())
        inner = directory.entries[name]
        if inner is None:
            raise _both(path)
        return inner

    def _add(self, directory: _Directory, name: str, entry: _Directory | None) -> None:
        if self._count >= self._most:
            raise LimitReached(
                f"cannot take files: there are more than {self._most} (uploads.max_entries)",
                reason="TOO_MANY_FILES",
                hint="send them as one archive that the command unpacks",
            )
        self._count += 1
        directory.entries[name] = entry


def check_tree(files: Sequence[NewFile], most_entries: int) -> None:
    """Raise InvalidRequest or LimitReached unless all the files can be together in one tree."""
    check = TreeCheck(most_entries)
    for file in files:
        check.add(file)


def _both(path: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot take files: {quoted(path)} would be a file and a directory at once", reason="BAD_PATH"
    )


def _problem(path: str, parts: Sequence[str]) -> str:  # noqa: PLR0911 - one return for each rule
    if not path:
        return "is empty"
    if "\0" in path:
        return "contains a NUL byte"
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "is not UTF-8 text"
    if path.startswith("/"):
        return "is absolute"
    if "" in parts:
        return "has an empty part"
    if any(unquote(part) in {".", ".."} for part in parts):
        return "has a part that is . or .."
    if sum(sizes) + len(parts) - 1 > MOST_PATH:
        return f"is longer than {MOST_PATH} bytes"
    if max(sizes) > MOST_PART:
        return f"has a part of more than {MOST_PART} bytes"
    if len(parts) > MOST_DEPTH:
        return f"is deeper than {MOST_DEPTH} directories"
    return ""
