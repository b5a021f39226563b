"""What only a store on disk has to survive: kills, power cuts, damage, other versions, a full disk."""

import asyncio
import logging
import os
import random
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import pytest

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobFilter, JobRecord, JobState
from joblet_agent.store import SqliteJobStore
from tests.contract.job_records import full_record, job_id, record

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
SIZE = 100


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def with_store(path: Path, body: Callable[[SqliteJobStore], Awaitable[T]]) -> T:
    async def main() -> T:
        store = await SqliteJobStore.open(path)
        try:
            return await body(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def everything(store: SqliteJobStore) -> tuple[JobRecord, ...]:
    return (await store.page(JobFilter(), size=10_000, token="")).jobs


def filled(path: Path) -> Path:
    async def body(store: SqliteJobStore) -> None:
        await store.save(*(record(number, list(JobState)[number % 8]) for number in range(SIZE)))

    with_store(path, body)
    return path


def edit(path: Path, sql: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql)


def broken_files(path: Path) -> list[str]:
    return sorted(each.name for each in path.parent.iterdir() if ".broken-" in each.name)


def saver(path: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.saver", str(path), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_files_are_for_root_only(path: Path) -> None:
    async def body(store: SqliteJobStore) -> None:
        await store.save(record(1))
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()}
        assert modes == {"state.db": 0o600, "state.db-wal": 0o600, "state.db-shm": 0o600}

    mask = os.umask(0)
    try:
        with_store(path, body)
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_closing_leaves_one_file_and_is_idempotent(path: Path) -> None:
    async def body(store: SqliteJobStore) -> None:
        saves = [asyncio.ensure_future(store.save(record(number))) for number in range(100)]
        await asyncio.sleep(0)
        await asyncio.gather(store.close(), store.close())
        await asyncio.gather(*saves)
        await store.close()
        for use in (store.save(record(1)), store.get(job_id(1))):
            with pytest.raises(StoreFailed, match="cannot use the state database: it is closed") as caught:
                await use
            assert caught.value.reason == "STORE_CLOSED"

    with_store(path, body)
    assert [each.name for each in path.parent.iterdir()] == ["state.db"]
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("store-") and thread.is_alive()
    ]
    assert len(with_store(path, everything)) == 100


def test_a_save_that_nobody_waits_for_any_more_is_done(path: Path) -> None:
    async def body(store: SqliteJobStore) -> None:
        save = asyncio.ensure_future(store.save(record(1)))
        await asyncio.sleep(0)
        save.cancel()
        await asyncio.gather(save, return_exceptions=True)
        assert save.cancelled()
        await store.save(record(2))
        assert await store.get(job_id(1)) == record(1)

    with_store(path, body)


def test_one_bad_save_fails_alone(path: Path) -> None:
    async def body(store: SqliteJobStore) -> None:
        bad = record(3, name="\udc80")  # SQLite takes no text that is not UTF-8
        results = await asyncio.gather(
            store.save(record(1)), store.save(record(2), bad), store.save(record(4)), return_exceptions=True
        )
        assert [type(result).__name__ for result in results] == ["NoneType", "UnicodeEncodeError", "NoneType"]
        assert {each.id for each in await everything(store)} == {job_id(1), job_id(4)}

    with_store(path, body)


def test_a_page_of_large_jobs_ends_early_and_goes_on(path: Path) -> None:
    large = [full_record(number) for number in range(4)]
    large = [
        JobRecord(each.id, each.spec.__class__("x", ("y" * 7_000_000,)), each.state, each.created_at)
        for each in large
    ]

    async def body(store: SqliteJobStore) -> None:
        await store.save(*large)
        sizes: list[int] = []
        token = ""
        while token or not sizes:
            page = await store.page(JobFilter(), size=100, token=token)
            sizes.append(len(page.jobs))
            token = page.next_token
        assert sizes == [2, 2]

    with_store(path, body)


@pytest.mark.parametrize("told", [1, 20, 150, 500, 900])
def test_r1_killed_in_the_middle_of_saves_all_that_returned_are_there(path: Path, told: int) -> None:
    with saver(path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(told)]
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    saved = with_store(path, everything)
    assert {int(line) for line in lines} <= {int(each.id[-4:], 16) for each in saved}
    assert all(each == record(int(each.id[-4:], 16)) for each in saved)
    assert not broken_files(path)


def test_r4_a_copy_from_the_middle_of_saves_always_starts(path: Path, tmp_path: Path) -> None:
    with saver(path) as process:
        assert process.stdout is not None
        for number in range(10):
            process.stdout.readline()
            copy = tmp_path / f"copy{number}"
            shutil.copytree(
                path.parent, copy, ignore_dangling_symlinks=True, ignore=shutil.ignore_patterns("*-shm")
            )
        process.kill()
        process.stdout.read()
    for number in range(10):
        assert all(
            each == record(int(each.id[-4:], 16))
            for each in with_store(tmp_path / f"copy{number}" / path.name, everything)
        )


@pytest.mark.parametrize("damage", ["random", "short", "truncated", "text", "header"])
def test_r4_a_broken_file_is_set_aside(path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    content = filled(path).read_bytes()
    broken = {
        "random": random.Random(1).randbytes(20_000),
        "short": b"SQLite format 3\0",
        "truncated": content[: len(content) // 2],
        "text": b"jobs: none\n" * 100,
        "header": b"\0" * 100 + content[100:],
    }[damage]
    path.write_bytes(broken)
    assert with_store(path, everything) == ()
    (name,) = broken_files(path)
    assert (path.parent / name).read_bytes() == broken
    (message,) = [each.getMessage() for each in caplog.records if each.levelno == logging.ERROR]
    assert message.startswith(f"the state database {path} is broken (")
    assert message.endswith(f"it is now {path.parent / name}, and the agent starts without the jobs in it")


@pytest.mark.parametrize("seed", range(5))
def test_r4_a_damaged_write_ahead_log_costs_only_the_last_saves(path: Path, seed: int) -> None:
    with saver(path) as process:
        assert process.stdout is not None
        for _ in range(300):
            process.stdout.readline()
        process.kill()
        process.stdout.read()
    log = path.with_name("state.db-wal")
    content = bytearray(log.read_bytes())
    chance = random.Random(seed)
    content[chance.randrange(len(content))] ^= 255
    log.write_bytes(content[: chance.randrange(len(content) // 2, len(content))])
    saved = with_store(path, everything)
    assert all(each == record(int(each.id[-4:], 16)) for each in saved)


@pytest.mark.parametrize("seed", range(40))
def test_r4_starts_and_works_with_flipped_bytes(path: Path, seed: int, tmp_path: Path) -> None:
    chance = random.Random(seed)
    content = bytearray(filled(path).read_bytes())
    for _ in range(chance.choice([1, 1, 3, 30])):
        content[chance.randrange(100, len(content))] ^= chance.randrange(1, 256)
    path.write_bytes(content)

    async def body(store: SqliteJobStore) -> None:
        await everything(store)
        await store.unfinished()
        await store.find("0", most=1000)
        await store.page(JobFilter(states=frozenset(JobState)), size=1000, token="")
        await store.delete(await store.ended_beyond(keep=0, before=None))
        await store.save(record(500))
        assert await store.get(job_id(500)) == record(500)

    with_store(path, body)


def test_an_empty_file_is_a_new_database(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    assert with_store(path, everything) == ()
    assert not broken_files(path)


def test_a_database_of_another_program_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    edit(path, "CREATE TABLE cookies (x)")
    assert with_store(path, everything) == ()
    assert len(broken_files(path)) == 1


def test_damaged_indexes_are_made_anew(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        # Both schema entries change places, so each index finds the other's content.
        connection.execute("PRAGMA writable_schema = ON")
        pages = dict(
            connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE name LIKE 'jobs_by_%'")
        )
        swap = {"jobs_by_creation": pages["jobs_by_end"], "jobs_by_end": pages["jobs_by_creation"]}
        for name, page in swap.items():
            connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (page, name))
    assert len(with_store(path, everything)) == SIZE
    assert not broken_files(path)
    assert "were damaged and are made anew" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        "record = x'00'",
        "record = x'7b'",
        "record = x'5b5d'",
        "record = CAST('{\"args\":5}' AS BLOB)",
        'record = CAST(\'{"outcome":{"state":"?"}}\' AS BLOB)',
        "record = CAST('{\"ended_at\":9e99}' AS BLOB)",
        "record = CAST(replace(printf('%20000s', ''), ' ', '[') AS BLOB)",
        "state = 'UNKNOWN'",
        "created_usec = 9223372036854775807",
        "name = CAST(x'ff' AS TEXT), record = x'ff'",
    ],
)
def test_r4_a_broken_record_is_set_aside_and_the_others_stay(
    path: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    edit(filled(path), f"UPDATE jobs SET {change} WHERE id = '{job_id(5)}'")

    async def body(store: SqliteJobStore) -> None:
        found = await everything(store)
        assert {each.id for each in found} == {job_id(number) for number in range(SIZE) if number != 5}
        assert await store.get(job_id(5)) is None
        await store.save(record(5))
        assert await store.get(job_id(5)) == record(5)

    with_store(path, body)
    assert caplog.text.count("is broken and is set aside") == 1
    with closing(sqlite3.connect(path)) as connection:
        ((message,),) = connection.execute("SELECT message FROM broken_jobs")
    assert message


def test_a_broken_record_does_not_end_a_listing_on_a_full_disk(path: Path) -> None:
    edit(filled(path), f"UPDATE jobs SET record = x'00' WHERE id = '{job_id(5)}'")

    async def body(store: SqliteJobStore) -> None:
        await store._writer.do(lambda connection: connection.execute("PRAGMA query_only = ON").fetchone())
        assert len(await everything(store)) == SIZE - 1
        assert await store.get(job_id(5)) is None

    with_store(path, body)


def test_r3_a_disk_that_takes_no_more_loses_nothing(path: Path) -> None:
    limit = 300_000
    with saver(path, str(limit)) as process:
        assert process.stdout is not None
        *numbers, reason, last = process.stdout.read().split()
    assert process.returncode == 0
    assert (reason, last) == ("STORE_IO", "100000")
    saved = {int(each.id[-6:], 16) for each in with_store(path, everything)}
    assert saved == {int(number) for number in numbers} | {100_000}


@pytest.mark.parametrize("kind", ["directory", "below a file"])
def test_what_cannot_be_a_database_is_an_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.db"
    if kind == "directory":
        path.mkdir()
    else:
        path.touch()
        path /= "state.db"
    with pytest.raises(StoreFailed, match="cannot open the state database") as caught:
        with_store(path, everything)
    assert caught.value.reason == "STORE_CANNOT_OPEN"


def test_a_database_that_another_program_holds_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("joblet_agent.store.opening._BUSY_SECONDS", 0.05)

    async def body(store: SqliteJobStore) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreFailed, match="database is locked") as caught:
                await store.save(record(1))
            assert caught.value.reason == "STORE_BUSY"
        await store.save(record(1))

    with_store(path, body)
