"""Process of the bare client (see bare_units); its argument is the root directory of the jobs.

It is measured strictly: files are prepared before the clock runs and removed after it has stopped.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.bench.bare_units import BareUnits, Ended
from tests.bench.clients import answer_questions
from tests.bench.commands import NOTHING, TAIL, TIMESTAMP, WARM_UPS, last_line

_ROOT = Path(sys.argv[1])


@asynccontextmanager
async def _units() -> AsyncIterator[BareUnits]:
    """Connect for one question, and run some jobs that are not measured."""
    units = BareUnits(_ROOT)
    await units.open()
    for _ in range(WARM_UPS):
        await _end_with(units, await units.run(units.prepare(*NOTHING)))
    yield units
    units.close()


async def _end_with(units: BareUnits, ended: Ended) -> None:
    await units.release(ended)
    units.remove(ended)


async def first_instructions(jobs: int) -> list[float]:
    """Return, for each of some jobs one after the other, the ms from its start to its first instruction."""
    async with _units() as units:
        return [await _first_instruction(units) for _ in range(jobs)]


async def starts_without(variants: list[list[str]], rounds: int) -> list[list[float]]:
    """Return the same for each variant of the unit, which lacks some properties; a round starts each once."""
    async with _units() as units:
        told = [[await _first_instruction(units, without) for without in variants] for _ in range(rounds)]
    return [list(series) for series in zip(*told, strict=True)]


async def _first_instruction(units: BareUnits, without: Sequence[str] = ()) -> float:
    ended = await units.run(units.prepare(*TIMESTAMP), without)
    began_ns = int(last_line(ended.plan.log.read_bytes()))
    await _end_with(units, ended)
    return (began_ns - ended.sent_ns) / 1e6


async def rate(jobs: int, workers: int) -> float:
    """Return how many jobs a second end when so many run in parallel."""
    async with _units() as units:
        plans = [units.prepare(*NOTHING) for _ in range(jobs)]
        waiting = iter(plans)
        done: list[Ended] = []
        releases: list[asyncio.Task[None]] = []

        async def work() -> None:
            for plan in waiting:
                ended = await units.run(plan)
                done.append(ended)
                releases.append(asyncio.create_task(units.release(ended)))

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        seconds = time.perf_counter() - begin
        await asyncio.gather(*releases)
        for ended in done:
            units.remove(ended)
    return jobs / seconds


async def write(command: list[str]) -> float:
    """Run a command that ends its output with the ns it took, and return them as seconds."""
    async with _units() as units:
        ended = await units.run(units.prepare(*command))
        with ended.plan.log.open("rb") as log:
            log.seek(-TAIL, os.SEEK_END)
            seconds = int(last_line(log.read())) / 1e9
        await _end_with(units, ended)
    return seconds


if __name__ == "__main__":
    answer_questions(
        {
            "first_instructions": first_instructions,
            "starts_without": starts_without,
            "rate": rate,
            "write": write,
        }
    )
