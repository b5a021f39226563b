"""Jobs with a runtime next to jobs without: to the first instruction, and how many a second."""

import asyncio
import shutil
import subprocess
from pathlib import Path

from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.store import RuntimeStore
from tests.bench.agent_service import STATE, AgentService
from tests.bench.commands import NOTHING, TIMESTAMP
from tests.bench.measures import Bound, Row, median, percentile
from tests.bench.turns import agent_client
from tests.fakes.clock import FakeClock

_JOBS = 120
_ROUNDS, _BATCH, _WORKERS = 6, 96, 16
_PROGRAMS = (NOTHING[0], TIMESTAMP[0])


def run(service: AgentService) -> list[Row]:
    """Measure the same programs, from the host and from a tree that has them alone, in turns."""
    service.start()
    service.stop()
    asyncio.run(_add_runtime(_files()))
    service.start()
    with agent_client() as client:
        without, with_one = client.ask("starts_with", runtimes=["", "bench"], jobs=_JOBS)
        plain_rates, own_rates = [], []
        for _ in range(_ROUNDS):
            plain_rates.append(client.ask("rate", runtime="", jobs=_BATCH, workers=_WORKERS))
            own_rates.append(client.ask("rate", runtime="bench", jobs=_BATCH, workers=_WORKERS))
    service.clear_jobs()
    rows = []
    for rank in (25, 50):
        plain, own = percentile(without, rank), percentile(with_one, rank)
        rows += [
            Row("runtime-start", f"first instruction, no runtime, p{rank}", plain, "ms"),
            Row("runtime-start", f"first instruction, runtime, p{rank}", own, "ms"),
            Row("runtime-start", f"runtime : none, p{rank}", own / plain, "x", Bound(1.1)),
        ]
    ratio = median([own / plain for plain, own in zip(plain_rates, own_rates, strict=True)])
    return [
        *rows,
        Row("runtime-start", "no runtime, median of rounds", median(plain_rates), "jobs/s"),
        Row("runtime-start", "runtime, median of rounds", median(own_rates), "jobs/s"),
        Row("runtime-start", "runtime : none, median of rounds", ratio, "x", Bound(0.95, is_least=True)),
    ]


def _files() -> list[str]:
    """Return the programs and all that they are linked with."""
    linked = subprocess.run(["ldd", *_PROGRAMS], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    return [*_PROGRAMS, *{word for word in linked if word.startswith("/") and not word.endswith(":")}]


async def _add_runtime(files: list[str]) -> None:
    store = RuntimeStore(STATE / "runtimes", FakeClock())
    await store.open()
    tree = await store.staging("bench")
    for file in files:
        place = tree / Path(file).relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)
    await store.add(tree, RuntimeFacts("bench", "1.0.0"))
    await store.close()
