"""``ports.VolumeStore`` on SQLite, in the threads of the job store."""

import json
import logging
import sqlite3
from collections.abc import Sequence
from functools import partial

from joblet_agent.model.volume import Backing, Volume, VolumeSnapshot, VolumeState, VolumeType
from joblet_agent.store.fields import BrokenRecord, time_of, usec_of
from joblet_agent.store.worker import Worker

# What a newer agent has added to the volume stays; one that is made anew under the name begins without.
_SAVE = """
    INSERT INTO volumes (name, created_usec, record) VALUES (?, ?, ?)
    ON CONFLICT (name) DO UPDATE SET created_usec = excluded.created_usec,
    record = CASE WHEN created_usec = excluded.created_usec AND json_valid(CAST(record AS TEXT))
    THEN CAST(json_patch(CAST(record AS TEXT), CAST(excluded.record AS TEXT)) AS BLOB)
    ELSE excluded.record END
"""
_ALL = "SELECT name, created_usec, record FROM volumes ORDER BY name"

_Row = tuple[str, int, bytes]

_log = logging.getLogger(__name__)


class SqliteVolumeStore:
    """Volumes in the file of the job store, which owns the threads."""

    def __init__(self, writer: Worker, reader: Worker) -> None:
        self._writer = writer
        self._reader = reader

    async def save(self, volume: Volume) -> None:
        """See ports.VolumeStore."""
        await self._writer.do(partial(_save, row=_row_of(volume)))

    async def delete(self, name: str) -> None:
        """See ports.VolumeStore."""
        await self._writer.do(
            lambda connection: connection.execute("DELETE FROM volumes WHERE name = ?", (name,)).close()
        )

    async def all(self) -> Sequence[Volume]:
        """See ports.VolumeStore. A broken row stays where it is."""
        volumes = []
        for row in await self._reader.do(lambda connection: connection.execute(_ALL).fetchall()):
            try:
                volumes.append(_volume_of(row))
            except BrokenRecord as error:
                _log.error("the record of volume %r is broken, no job can have it: %s", row[0], error)
        return volumes


def _save(connection: sqlite3.Connection, row: _Row) -> None:
    connection.execute(_SAVE, row)


def _row_of(volume: Volume) -> _Row:
    record = {
        "type": volume.type.value,
        "backing": volume.backing.value,
        "size": volume.size,
        "size_text": volume.size_text,
        "number": volume.number,
        "state": volume.state.value,
        "project": volume.project,
        "warning": volume.warning,
        "snapshots": [[each.name, usec_of(each.created_at)] for each in volume.snapshots],
    }
    return volume.name, usec_of(volume.created_at), json.dumps(record, separators=(",", ":")).encode()


def _volume_of(row: _Row) -> Volume:
    name, created, record = row
    try:
        stored = json.loads(record)
        return Volume(
            name=name,
            type=VolumeType(stored["type"]),
            backing=Backing(stored["backing"]),
            size=int(stored["size"]),
            size_text=str(stored["size_text"]),
            number=int(stored["number"]),
            created_at=time_of(created),
            state=VolumeState(stored["state"]),
            project=int(stored["project"]),
            warning=str(stored["warning"]),
            snapshots=tuple(VolumeSnapshot(str(text), time_of(usec)) for text, usec in stored["snapshots"]),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BrokenRecord(str(error)) from error
