"""Which versions a file has, which agents may use it, and how it gets to a newer one.

A file has two: how many migrations it has seen, and how many of them an agent must know to use it. A
migration that only adds what older agents need not know leaves the second as it is: so the agent of the
version before uses the file, too, and an upgrade can be taken back. What cannot be added so comes in two
releases: the first one can read it, the next one writes it.

``PRAGMA user_version`` is how many an agent must know: that is what version 0.1.0 looks at, and refuses
a file for. How many the file has seen is in the table ``file_version``, which that version does not write.
"""

import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from joblet_agent.errors import StoreFailed

APPLICATION_ID = 0x4A6F6274
"""``Jobt``: file(1) and we can tell the file from any other SQLite database."""

_TABLE = """
    CREATE TABLE IF NOT EXISTS file_version (
        number INTEGER PRIMARY KEY,
        seen INTEGER NOT NULL,
        written_by TEXT NOT NULL,
        needs TEXT NOT NULL
    ) STRICT
"""
_SAVE = "INSERT OR REPLACE INTO file_version (number, seen, written_by, needs) VALUES (1, ?, ?, ?)"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Migration:
    """A step to the next version. Once released it never changes."""

    statements: Sequence[str]
    since: str
    """The first version of the agent that has it."""
    is_additive: bool = False
    """An agent without it can use the file all the same, and what it writes is right for one with it."""


@dataclass(frozen=True, slots=True)
class FileVersion:
    """What a file says of itself."""

    seen: int
    needed: int
    written_by: str = ""
    """The version of the agent that brought the last migration; empty in files of version 0.1.0."""
    needs: str = ""
    """The first version of the agent that can use it."""


def version_of(connection: sqlite3.Connection) -> FileVersion:
    """Read the versions of the file."""
    (needed,) = connection.execute("PRAGMA user_version").fetchone()
    sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'file_version'"
    if connection.execute(sql).fetchone() is None:
        return FileVersion(needed, needed)
    # By position: a damaged name must not be an error here, where it would keep the agent from starting.
    match connection.execute("SELECT * FROM file_version LIMIT 1").fetchone():
        case (_, int(seen), str(written_by), str(needs)):
            return FileVersion(max(seen, needed), needed, written_by, needs)
    return FileVersion(needed, needed)


def is_ours(connection: sqlite3.Connection) -> bool:
    """Tell our file, or one without content, from a database of something else."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(application_id == APPLICATION_ID or (application_id, objects) == (0, 0))


def refuse_newer(connection: sqlite3.Connection, path: object, migrations: Sequence[Migration]) -> None:
    """Raise StoreFailed (STORE_TOO_NEW) for a file that an agent without later migrations cannot use."""
    present, known = version_of(connection), len(migrations)
    if present.needed > known:
        by = f"joblet-agent {present.written_by}" if present.written_by else "a newer agent"
        wanted = f"joblet-agent {present.needs} or newer" if present.needs else "that version of the agent"
        raise StoreFailed(
            f"cannot open the state database {path}: {by} wrote it, and this older one cannot read it "
            f"(version {present.needed}, this agent knows up to {known})",
            reason="STORE_TOO_NEW",
            hint=f"install {wanted} again, or move the file away to start without its jobs",
        )
    if present.seen > known:
        _log.info(
            "the state database %s is of joblet-agent %s; this older one keeps what it does not know of it",
            path,
            present.written_by,
        )


def migrate(connection: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """Bring the file to the newest version, all in one transaction; one that is there stays untouched."""
    present = version_of(connection)
    if present.seen >= len(migrations):
        return
    needed = max(number for number, each in enumerate(migrations, 1) if not each.is_additive)
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for migration in migrations[present.seen :]:
            for statement in migration.statements:
                connection.execute(statement)
        connection.execute(_TABLE)
        connection.execute(_SAVE, (len(migrations), migrations[-1].since, migrations[needed - 1].since))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {needed}")
