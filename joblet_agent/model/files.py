"""File values: what is sent with a job, and what is found in its workspace.

Paths are relative to the workspace, with ``/`` between their parts.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class FileKind(StrEnum):
    """What an entry of a workspace is, by its text on the wire."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    OTHER = "other"
    """A FIFO, a socket: nothing that can be read."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file or directory that somebody wants in a workspace; its path is not checked yet."""

    path: str
    mode: int = 0
    """Permission bits; 0 for the usual ones. Other bits are ignored."""
    is_directory: bool = False
    size: int = 0
    """Bytes it will have, where they come later."""
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files that come with a job: in the request, or sent before; not both."""

    files: tuple[NewFile, ...] = ()
    staged_id: str = ""
    """Of a streamed upload; empty for none."""


NO_UPLOADS = Uploads()


@dataclass(frozen=True, slots=True)
class UploadPart:
    """A piece of a streamed upload: begins an entry, goes on with the file begun last, ends it, or all."""

    entry: NewFile | None = None
    offset: int = 0
    content: bytes = b""
    sha256: bytes = b""
    """Digest of the whole file; empty while it goes on."""


@dataclass(frozen=True, slots=True)
class StagedUpload:
    """Files that arrived and wait for their job."""

    id: str
    file_count: int
    total_bytes: int
    paths: tuple[str, ...]
    """The first of their paths (jobs/upload_check.py, MOST_TOLD)."""
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class WorkFile:
    """An entry of a workspace as it was seen a moment ago."""

    name: str
    """In its directory, or below what was asked for; bytes that are not UTF-8 as ``\\xNN``."""
    kind: FileKind
    size: int
    mode: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class FilePiece:
    """A piece of a download: begins an entry, or goes on with the file begun last."""

    file: WorkFile | None = None
    offset: int = 0
    """Of the content in the file; what no piece has are zeros."""
    content: bytes = b""
    skipped: str = ""
    """Why the entry comes without its content; empty if it does come."""
