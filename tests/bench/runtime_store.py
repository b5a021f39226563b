"""The store of runtimes: activation, verification, what a second runtime on the same base costs, names."""

import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.catalog import RuntimeCatalog
from joblet_agent.runtimes.store import RuntimeStore
from tests.bench.agent_service import AgentService
from tests.bench.measures import Bound, Row, percentile

_FILES, _OWN = 15_000, 15_000
_DIRECTORY = 15
"""Files in each, as in a Python runtime."""
_MOST_BYTES = 40_000
_RUNTIMES, _LOOKS = 200, 1000
_MB = 1e6


class _Clock:
    def now(self) -> datetime:
        return datetime.now(UTC)


def run(_service: AgentService) -> list[Row]:
    """Measure a store of the benchmark's own, on the disk of /var/tmp; no agent is asked."""
    home = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        return asyncio.run(_run(RuntimeStore(home / "runtimes", _Clock())))
    finally:
        shutil.rmtree(home)


async def _run(store: RuntimeStore) -> list[Row]:
    await store.open()
    tree = await store.staging("bench")
    size = _plant(tree, "base", _FILES)
    os.sync()
    begin = time.perf_counter()
    base = await store.add(tree, RuntimeFacts("base", "1.0.0"))
    activated = time.perf_counter() - begin
    begin = time.perf_counter()
    damage = await store.verify(base)
    verified = time.perf_counter() - begin
    if damage:
        raise SystemExit(f"bench: {damage[0]}")
    before = _disk_bytes(store.tree(base.digest).parent.parent)
    begin = time.perf_counter()
    copy = await store.staging("bench") / "tree"
    await store.check_out(base.digest, copy)
    copied = time.perf_counter() - begin
    own = _plant(copy, "own", _OWN)
    begin = time.perf_counter()
    await store.add(copy, RuntimeFacts("second", "1.0.0", base=base.digest))
    second = time.perf_counter() - begin
    after = _disk_bytes(store.tree(base.digest).parent.parent)
    own_blocks = sum(-(-one // 4096) * 4096 for one in _sizes("own", _OWN))
    looks, faults = await _resolve(store)
    begin = time.perf_counter()
    await store.remove(base)
    removed = time.perf_counter() - begin
    await store.close()
    title = f"{_FILES} files, {size / _MB:.0f} MB"
    return [
        Row("runtime-store", f"activation of {title}", activated, "s", Bound(3)),
        Row("runtime-store", "verification", size / _MB / verified, "MB/s", Bound(150, is_least=True)),
        Row("runtime-store", "copy of it, to build on", copied, "s"),
        Row("runtime-store", f"activation with {_OWN} files of its own, {own / _MB:.0f} MB", second, "s"),
        Row("runtime-store", "bytes on disk : its own", (after - before) / own_blocks, "x", Bound(1.05)),
        Row("runtime-store", f"name of one of {_RUNTIMES}, p50", percentile(looks, 50), "ms"),
        Row("runtime-store", f"name of one of {_RUNTIMES}, p99", percentile(looks, 99), "ms", Bound(2)),
        Row("runtime-store", "name that nobody has, p99", percentile(faults, 99), "ms"),
        Row("runtime-store", f"removal of the name, {_FILES} files stay with the second", removed, "s"),
    ]


def _sizes(seed: str, count: int) -> list[int]:
    return [random.Random(f"{seed}-{number}").randint(1, _MOST_BYTES) for number in range(count)]


def _plant(tree: Path, seed: str, count: int) -> int:
    """Make files of different content; return their bytes."""
    sizes = _sizes(seed, count)
    for number, size in enumerate(sizes):
        directory = tree / "usr/lib" / seed / str(number // _DIRECTORY)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / str(number)).write_bytes(random.Random(f"{seed}{number}").randbytes(size))
    return sum(sizes)


def _disk_bytes(top: Path) -> int:
    """Return what everything below takes on the disk, each file once, names and directories included."""
    blocks = {}
    for directory, _, names in os.walk(top):
        for path in [directory, *(os.path.join(directory, name) for name in names)]:
            status = os.lstat(path)
            blocks[status.st_ino] = status.st_blocks * 512
    return sum(blocks.values())


async def _resolve(store: RuntimeStore) -> tuple[list[float], list[float]]:
    """Return the ms that it takes to find runtimes by name, and to say that there is none."""
    names = [f"python-3.{number}-ml" for number in range(_RUNTIMES)]
    for name in names:
        tree = await store.staging("bench")
        await store.add(tree, RuntimeFacts(name, "1.0.0"))
    catalog = RuntimeCatalog(store)

    def fail(name: str) -> None:
        with suppress(InvalidRequest):
            catalog.resolve(name)

    wanted = random.Random(1).choices(range(_RUNTIMES), k=_LOOKS)
    return (
        [_ms(catalog.resolve, f"python:3.{number}-ml") for number in wanted],
        [_ms(fail, f"pyton:3.{number}-ml") for number in wanted[:100]],
    )


def _ms(call: Callable[[str], object], name: str) -> float:
    begin = time.perf_counter()
    call(name)
    return (time.perf_counter() - begin) * 1e3
