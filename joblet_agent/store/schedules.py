"""``ports.ScheduleStore`` on SQLite, in the threads of the job store.

No start happens twice because a start belongs to whoever moves ``next_usec`` beyond it, in the transaction
that stores its job.
"""

import logging
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeAlias

from joblet_agent.model.job import JobId, JobRecord, JobState
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.store import statements
from joblet_agent.store.records import BrokenRecord, json_of, record_of, row_of, usec_of
from joblet_agent.store.worker import Worker

_COLUMNS = (
    "id, name, calendar, paused, created_usec, next_usec, last_usec, last_job, "
    "started, skipped, skipped_reason, template"
)
_SAVE = f"INSERT OR REPLACE INTO schedules ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608
_ALL = f"SELECT {_COLUMNS} FROM schedules ORDER BY created_usec, id"  # noqa: S608
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_Row: TypeAlias = tuple[str, str, str, int, int, int | None, int | None, str, int, int, str, bytes]

_log = logging.getLogger(__name__)


class SqliteScheduleStore:
    """Recurring schedules in the file of the job store, which owns the threads."""

    def __init__(self, writer: Worker, reader: Worker) -> None:
        self._writer = writer
        self._reader = reader

    async def save(self, schedule: Schedule) -> None:
        """See ports.ScheduleStore."""
        await self._writer.do(partial(_save, row=_row_of(schedule)))

    async def claim(self, schedule: Schedule, *, due: datetime, job: JobRecord | None) -> bool:
        """See ports.ScheduleStore."""
        row, jobs = _row_of(schedule), [] if job is None else [row_of(job)]

        def act(connection: sqlite3.Connection) -> bool:
            sql = "SELECT 1 FROM schedules WHERE id = ? AND next_usec = ?"
            if connection.execute(sql, (schedule.id, usec_of(due))).fetchone() is None:
                return False
            _save(connection, row)
            statements.save(connection, jobs)
            return True

        return await self._writer.do(act)

    async def delete(self, schedule_id: ScheduleId) -> None:
        """See ports.ScheduleStore."""
        await self._writer.do(
            lambda connection: connection.execute(
                "DELETE FROM schedules WHERE id = ?", (schedule_id,)
            ).close()
        )

    async def all(self) -> Sequence[Schedule]:
        """See ports.ScheduleStore. A broken row stays where it is."""
        schedules = []
        for row in await self._reader.do(lambda connection: connection.execute(_ALL).fetchall()):
            try:
                schedules.append(_schedule_of(row))
            except (BrokenRecord, OverflowError) as error:
                _log.error("schedule %r is broken and starts nothing: %s", row[0], error)
        return schedules


def _save(connection: sqlite3.Connection, row: _Row) -> None:
    connection.execute(_SAVE, row)


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


def _schedule_of(row: _Row) -> Schedule:
    schedule_id, name, calendar, paused, created, next_usec, last_usec, last_job = row[:8]
    started, skipped, skipped_reason, template = row[8:]
    return Schedule(
        id=ScheduleId(schedule_id),
        calendar=calendar,
        template=record_of(schedule_id, JobState.SCHEDULED.value, name, created, template),
        is_paused=bool(paused),
        next_at=_time(next_usec),
        last_at=_time(last_usec),
        last_job=JobId(last_job) if last_job else None,
        started=started,
        skipped=skipped,
        skipped_reason=skipped_reason,
    )


def _time(usec: int | None) -> datetime | None:
    return None if usec is None else _EPOCH + timedelta(microseconds=usec)
