"""``ports.JobStore`` on SQLite: one thread writes, another one reads, each on a connection of its own."""

import logging
import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Self

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobFilter, JobId, JobPage, JobRecord
from joblet_agent.store import statements
from joblet_agent.store.commits import read_one_by_one
from joblet_agent.store.event_log import EventPulse, SqliteEventLog
from joblet_agent.store.networks import SqliteNetworkStore
from joblet_agent.store.opening import open_for_reading, open_for_writing
from joblet_agent.store.pages import position_of
from joblet_agent.store.records import row_of, submission_of
from joblet_agent.store.schedules import SqliteScheduleStore
from joblet_agent.store.volumes import SqliteVolumeStore
from joblet_agent.store.worker import Worker
from joblet_agent.store.workflows import SqliteWorkflowStore

_MOST_DELETED_TOGETHER = 1000

_log = logging.getLogger(__name__)


class SqliteJobStore:
    """Job records in a file. Belongs to the event loop that opened it, and must be closed on it."""

    def __init__(self, writer: Worker, reader: Worker, events: SqliteEventLog) -> None:
        self._writer = writer
        self._reader = reader
        self.events = events
        self.schedules = SqliteScheduleStore(writer, reader)
        """Recurring schedules in the same file."""
        self.networks = SqliteNetworkStore(writer, reader)
        """Networks in the same file."""
        self.volumes = SqliteVolumeStore(writer, reader)
        """Volumes in the same file."""
        self.workflows = SqliteWorkflowStore(writer, reader)
        """Workflows in the same file."""

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Open or create the database; a broken one is set aside with an error in the log.

        Raises StoreFailed: STORE_TOO_NEW for the file of a newer agent, which stays as it is, and
        STORE_FULL, STORE_READ_ONLY, STORE_CANNOT_OPEN and so on for files that cannot be used.
        """
        pulse = EventPulse()

        def connect() -> sqlite3.Connection:
            connection = open_for_writing(path)
            pulse.begin(connection)
            return connection

        writer = await Worker.start("store-writer", connect, pulse.write)
        try:
            reader = await Worker.start("store-reader", partial(open_for_reading, path), read_one_by_one)
        except BaseException:
            await writer.close()
            raise
        return cls(writer, reader, SqliteEventLog(pulse, reader))

    async def close(self) -> None:
        """Commit what was handed over and close the files; again is no error, any other use then is."""
        await self._reader.close()
        # Last, because the last connection that closes tidies the write-ahead log away.
        await self._writer.close()

    async def save(self, *records: JobRecord) -> None:
        """Insert or replace the records, all or none."""
        await self._writer.do(partial(statements.save, rows=[row_of(record) for record in records]))

    async def delete(self, ids: Sequence[JobId]) -> None:
        """Forget the records, in portions, so that saves find their way in between."""
        for first in range(0, len(ids), _MOST_DELETED_TOGETHER):
            portion = ids[first : first + _MOST_DELETED_TOGETHER]
            await self._writer.do(partial(statements.delete, ids=portion))

    async def get(self, job_id: JobId) -> JobRecord | None:
        """Return the record of exactly this id."""
        found = await self._sound(await self._reader.do(partial(statements.get, job_id=job_id)))
        return found[0] if found else None

    async def submitted(self, caller: str, token: str) -> JobRecord | None:
        """Return the job that this caller's submission with this token made."""
        read = partial(statements.submitted, submission=submission_of(caller, token))
        found = await self._sound(await self._reader.do(read))
        return found[0] if found else None

    async def find(self, prefix: str, *, most: int) -> Sequence[JobId]:
        """Return up to ``most`` ids that begin with ``prefix``, in order."""
        return _job_ids(await self._reader.do(partial(statements.find, prefix=prefix, most=most)))

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        """Return up to ``size`` jobs, fewer if they are large. Raises InvalidRequest for a foreign token."""
        position = position_of(token)
        read = partial(statements.page, wanted=wanted, position=position, size=size)
        decoded = await self._reader.do(read)
        return JobPage(await self._sound(decoded), decoded.next_token)

    async def unfinished(self) -> Sequence[JobRecord]:
        """Return every job that has not ended, oldest first."""
        return await self._sound(await self._reader.do(statements.unfinished))

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[JobId]:
        """Return ended jobs that retention lets go, the longest ended first."""
        read = partial(statements.ended_beyond, keep=keep, before=before)
        return _job_ids(await self._reader.do(read))

    async def oldest_end(self) -> datetime | None:
        """Return when the first of all ended jobs ended."""
        return await self._reader.do(statements.oldest_end)

    async def ended_count(self) -> int:
        """Return how many ended jobs there are."""
        return await self._reader.do(statements.ended_count)

    async def _sound(self, decoded: statements.Decoded) -> tuple[JobRecord, ...]:
        """Return the records and set the broken rows aside; should that fail, the next reader tries again."""
        for row in decoded.broken:
            _log.error("the record of job %r is broken and is set aside: %s", row.job_id, row.message)
        if decoded.broken:
            try:
                await self._writer.do(partial(statements.set_aside, broken=decoded.broken))
            except StoreFailed as error:
                _log.warning("broken records stay where they are: %s", error)
        return decoded.records


def _job_ids(ids: Sequence[str]) -> list[JobId]:
    return [JobId(each) for each in ids]
