"""Files of an ended job's ``/work`` that other jobs get: copies of root's, within limits.

The job may have made anything of their names (jobs/work_files.py): what is no regular file or directory is
left out, and told. Blocking.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from joblet_agent.errors import JobletError
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.tree import TreeWriter
from joblet_agent.jobs.work_files import read_tree
from joblet_agent.model.files import FileKind, FilePiece, WorkFile
from joblet_agent.units import format_bytes
from joblet_agent.workflows.places import parts_of

MOST_ENTRIES = 10_000
"""Files and directories of one job."""

_KEPT_FREE = 20
"""A twentieth of the disk stays free: the state database is there, too."""
_PERMISSIONS, _OWN = 0o777, 0o700


class _OverLimit(Exception):
    """More than may be kept; none is."""


class OutputFiles:
    """Copies into a directory ``top`` that is made for it."""

    def __init__(self, top: Path, most: int) -> None:
        """``most``: bytes of all files."""
        self._top = top
        self._most = most
        self._bytes = 0
        self._entries = 0
        self._seen: set[tuple[str, ...]] = set()

    def take(self, work: Path, paths: Sequence[str]) -> list[str]:
        """Copy these paths of a workspace, each to the same path; return what could not be taken, and why.

        If there is more than the limits allow, nothing is kept. Raises OSError if the disk refuses copies.
        """
        self._top.mkdir(mode=_OWN)
        problems: list[str] = []
        try:
            with TreeWriter(self._top) as writer:
                for path in paths:
                    problems += self._take(writer, work, path)
        except _OverLimit as error:
            remove_tree(self._top)
            return [str(error)]
        return problems

    def _take(self, writer: TreeWriter, work: Path, path: str) -> Iterator[str]:
        file = -1
        try:
            parts = parts_of(path, doing="take outputs")
            with closing(read_tree(work, parts)) as pieces:
                for piece in pieces:
                    if piece.file is None:
                        _write(file, piece)
                        continue
                    file = _close(file)
                    name = (*parts, *piece.file.name.split("/")) if piece.file.name else parts
                    self._count()
                    if piece.skipped:
                        yield f"{quoted('/'.join(name))} is left out: {piece.skipped}"
                    elif name not in self._seen:
                        file = self._begin(writer, name, piece.file)
        except JobletError as error:
            yield str(error)
        finally:
            _close(file)

    def _begin(self, writer: TreeWriter, name: tuple[str, ...], file: WorkFile) -> int:
        """Make room for an entry; return the descriptor of a file, -1 for a directory."""
        self._seen.add(name)
        self._bytes += file.size
        if self._bytes > self._most:
            raise _OverLimit(
                f"its output files have more than {format_bytes(self._most)} (workflows.max_outputs); "
                "none is kept"
            )
        self._check_room(file.size)
        mode = file.mode & _PERMISSIONS
        if file.kind is FileKind.DIRECTORY:
            writer.make_directory(name, mode | _OWN)
            return -1
        descriptor = writer.create(name, mode)
        os.truncate(descriptor, file.size)  # holes come without pieces
        return descriptor

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MOST_ENTRIES:
            raise _OverLimit(f"there are more than {MOST_ENTRIES} output files; none is kept")

    def _check_room(self, size: int) -> None:
        room = os.statvfs(self._top)
        if room.f_bavail * room.f_frsize - size < room.f_blocks * room.f_frsize // _KEPT_FREE:
            raise _OverLimit("too little room on the agent's disk for its output files; none is kept")


def _write(file: int, piece: FilePiece) -> None:
    if file >= 0:  # else it was taken before
        os.pwrite(file, piece.content, piece.offset)


def _close(file: int) -> int:
    if file >= 0:
        os.close(file)
    return -1
