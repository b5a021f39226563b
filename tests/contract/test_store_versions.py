"""The state database of other versions of the agent: earlier ones, and later ones after a downgrade."""

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobFilter, JobState
from joblet_agent.model.workflow import Progress, WorkflowFilter
from joblet_agent.ports import StoredNetwork
from joblet_agent.store import SqliteJobStore, schema
from joblet_agent.store.versions import Migration, migrate, version_of
from tests.contract.job_records import full_record, job_id, record
from tests.contract.state_dump import STATES
from tests.contract.test_network_store import FULL as NETWORK
from tests.contract.test_volume_store import FULL as VOLUME
from tests.contract.workflow_records import FULL as WORKFLOW
from tests.contract.workflow_records import FULL_MEMBER as MEMBER

T = TypeVar("T")

DUMPS = Path(__file__).with_name("states")
KNOWN = schema.MIGRATIONS
ADDED = "ALTER TABLE schedules ADD COLUMN owner TEXT NOT NULL DEFAULT ''"
NEXT = (*KNOWN, Migration((ADDED,), since="9.1.0", is_additive=True))
AFTER_NEXT = (*NEXT, Migration(("ALTER TABLE jobs RENAME COLUMN name TO title",), since="9.2.0"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def with_store(path: Path, body: Callable[[SqliteJobStore], Awaitable[T]]) -> T:
    async def main() -> T:
        store = await SqliteJobStore.open(path)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


def restore(version: int, path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((DUMPS / f"{version}.sql").read_text(encoding="utf-8"))


def query(path: Path, sql: str) -> object:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql).fetchall()


def migrating(*words: object) -> str:
    """Run tests/contract/migrating.py; return what it prints."""
    command = [sys.executable, "-m", "tests.contract.migrating", *map(str, words)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_a_database_of_each_version_before_the_next_migration() -> None:
    versions = sorted(int(dump.stem) for dump in DUMPS.glob("*.sql"))
    assert versions[: len(KNOWN) - 1] == list(range(1, len(KNOWN)))


@pytest.mark.parametrize("version", range(1, 7))
def test_r5_a_database_of_each_earlier_version_loads(path: Path, version: int) -> None:
    restore(version, path)

    async def body(store: SqliteJobStore) -> None:
        found = {each.id: each for each in (await store.page(JobFilter(), size=100, token="")).jobs}
        assert len(found) == len(STATES) + 1
        for number, state in enumerate(STATES, 1):
            expected = record(number, state, name=f"n{number}")
            got = found[expected.id]
            assert got == replace(expected, spec=replace(expected.spec, profile=got.spec.profile))
        full = found[job_id(9)]
        assert full.spec.args == full_record(9).spec.args
        assert full.outcome == full_record(9).outcome
        assert full.unknown == {}
        assert [str(each.id) for each in await store.schedules.all()] == ([job_id(5)] if version >= 3 else [])
        assert [each.network.name for each in await store.networks.all()] == (["web"] if version >= 5 else [])
        assert list(await store.volumes.all()) == ([VOLUME] if version >= 6 else [])
        assert list(await store.workflows.all(WorkflowFilter())) == []
        await store.workflows.create(WORKFLOW, "", [MEMBER])
        await store.save(record(20))

    with_store(path, body)
    assert query(path, "SELECT count(*) FROM broken_jobs") == [(0,)]
    with closing(sqlite3.connect(path)) as connection:
        assert version_of(connection).seen == len(KNOWN)


def test_r5_an_agent_that_is_killed_within_a_migration_leaves_it_to_the_next(path: Path) -> None:
    restore(1, path)
    survived = int(migrating("killed", path))
    assert survived > sum(len(each.statements) for each in KNOWN[1:])
    assert len(with_store(path, lambda store: store.find("", most=100))) == len(STATES) + 1


@pytest.mark.parametrize("largest_file", [8192, 40_000])
def test_r5_a_migration_that_finds_the_disk_full_says_so_and_harms_nothing(
    path: Path, largest_file: int
) -> None:
    restore(1, path)
    migrating("full", path, largest_file)
    assert query(path, "PRAGMA user_version") == [(1,)]
    assert len(with_store(path, lambda store: store.find("", most=100))) == len(STATES) + 1
    assert [each.name for each in path.parent.iterdir()] == ["state.db"]


def test_r5_a_file_of_the_next_version_is_used_and_loses_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(6, path)
    monkeypatch.setattr(schema, "MIGRATIONS", NEXT)
    with_store(path, lambda store: store.workflows.create(WORKFLOW, "", [MEMBER]))
    # As the next version would write it.
    query(path, "UPDATE schedules SET owner = 'somebody'")
    for table, column in (
        ("jobs", "record"),
        ("schedules", "template"),
        ("networks", "network"),
        ("volumes", "record"),
        ("workflows", "record"),
        ("workflow_members", "progress"),
    ):
        query(
            path, f"UPDATE {table} SET {column} = CAST(json_set(CAST({column} AS TEXT), '$.new', 1) AS BLOB)"
        )

    async def body(store: SqliteJobStore) -> None:
        jobs = (await store.page(JobFilter(), size=100, token="")).jobs
        await store.save(*(replace(each, state=JobState.FAILED) for each in jobs))
        (schedule,) = await store.schedules.all()
        await store.schedules.save(replace(schedule, is_paused=True))
        (network,) = await store.networks.all()
        await store.networks.save(StoredNetwork(network.network, is_removed=True))
        (volume,) = await store.volumes.all()
        await store.volumes.save(replace(volume, size=7))
        workflow = await store.workflows.get(WORKFLOW.id)
        assert workflow is not None
        await store.workflows.save(replace(workflow, name="x"), {MEMBER.plan.number: Progress(tries=5)})

    monkeypatch.setattr(schema, "MIGRATIONS", KNOWN)
    with_store(path, body)
    monkeypatch.setattr(schema, "MIGRATIONS", NEXT)
    with_store(path, lambda store: store.find("", most=1))
    assert query(
        path,
        "SELECT DISTINCT state, CAST(record AS TEXT) ->> 'new' FROM jobs",
    ) == [("FAILED", 1)]
    assert query(path, "SELECT owner, paused, CAST(template AS TEXT) ->> 'new' FROM schedules") == [
        ("somebody", 1, 1)
    ]
    assert query(path, "SELECT removed, CAST(network AS TEXT) ->> 'new' FROM networks") == [(1, 1)]
    assert query(
        path, "SELECT CAST(record AS TEXT) ->> 'size', CAST(record AS TEXT) ->> 'new' FROM volumes"
    ) == [(7, 1)]
    assert query(
        path, "SELECT CAST(record AS TEXT) ->> 'name', CAST(record AS TEXT) ->> 'new' FROM workflows"
    ) == [("x", 1)]
    assert query(
        path,
        "SELECT CAST(progress AS TEXT) ->> 'tries', CAST(progress AS TEXT) ->> 'new' FROM workflow_members",
    ) == [(5, 1)]


def test_what_is_made_anew_under_a_name_begins_without_what_the_one_before_had(path: Path) -> None:
    restore(6, path)
    newer = "CAST(json_set(CAST(network AS TEXT), '$.new', 1) AS BLOB)"
    query(path, f"UPDATE networks SET name = '{NETWORK.name}', network = {newer}")
    with_store(path, lambda store: store.networks.save(StoredNetwork(NETWORK)))
    assert query(path, "SELECT name, CAST(network AS TEXT) ->> 'new' FROM networks") == [(NETWORK.name, None)]


def test_r5_a_file_that_needs_a_newer_agent_is_refused_and_stays_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(6, path)
    monkeypatch.setattr(schema, "MIGRATIONS", AFTER_NEXT)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        migrate(connection, AFTER_NEXT)
    content = path.read_bytes()
    monkeypatch.setattr(schema, "MIGRATIONS", KNOWN)
    with pytest.raises(StoreFailed) as caught:
        with_store(path, lambda store: store.find("", most=1))
    assert caught.value.reason == "STORE_TOO_NEW"
    assert str(caught.value) == (
        f"cannot open the state database {path}: joblet-agent 9.2.0 wrote it, "
        f"and this older one cannot read it (version {len(AFTER_NEXT)}, this agent knows up to {len(KNOWN)})"
    )
    assert caught.value.hint == (
        "install joblet-agent 9.2.0 or newer again, or move the file away to start without its jobs"
    )
    assert path.read_bytes() == content
    assert [each.name for each in path.parent.iterdir()] == ["state.db"]


def test_r5_a_newer_file_that_does_not_tell_of_versions_is_refused(path: Path) -> None:
    restore(6, path)
    query(path, "PRAGMA user_version = 999")
    with pytest.raises(StoreFailed, match="a newer agent wrote it") as caught:
        with_store(path, lambda store: store.find("", most=1))
    assert caught.value.hint == (
        "install that version of the agent again, or move the file away to start without its jobs"
    )
