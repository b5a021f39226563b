"""``ports.ScheduleStore`` on SQLite, in the threads of the job store.

No start happens twice because a start belongs to whoever moves ``next_usec`` beyond it, in the transaction
that stores its job.
"""

import logging
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import TypeAlias

from joblet_agent.model.job import JobId, JobRecord, JobState
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.workflow import NewWorkflow
from joblet_agent.store import statements, workflow_statements
from joblet_agent.store.fields import BrokenRecord, time_of, usec_of
from joblet_agent.store.records import json_of, record_of, row_of
from joblet_agent.store.worker import Worker
from joblet_agent.store.workflows import new_rows

_COLUMNS = (
    "id, name, calendar, paused, created_usec, next_usec, last_usec, last_job, "
    "started, skipped, skipped_reason, template"
)
# Not REPLACE, here and in the other tables: it would empty the columns that a newer agent has added.
_CHANGE = ", ".join(f"{column} = excluded.{column}" for column in _COLUMNS.split(", "))
_TABLES = ("schedules", "workflow_schedules")

_Row: TypeAlias = tuple[str, str, str, int, int, int | None, int | None, str, int, int, str, bytes]

_log = logging.getLogger(__name__)


class SqliteScheduleStore:
    """Recurring schedules in the file of the job store, which owns the threads."""

    def __init__(self, writer: Worker, reader: Worker) -> None:
        self._writer = writer
        self._reader = reader

    async def save(self, schedule: Schedule) -> None:
        """See ports.ScheduleStore."""
        await self._writer.do(partial(_save, table=_table_of(schedule), row=_row_of(schedule)))

    async def claim(
        self,
        schedule: Schedule,
        *,
        due: datetime,
        job: JobRecord | None = None,
        workflow: NewWorkflow | None = None,
    ) -> bool:
        """See ports.ScheduleStore."""
        row, jobs = _row_of(schedule), [] if job is None else [row_of(job)]
        workflows = [] if workflow is None else [await new_rows(workflow)]
        table = _table_of(schedule)

        def act(connection: sqlite3.Connection) -> bool:
            sql = f"SELECT 1 FROM {table} WHERE id = ? AND next_usec = ?"  # noqa: S608
            if connection.execute(sql, (schedule.id, usec_of(due))).fetchone() is None:
                return False
            _save(connection, table, row)
            statements.save(connection, jobs)
            for rows in workflows:
                workflow_statements.create(connection, rows)
            return True

        return await self._writer.do(act)

    async def delete(self, schedule_id: ScheduleId) -> None:
        """See ports.ScheduleStore."""

        def act(connection: sqlite3.Connection) -> None:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table} WHERE id = ?", (schedule_id,))  # noqa: S608

        await self._writer.do(act)

    async def all(self) -> Sequence[Schedule]:
        """See ports.ScheduleStore. A broken row stays where it is."""
        schedules = []
        for table, row in await self._reader.do(_all):
            try:
                schedules.append(_schedule_of(table, row))
            except (BrokenRecord, OverflowError) as error:
                _log.error("schedule %r is broken and starts nothing: %s", row[0], error)
        return sorted(schedules, key=lambda each: (each.created_at, each.id))


def _table_of(schedule: Schedule) -> str:
    return _TABLES[schedule.is_of_workflows]


def _save(connection: sqlite3.Connection, table: str, row: _Row) -> None:
    sql = f"""
        INSERT INTO {table} ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (id) DO UPDATE SET {_CHANGE}
    """  # noqa: S608
    connection.execute(sql, row)


def _all(connection: sqlite3.Connection) -> list[tuple[str, _Row]]:
    several = [(table, connection.execute(f"SELECT {_COLUMNS} FROM {table}")) for table in _TABLES]  # noqa: S608
    return [(table, row) for table, found in several for row in found]


def _row_of(schedule: Schedule) -> _Row:
    return (
        schedule.id,
        schedule.spec.name,
        schedule.calendar,
        int(schedule.is_paused),
        usec_of(schedule.created_at),
        None if schedule.next_at is None else usec_of(schedule.next_at),
        None if schedule.last_at is None else usec_of(schedule.last_at),
        schedule.last_job or "",
        schedule.started,
        schedule.skipped,
        schedule.skipped_reason,
        json_of(schedule.template),
    )


def _schedule_of(table: str, row: _Row) -> Schedule:
    schedule_id, name, calendar, paused, created, next_usec, last_usec, last_job = row[:8]
    started, skipped, skipped_reason, template = row[8:]
    # A record does not have the workflow that it is of (records.py); here the table tells it.
    workflow_id = schedule_id if table == _TABLES[True] else ""
    return Schedule(
        id=ScheduleId(schedule_id),
        calendar=calendar,
        template=record_of(schedule_id, JobState.SCHEDULED.value, name, created, template, workflow_id),
        is_paused=bool(paused),
        next_at=_time(next_usec),
        last_at=_time(last_usec),
        last_job=JobId(last_job) if last_job else None,
        started=started,
        skipped=skipped,
        skipped_reason=skipped_reason,
    )


def _time(usec: int | None) -> datetime | None:
    return None if usec is None else time_of(usec)
