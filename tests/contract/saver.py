"""Saves jobs in a process of its own that a test can kill or limit: `saver.py PATH [LARGEST_FILE_BYTES]`.

Prints the number of each job once its save has returned. With a limit it saves until the limit is met,
prints the error's reason, lifts the limit and saves one more.
"""

import asyncio
import os
import resource
import sys
from pathlib import Path

from joblet_agent.errors import StoreFailed
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import record

TOGETHER = 10


def tell(text: object) -> None:
    os.write(1, f"{text}\n".encode())


async def save_lane(store: SqliteJobStore, first: int) -> None:
    for number in range(first, 60_000, TOGETHER):  # more than any test lets it save
        await store.save(record(number))
        tell(number)


async def save_all(store: SqliteJobStore) -> None:
    await asyncio.gather(*(save_lane(store, first) for first in range(TOGETHER)))


async def save_to_the_limit(store: SqliteJobStore, limit: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        for number in range(100_000):
            await store.save(record(number))
            tell(number)
    except StoreFailed as error:
        tell(error.reason)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    await store.save(record(100_000))
    tell(100_000)


async def main(path: Path, limit: int | None) -> None:
    store = await SqliteJobStore.open(path)
    await (save_all(store) if limit is None else save_to_the_limit(store, limit))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None))
