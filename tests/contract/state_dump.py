"""Prints, as SQL, the state database that the agent's code writes: what states/ has of earlier versions.

Before a migration is added, with the code as it then is (the number is that of its file's version):

    python3 -m tests.contract.state_dump > tests/contract/states/7.sql
"""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from tempfile import TemporaryDirectory

from joblet_agent.model.job import JobState
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import START, full_record, job_id, record

STATES = (JobState.COMPLETED, JobState.FAILED, JobState.RUNNING, JobState.PENDING)


async def fill(path: Path) -> None:
    store = await SqliteJobStore.open(path)
    full = full_record(9)
    await store.save(*(record(number, state, name=f"n{number}") for number, state in enumerate(STATES, 1)))
    await store.save(replace(full, spec=replace(full.spec, environment={"A": "", "B": "x"})))
    # Earlier versions had less, and no such modules.
    if hasattr(store, "schedules"):
        from joblet_agent.model.schedule import Schedule, ScheduleId  # noqa: PLC0415

        template = record(5, JobState.SCHEDULED, name="tick")
        due = START + timedelta(hours=1)
        await store.schedules.save(Schedule(ScheduleId(job_id(5)), "hourly", template, next_at=due))
    if hasattr(store, "networks"):
        from joblet_agent.model.network import Network  # noqa: PLC0415
        from joblet_agent.ports import StoredNetwork  # noqa: PLC0415

        ranges = IPv4Network("10.10.0.0/24"), IPv6Network("fd00:1:2:10::/64")
        await store.networks.save(StoredNetwork(Network("web", "joblet-web", *ranges, created_at=START)))
    if hasattr(store, "volumes"):
        from tests.contract.test_volume_store import FULL as VOLUME  # noqa: PLC0415

        await store.volumes.save(VOLUME)
    if hasattr(store, "workflows"):
        from tests.contract.workflow_records import FULL, FULL_MEMBER, FULL_PROGRESS  # noqa: PLC0415

        job = replace(record(6, JobState.COMPLETED), workflow_id=FULL.id, dependencies=("a",))
        await store.workflows.create(FULL, "jobs: {}", [FULL_MEMBER])
        await store.workflows.save(FULL, {FULL_MEMBER.plan.number: FULL_PROGRESS}, [job])
    await store.close()


def main() -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder, "state.db")
        asyncio.run(fill(path))
        with closing(sqlite3.connect(path)) as connection:
            for pragma in ("application_id", "user_version"):
                print(f"PRAGMA {pragma} = {connection.execute(f'PRAGMA {pragma}').fetchone()[0]};")
            print(*connection.iterdump(), sep="\n")


if __name__ == "__main__":
    main()
