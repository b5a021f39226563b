"""The history of state changes, which triggers write (schema.py). Runs in the store's threads.

Numbers have no gap: AUTOINCREMENT gives each change the next one, a transaction that fails gives its
numbers back, and removal takes the oldest. So a first row that is not the next one tells that rows are gone.
"""

import json
import sqlite3
from collections.abc import Sequence

from joblet_agent.errors import EventsGone
from joblet_agent.model.event import JobEvent
from joblet_agent.model.job import JobId, JobState, Outcome, Reason
from joblet_agent.store.fields import BrokenRecord, Fields, time_of
from joblet_agent.store.records import record_of

_AFTER = """
    SELECT number, time_usec, job_id, name, state, outcome FROM job_events
    WHERE number > ? ORDER BY number LIMIT ?
"""
_UNFINISHED = tuple(state.value for state in JobState if not state.has_ended)


def newest(connection: sqlite3.Connection) -> int:
    """Return the number of the last event; of an empty history the one that its first will follow."""
    return int(connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'job_events'").fetchone()[0])


def after(connection: sqlite3.Connection, number: int, most: int) -> list[JobEvent]:
    """Read up to ``most`` events that follow the number, in order. Raises EventsGone."""
    rows = connection.execute(_AFTER, (number, most)).fetchall()
    if rows[0][0] != number + 1 if rows else number > newest(connection):
        raise EventsGone(
            f"cannot watch jobs: the events after number {number} are not kept any more, or never were",
            reason="EVENTS_GONE",
            hint="list the jobs, then watch from now on (after = 0)",
        )
    return [_event(row) for row in rows]


def mentions(connection: sqlite3.Connection, job_id: JobId, number: int) -> bool:
    """Tell whether an event after the number is about the job."""
    sql = "SELECT 1 FROM job_events WHERE number > ? AND job_id = ? LIMIT 1"
    return connection.execute(sql, (number, job_id)).fetchone() is not None


def standing(connection: sqlite3.Connection, ids: Sequence[JobId]) -> tuple[int, list[JobEvent]]:
    """Read the last number and, true at that moment, where jobs stand: the given ones, or all unfinished."""
    connection.execute("BEGIN")
    try:
        number = newest(connection)
        return number, _of_jobs(connection, ids) if ids else _of_unfinished(connection)
    finally:
        connection.execute("ROLLBACK")


def _of_jobs(connection: sqlite3.Connection, ids: Sequence[JobId]) -> list[JobEvent]:
    sql = "SELECT id, state, name, created_usec, record FROM jobs WHERE id = ?"
    rows = [row for job_id in ids if (row := connection.execute(sql, (job_id,)).fetchone()) is not None]
    events = []
    for row in rows:
        try:
            record = record_of(*row)
        except BrokenRecord:
            continue  # whoever reads it next sets it aside, and that is an event
        time = record.ended_at or record.created_at
        events.append(JobEvent(0, time, record.id, record.spec.name, record.state.value, record.outcome))
    return events


def _of_unfinished(connection: sqlite3.Connection) -> list[JobEvent]:
    """Read columns only: 100,000 jobs may wait, and their records would take seconds to decode."""
    marks = ", ".join("?" * len(_UNFINISHED))
    sql = f"SELECT created_usec, id, name, state FROM jobs WHERE state IN ({marks}) ORDER BY created_usec, id"  # noqa: S608
    rows = connection.execute(sql, _UNFINISHED)
    return [JobEvent(0, time_of(usec), JobId(job_id), name, state) for usec, job_id, name, state in rows]


def _event(row: tuple[int, int, str, str, str, str]) -> JobEvent:
    number, usec, job_id, name, state, outcome = row
    return JobEvent(number, time_of(usec), JobId(job_id), name, state, _outcome(state, outcome))


def _outcome(state: str, text: str) -> Outcome | None:
    if not text:
        return None
    fields = json.loads(text)
    return Outcome(
        state=JobState(state),
        reason=Fields(fields).word("reason", Reason.NONE),
        exit_code=fields.get("exit_code", 0),
        signal=fields.get("signal", 0),
        message=fields.get("message", ""),
    )
