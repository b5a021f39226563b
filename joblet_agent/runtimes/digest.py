"""The list of what is in a tree, and the digest of that, which is the identity of a runtime.

The list is ``joblet-tree 1``, then for each entry, in the order of the paths' bytes, the type (d, f or l),
the mode in octal, the path, and the SHA-256 of the content or the link's target:
``f0644 etc/hosts NUL HEX NUL``.
Neither paths nor targets have a NUL, so one list is of one tree. Owner and times are those of every tree.
"""

import hashlib
import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from pathlib import Path
from typing import Final

from joblet_agent.runtimes.disk import Ended
from joblet_agent.runtimes.walk import Place, walk

__all__ = ["Entry", "Kind", "digest_of", "digest_of_tree", "entry_of", "list_of", "read_list", "sha256_of"]

_HEAD: Final = b"joblet-tree 1\0"
_LINK_MODE = 0o777
_PIECE = 1 << 18


class Kind(Enum):
    """What there is in trees."""

    DIRECTORY = "d"
    FILE = "f"
    LINK = "l"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree."""

    path: str
    kind: Kind
    mode: int
    content: str = ""
    """SHA-256 of a file, target of a link."""


def list_of(entries: Iterable[Entry]) -> bytes:
    """Return the list of the entries, whose order is of no importance."""
    lines = sorted(((os.fsencode(entry.path), entry) for entry in entries), key=itemgetter(0))
    return _HEAD + b"".join(
        b"%s%04o %s\0%s\0" % (entry.kind.value.encode(), entry.mode, path, os.fsencode(entry.content))
        for path, entry in lines
    )


def read_list(text: bytes) -> list[Entry]:
    """Read a list. Raises ValueError for anything else."""
    head, *fields = text.split(b"\0")
    if head + b"\0" != _HEAD or len(fields) % 2 != 1 or fields[-1]:
        raise ValueError("not a list of a tree")
    entries = []
    for what, content in zip(fields[:-1:2], fields[1::2], strict=True):
        facts, _, path = what.partition(b" ")
        entries.append(
            Entry(os.fsdecode(path), Kind(facts[:1].decode()), int(facts[1:], 8), os.fsdecode(content))
        )
    return entries


def digest_of(entries: Iterable[Entry]) -> str:
    """Return the digest of a tree with these entries."""
    return hashlib.sha256(list_of(entries)).hexdigest()


def digest_of_tree(tree: Path) -> str:
    """Return the digest of a tree on disk. Blocking; raises OSError, and ValueError for what no tree has."""
    never = threading.Event()
    return digest_of(entry_of(place, never) for place in walk(tree))


def entry_of(place: Place, ending: threading.Event) -> Entry:
    """Return what the list says of it. Blocking; raises OSError, Ended, ValueError for what no tree has."""
    if place.is_directory:
        return Entry(place.path, Kind.DIRECTORY, place.mode)
    if place.is_link:
        return Entry(place.path, Kind.LINK, _LINK_MODE, place.target())
    if not place.is_file:
        raise ValueError(f"{place.path} is neither file nor directory nor link")
    descriptor = place.open()
    try:
        return Entry(place.path, Kind.FILE, place.mode, sha256_of(descriptor, ending))
    finally:
        os.close(descriptor)


def sha256_of(descriptor: int, ending: threading.Event) -> str:
    """Return the SHA-256 of the file's content from where it is read now. Blocking; raises OSError, Ended."""
    found = hashlib.sha256()
    while piece := os.read(descriptor, _PIECE):
        if ending.is_set():
            raise Ended
        found.update(piece)
    return found.hexdigest()
