"""Definitions of runtimes and their lock files on this side: read within bounds, and where the lock is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.runtime_file import Definition, FileInvalid, load
from joblet_agent.yaml_file.problems import Problem
from rnx.exits import RnxError, UsageError

MOST_BYTES = 1024 * 1024
"""Of a definition."""
MOST_LOCK_BYTES = 16 * 1024 * 1024
"""Of a lock file: the digests of some hundred thousand packages."""


class DefinitionInvalid(RnxError):
    """A definition that nothing can be built from; ``problems`` has all that is wrong, by its place."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("runtime definition is invalid")
        self.more = FileInvalid(problems).shown(str(path))


@dataclass(frozen=True, slots=True)
class Source:
    """A definition that was read and checked."""

    path: Path
    text: str
    definition: Definition

    @property
    def lock_path(self) -> Path:
        """Return where its lock file belongs: what the definition says, else beside it."""
        return self.path.parent / (self.definition.lock or self.path.with_suffix(".lock").name)


def read_definition(name: str) -> Source:
    """Return the definition in a file. Raises RnxError; DefinitionInvalid has all that is wrong."""
    path = Path(name)
    text = read(path, MOST_BYTES, "the definition")
    try:
        return Source(path, text, load(text, path.name))
    except FileInvalid as error:
        raise DefinitionInvalid(path, error.problems) from error


def read_lock(source: Source, given: str | None, *, locked: bool) -> str:
    """Return the text of the lock file to build with; empty for none.

    The one that is given, else the one that the definition names, else, with ``locked``, the one beside it.
    Raises UsageError for one that is wanted and is not there.
    """
    if given is not None:
        return read(Path(given), MOST_LOCK_BYTES, "the lock file")
    path = source.lock_path
    if locked and not path.exists():
        raise UsageError(
            f"cannot build with --locked: there is no lock file {path}",
            hint=f"make it: rnx runtime lock -f {source.path}",
        )
    if locked or (source.definition.lock and path.exists()):
        return read(path, MOST_LOCK_BYTES, "the lock file")
    return ""


def read(path: Path, most: int, what: str) -> str:
    """Return the text of a file. Raises RnxError if it cannot be read, is not UTF-8 or has too many bytes."""
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise RnxError(f"cannot read {what} {path}: {error.strerror}") from error
    if len(content) > most:
        raise RnxError(f"cannot read {what} {path}: it has more than {most} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RnxError(f"cannot read {what} {path}: not UTF-8") from error
