"""The folder outside the checkout that keeps what is dear to make.

``images/NAME-KEY`` are finished artifacts, each with ``NAME-KEY.lock`` beside it: held
exclusively while it is made, shared while it is used. ``machines/NAME`` are running
machines. An artifact that no checkout has used for ``UNUSED_FOR`` is removed when another
of its name is made.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from tests.testbed import locks

UNUSED_FOR = timedelta(days=7)


def cache_dir() -> Path:
    """``$JOBLET_TEST_CACHE``, or ``~/.cache/joblet-testbed``; created when missing."""
    configured = os.environ.get("JOBLET_TEST_CACHE")
    path = Path(configured) if configured else Path.home() / ".cache" / "joblet-testbed"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def subdirectory(name: str) -> Path:
    """A folder of that name in the cache; created when missing."""
    path = cache_dir() / name
    path.mkdir(exist_ok=True)
    return path


@contextmanager
def artifact(name: str, key: str, build: Callable[[Path], None]) -> Iterator[Path]:
    """The artifact ``name`` with ``key``, made by ``build`` if nobody has yet.

    ``build`` gets a path that does not exist and must create a folder there. Two runs that
    want the same artifact make it once; a half-made one is never seen. While the block
    runs the artifact is not removed.
    """
    images = subdirectory("images")
    path = images / f"{name}-{key}"
    lock = images / f"{name}-{key}.lock"
    while True:
        with locks.held(lock, shared=True) as descriptor:
            if path.is_dir():
                os.utime(descriptor)
                yield path
                return
        with locks.held(lock):
            if not path.is_dir():
                _make(path, build)
        remove_unused(name, keep=path)


def _make(path: Path, build: Callable[[Path], None]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        build(unfinished)
        unfinished.rename(path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unused(
    name: str | None = None, *, keep: Path | None = None, age: timedelta = UNUSED_FOR
) -> list[Path]:
    """Remove artifacts (of that name) that nobody uses and nobody has used for ``age``."""
    removed = []
    for lock in sorted(subdirectory("images").glob(f"{name}-*.lock" if name else "*.lock")):
        path = lock.with_suffix("")
        if path == keep or not path.is_dir() or time.time() - lock.stat().st_mtime < age.total_seconds():
            continue
        descriptor = locks.acquire(lock, wait=False)
        if descriptor is None:
            continue
        shutil.rmtree(path)
        os.close(descriptor)
        removed.append(path)
    return removed
