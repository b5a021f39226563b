"""What the agent finds in the store when it starts. Blocking; raises OSError."""

import logging
import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.model.runtime import Runtime
from joblet_agent.runtimes.damage import Damage, read_damage
from joblet_agent.runtimes.disk import names_in
from joblet_agent.runtimes.layout import Layout
from joblet_agent.runtimes.names import is_name, is_version
from joblet_agent.runtimes.records import read_runtime

__all__ = ["Found", "read"]

_PRIVATE = 0o700
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SUFFIX = ".json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    """What there is."""

    runtimes: tuple[Runtime, ...]
    trees: set[str]
    damage: dict[str, tuple[Damage, ...]]
    leftovers: list[Path]
    """In staging, and nobody's any more."""


def read(layout: Layout, working: Collection[str]) -> Found:
    """Make the directories, and read what is in them; what cannot be read is said in the log, and stays."""
    for directory in layout.directories:
        directory.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    trees = {name for name in names_in(layout.trees) if _DIGEST.fullmatch(name)}
    runtimes = tuple(_runtimes(layout))
    damage = {digest: found for digest in trees if (found := _damage(layout, digest))}
    for runtime in runtimes:
        if runtime.digest not in trees:
            damage[runtime.digest] = (Damage("", "is missing"),)
            _log.error("runtime %s: its tree is missing", runtime.facts)
    leftovers = [
        layout.staging / name for name in names_in(layout.staging) if name.rpartition(".")[0] not in working
    ]
    return Found(runtimes, trees, damage, leftovers)


def _runtimes(layout: Layout) -> Iterator[Runtime]:
    for name in names_in(layout.names):
        with suppress(OSError):  # a removal that was not finished leaves an empty one; others stay
            os.rmdir(layout.names / name)
        for file in names_in(layout.names / name):
            path = layout.names / name / file
            try:
                runtime = read_runtime(path.read_bytes())
            except (OSError, ValueError) as error:
                _log.error("cannot read %s: %s", path, error)
                continue
            version = file.removesuffix(_SUFFIX)
            is_its_own = (runtime.facts.name, runtime.facts.version) == (name, version)
            if is_its_own and is_name(name) and is_version(version) and _DIGEST.fullmatch(runtime.digest):
                yield runtime
            else:
                _log.error("%s is not of runtime %s@%s", path, name, version)


def _damage(layout: Layout, digest: str) -> tuple[Damage, ...]:
    if not os.path.exists(layout.damage(digest)):
        return ()
    try:
        return read_damage(layout.damage(digest).read_bytes())
    except (OSError, ValueError):
        return (Damage("", "was found to be damaged"),)
