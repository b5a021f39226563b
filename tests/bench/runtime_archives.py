"""Runtimes between hosts: 160 MB of this machine's /usr become an archive, and a runtime again.

In this process, with a store of its own beside the agent's: what the way over the network takes is not in it.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.carrier import RuntimeCarrier
from joblet_agent.runtimes.store import RuntimeStore
from tests.bench.agent_service import STATE, AgentService
from tests.bench.measures import Row
from tests.fakes.clock import FakeClock

_SIZE = 160_000_000
_ROUNDS = 3


def run(_: AgentService) -> list[Row]:
    """Measure export and import, the quickest of three: other work on the machine only adds."""
    STATE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as place:
        return asyncio.run(_measure(Path(place)))


async def _measure(place: Path) -> list[Row]:
    here, there = RuntimeStore(place / "here", FakeClock()), RuntimeStore(place / "there", FakeClock())
    await here.open()
    await there.open()
    tree = await here.staging("bench") / "tree"
    await asyncio.to_thread(_fill, tree)
    runtime = await here.add(tree, RuntimeFacts("bench", "1.0.0"))
    sender, receiver = RuntimeCarrier(here, RuntimesConfig()), RuntimeCarrier(there, RuntimesConfig())
    exports, imports, archive = list[_Time](), list[_Time](), place / "bench.tar"
    for _ in range(_ROUNDS):
        begin = _now()
        await sender.export(runtime, archive)
        exports.append(_since(begin))
        begin = _now()
        brought = await receiver.import_archive(archive)
        imports.append(_since(begin))
        if brought.digest != runtime.digest:
            raise RuntimeError("it is another runtime than the one that was exported")
        await _forget(there)
    size = archive.stat().st_size
    await here.close()
    await there.close()
    what = f"{runtime.size / 1e6:.0f} MB in {runtime.files} files"
    return [
        Row("runtime-archives", f"export, {what}", min(exports)[0], "s"),
        Row("runtime-archives", "export, CPU", min(exports)[1], "s"),
        Row("runtime-archives", "its archive", size / 1e6, "MB"),
        Row("runtime-archives", "import, checked and activated", min(imports)[0], "s"),
        Row("runtime-archives", "import, CPU", min(imports)[1], "s"),
    ]


_Time = tuple[float, float]
"""Seconds on the wall, and of the CPU in all threads."""


def _now() -> _Time:
    return time.perf_counter(), time.process_time()


def _since(begin: _Time) -> _Time:
    wall, cpu = _now()
    return wall - begin[0], cpu - begin[1]


async def _forget(store: RuntimeStore) -> None:
    """Let the next import begin with nothing."""
    for runtime in store.all():
        await store.remove(runtime)
    await store.gc()


def _fill(tree: Path) -> None:
    size = 0
    for path in _files(Path("/usr")):
        to = tree / path.relative_to("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, to)
        shutil.copymode(path, to)
        size += path.stat().st_size
        if size >= _SIZE:
            return


def _files(top: Path) -> Iterator[Path]:
    for place, directories, names in os.walk(top):
        directories.sort()
        for name in sorted(names):
            path = Path(place, name)
            if path.is_file() and not path.is_symlink():
                yield path
