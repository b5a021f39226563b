"""Deletes what nothing leads to. Blocking; raises OSError. What is decided is in store.py."""

import logging
import os
import secrets
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.durable import sync_directory
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.runtimes.digest import Kind, read_list
from joblet_agent.runtimes.disk import Ended, names_in
from joblet_agent.runtimes.layout import Layout

__all__ = ["Freed", "collect", "delete", "forget_damage", "unname"]

_GOING = "gone."

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Freed:
    """What a collection has deleted."""

    trees: int
    objects: int
    bytes: int


def unname(layout: Layout, name: str, version: str) -> None:
    """Let NAME@VERSION lead nowhere, also after a loss of power."""
    path = layout.name(name, version)
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
    with suppress(OSError):  # it has other versions
        path.parent.rmdir()


def collect(layout: Layout, digests: Collection[str], everything: bool, ending: threading.Event) -> Freed:
    """Delete the trees, and then objects that no tree has: theirs, or ``everything``. Raises Ended."""
    objects = set() if everything else set(_objects_of(layout, digests))
    going = [(digest, layout.staging / f"{_GOING}{secrets.token_hex(8)}") for digest in digests]
    for digest, path in going:
        with suppress(FileNotFoundError):
            os.rename(layout.tree(digest), path)
    try:
        sync_directory(layout.trees)
    finally:
        for digest, path in going:
            layout.list(digest).unlink(missing_ok=True)
            forget_damage(layout, digest)
            delete([path])
    if everything:
        _delete_lost_lists(layout)
        delete(layout.staging / name for name in names_in(layout.staging) if name.startswith(_GOING))
    count, size = 0, 0
    for path in _all_objects(layout) if everything else objects:
        if ending.is_set():
            raise Ended
        freed = _delete_unused(path)
        if freed is not None:
            count, size = count + 1, size + freed
    return Freed(len(digests), count, size)


def delete(paths: Iterable[Path]) -> None:
    """Delete what is there; what does not go is said in the log, and tried again when the agent starts."""
    for path in paths:
        if failures := remove_tree(path):
            _log.error("cannot delete %s: %s", path, "; ".join(failures[:3]))


def forget_damage(layout: Layout, digest: str) -> None:
    """Let the tree be as good as any."""
    with suppress(FileNotFoundError):
        layout.damage(digest).unlink()
        sync_directory(layout.damaged)


def _objects_of(layout: Layout, digests: Iterable[str]) -> Iterator[Path]:
    for digest in digests:
        try:
            entries = read_list(layout.list(digest).read_bytes())
        except (OSError, ValueError):
            continue  # the next collection looks at all objects
        yield from (layout.object(entry.content, entry.mode) for entry in entries if entry.kind is Kind.FILE)


def _all_objects(layout: Layout) -> Iterator[Path]:
    for start in names_in(layout.objects):
        directory = layout.objects / start
        yield from (directory / name for name in names_in(directory))


def _delete_unused(path: Path) -> int | None:
    """Delete the object if no tree has it; return its bytes, None if it stays."""
    try:
        status = os.lstat(path)
        if status.st_nlink > 1:
            return None
        os.unlink(path)
    except FileNotFoundError:
        return None
    return status.st_size


def _delete_lost_lists(layout: Layout) -> None:
    trees = set(names_in(layout.trees))
    for digest in names_in(layout.lists):
        if digest not in trees:
            (layout.lists / digest).unlink(missing_ok=True)
