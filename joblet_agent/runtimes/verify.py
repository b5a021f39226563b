"""Compares a tree with its list. Blocking; raises OSError, Ended."""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from joblet_agent.runtimes import layout as places
from joblet_agent.runtimes.damage import Damage, damage_text
from joblet_agent.runtimes.digest import Entry, Kind, digest_of, entry_of, list_of, read_list
from joblet_agent.runtimes.disk import publish, write_new
from joblet_agent.runtimes.gc import forget_damage
from joblet_agent.runtimes.layout import Layout
from joblet_agent.runtimes.walk import Place, printable, walk

__all__ = ["mark", "verify"]

_KINDS = {Kind.DIRECTORY: "a directory", Kind.FILE: "a file", Kind.LINK: "a link"}


def verify(layout: Layout, digest: str, ending: threading.Event) -> tuple[Damage, ...]:
    """Return what is wrong with the tree, by path. What is damaged is no object any more."""
    tree = layout.tree(digest)
    try:
        text = layout.list(digest).read_bytes()
    except FileNotFoundError:
        text = b""
    if hashlib.sha256(text).hexdigest() != digest:
        return _verify_alone(layout, tree, digest, ending)
    return tuple(_compare(layout, tree, {entry.path: entry for entry in read_list(text)}, ending))


def mark(layout: Layout, digest: str, found: Sequence[Damage]) -> None:
    """Remember what is wrong with the tree; nothing: forget what was."""
    if not found:
        forget_damage(layout, digest)
        return
    new = layout.staging / f"damage.{secrets.token_hex(8)}"
    write_new(new, damage_text(found))
    publish(new, layout.damage(digest))


def _verify_alone(layout: Layout, tree: Path, digest: str, ending: threading.Event) -> tuple[Damage, ...]:
    """Compare with the digest itself: the list is lost, and of a whole tree it can be made again."""
    entries = []
    for place in walk(tree):
        try:
            entries.append(entry_of(place, ending))
        except ValueError:
            return (Damage(printable(place.path), "does not belong there"),)
    if digest_of(entries) != digest:
        return (Damage("", "has another digest, and the list that would tell what is wrong is damaged"),)
    new = layout.staging / f"list.{secrets.token_hex(8)}"
    write_new(new, list_of(entries))
    publish(new, layout.list(digest))
    return ()


def _compare(
    layout: Layout, tree: Path, wanted: dict[str, Entry], ending: threading.Event
) -> Iterator[Damage]:
    found = set()
    for place in walk(tree):
        found.add(place.path)
        entry = wanted.get(place.path)
        for what in _faults(layout, place, entry, ending) if entry else ["does not belong there"]:
            yield Damage(printable(place.path), what)
    for path in sorted(wanted.keys() - found):
        yield Damage(printable(path), "is missing")


def _faults(layout: Layout, place: Place, entry: Entry, ending: threading.Event) -> Iterator[str]:
    try:
        present = entry_of(place, ending)
    except ValueError:
        yield f"is no longer {_KINDS[entry.kind]}"
        return
    if present.kind is not entry.kind:
        yield f"is {_KINDS[present.kind]} instead of {_KINDS[entry.kind]}"
        return
    if (place.status.st_uid, place.status.st_gid) != places.OWNER:
        yield f"belongs to {place.status.st_uid}:{place.status.st_gid} instead of root"
    if present.mode != entry.mode:
        yield f"has the mode {present.mode:04o} instead of {entry.mode:04o}"
    if present.content != entry.content:
        yield (
            f"leads to {printable(present.content)} instead of {printable(entry.content)}"
            if (entry.kind is Kind.LINK)
            else "has another content"
        )
    if entry.kind is Kind.FILE and present != entry:
        _give_up_object(layout.object(entry.content, entry.mode), place)


def _give_up_object(path: Path, place: Place) -> None:
    """Let the next tree with this file have another copy."""
    with suppress(FileNotFoundError):
        if os.path.samestat(os.lstat(path), place.status):
            path.unlink()
