"""What is done on a connection: the statements, and rows to records. Runs in the store's threads."""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobState
from joblet_agent.store.fields import BrokenRecord, time_of, usec_of
from joblet_agent.store.pages import SELECT, Position, page_query, prefix_range
from joblet_agent.store.records import Row, record_of

# A job may have megabytes of arguments: a page of such jobs ends early instead of filling the memory.
_PAGE_BYTES = 16 * 1024 * 1024

_SAVE = """
    INSERT INTO jobs (id, state, name, schedule_id, workflow_id, submission, created_usec, ended_usec, record)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET state = excluded.state, name = excluded.name,
    schedule_id = excluded.schedule_id, workflow_id = excluded.workflow_id,
    submission = excluded.submission,
    created_usec = excluded.created_usec, ended_usec = excluded.ended_usec, record = excluded.record
"""
_COPY_BROKEN = """
    INSERT INTO broken_jobs (id, state, name, created_usec, ended_usec, record, message)
    SELECT id, state, name, created_usec, ended_usec, record, ? FROM jobs WHERE number = ? AND record = ?
"""
_UNFINISHED = tuple(state.value for state in JobState if not state.has_ended)
_ENDED = "WHERE ended_usec IS NOT NULL"
_BEFORE_ANY_TIME = -(2**63)

StoredRow: TypeAlias = tuple[int, str, str, str, str, int, bytes]
"""number, id, state, name, workflow_id, created_usec, record."""


@dataclass(frozen=True, slots=True)
class BrokenRow:
    """A row that holds no record, and why."""

    number: int
    job_id: str
    record: bytes
    message: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Records in the order of their rows, the rows that hold none, and where the next page begins."""

    records: tuple[JobRecord, ...]
    broken: tuple[BrokenRow, ...]
    next_token: str = ""


def save(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert or replace the rows."""
    connection.executemany(_SAVE, rows)


def delete(connection: sqlite3.Connection, ids: Sequence[JobId]) -> None:
    """Delete the rows."""
    connection.executemany("DELETE FROM jobs WHERE id = ?", [(job_id,) for job_id in ids])


def set_aside(connection: sqlite3.Connection, broken: Sequence[BrokenRow]) -> None:
    """Move the rows to broken_jobs; one that was saved again in the meantime is another record and stays."""
    for row in broken:
        connection.execute(_COPY_BROKEN, (row.message, row.number, row.record))
        connection.execute("DELETE FROM jobs WHERE number = ? AND record = ?", (row.number, row.record))


def get(connection: sqlite3.Connection, job_id: JobId) -> Decoded:
    """Read one record."""
    return _decode(connection.execute(f"{SELECT} WHERE id = ?", (job_id,)))


def submitted(connection: sqlite3.Connection, submission: str) -> Decoded:
    """Read the record that a submission made."""
    # The second half tells the planner that the partial index serves.
    sql = f"{SELECT} WHERE submission = ? AND submission <> ''"
    return _decode(connection.execute(sql, (submission,)))


def find(connection: sqlite3.Connection, prefix: str, most: int, table: str = "jobs") -> list[str]:
    """Read ids, in order."""
    sql = f"SELECT id FROM {table} WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"  # noqa: S608
    return [each for (each,) in connection.execute(sql, (*prefix_range(prefix), most))]


def page(connection: sqlite3.Connection, wanted: JobFilter, position: Position | None, size: int) -> Decoded:
    """Read up to ``size`` records after the position."""
    query = page_query(wanted, position, size + 1)
    rows: list[StoredRow] = []
    total = 0
    for row in connection.execute(query.sql, query.parameters):
        total += len(row[-1])
        if len(rows) == size or (rows and total > _PAGE_BYTES):
            _, job_id, *_, created_usec, _ = rows[-1]
            return _decode(rows, Position(created_usec, job_id).token())
        rows.append(row)
    return _decode(rows)


def unfinished(connection: sqlite3.Connection) -> Decoded:
    """Read the records of all jobs that have not ended, oldest first."""
    marks = ", ".join("?" * len(_UNFINISHED))
    sql = f"{SELECT} WHERE state IN ({marks}) ORDER BY created_usec, id"
    return _decode(connection.execute(sql, _UNFINISHED))


def oldest_end(connection: sqlite3.Connection, table: str = "jobs") -> datetime | None:
    """Read the first entry of the index of ends."""
    usec = connection.execute(f"SELECT min(ended_usec) FROM {table} {_ENDED}").fetchone()[0]  # noqa: S608
    return None if usec is None else time_of(usec)


def ended_count(connection: sqlite3.Connection) -> int:
    """Count in the index alone: 3 ms for 100,000."""
    sql = f"SELECT count(*) FROM jobs {_ENDED}"  # noqa: S608
    return int(connection.execute(sql).fetchone()[0])


def ended_beyond(
    connection: sqlite3.Connection, keep: int, before: datetime | None, table: str = "jobs"
) -> list[str]:
    """Read the ids of what has ended and is beyond either limit, the longest ended first."""
    # Both limits cut the same order, so the later one decides.
    ended = f"FROM {table} {_ENDED}"
    sql = f"SELECT ended_usec, id {ended} ORDER BY ended_usec DESC, id DESC LIMIT 1 OFFSET ?"
    usec, job_id = connection.execute(sql, (keep,)).fetchone() or (_BEFORE_ANY_TIME, "")
    before_usec = _BEFORE_ANY_TIME if before is None else usec_of(before) - 1
    cut = max((usec, job_id), (before_usec, "\U0010ffff"))
    sql = f"SELECT id {ended} AND (ended_usec, id) <= (?, ?) ORDER BY ended_usec, id"
    return [each for (each,) in connection.execute(sql, cut)]


def _decode(rows: Iterable[StoredRow], next_token: str = "") -> Decoded:
    records, broken = [], []
    for number, job_id, state, name, workflow_id, created_usec, record in rows:
        try:
            records.append(record_of(job_id, state, name, created_usec, record, workflow_id))
        except BrokenRecord as error:
            broken.append(BrokenRow(number, job_id, record, str(error)))
    return Decoded(tuple(records), tuple(broken), next_token)
