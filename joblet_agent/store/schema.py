"""The tables, their versions and how a file gets from one to the next.

A released migration never changes; a new version is a new entry at the end. ``PRAGMA user_version`` is
the number of migrations that a file has seen, so an older agent knows a newer file.
"""

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = 0x4A6F6274
"""``Jobt``: file(1) and we can tell the file from any other SQLite database."""

# What is asked for is a column, all else is in ``record`` (records.py). Times are microseconds since 1970:
# exact for datetime, and in 64 bits up to its last year.
# ended_usec is what retention orders by: NULL until the job ended, its creation when nobody knows the end.
_VERSION_1 = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        name TEXT NOT NULL,
        created_usec INTEGER NOT NULL,
        ended_usec INTEGER,
        record BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX jobs_by_creation ON jobs (created_usec, id)",
    "CREATE INDEX jobs_by_state ON jobs (state, created_usec, id)",
    "CREATE INDEX jobs_by_name ON jobs (name, created_usec, id) WHERE name <> ''",
    "CREATE INDEX jobs_by_end ON jobs (ended_usec, id) WHERE ended_usec IS NOT NULL",
    """
    CREATE TABLE broken_jobs (
        id TEXT,
        state TEXT,
        name TEXT,
        created_usec INTEGER,
        ended_usec INTEGER,
        record BLOB,
        message TEXT NOT NULL
    ) STRICT
    """,
)

# Recurring schedules. template is the record that each of its jobs begins with (records.py). A start belongs
# to whoever moves next_usec beyond it, and it only moves forward (schedules.py): so no start happens twice.
_SCHEDULES = (
    """
    CREATE TABLE schedules (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        calendar TEXT NOT NULL,
        paused INTEGER NOT NULL,
        created_usec INTEGER NOT NULL,
        next_usec INTEGER,
        last_usec INTEGER,
        last_job TEXT NOT NULL,
        started INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        skipped_reason TEXT NOT NULL,
        template BLOB NOT NULL
    ) STRICT
    """,
    "ALTER TABLE jobs ADD COLUMN schedule_id TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX jobs_by_schedule ON jobs (schedule_id, created_usec, id) WHERE schedule_id <> ''",
)

# What happened to jobs (events.py). Triggers write it, so no way to change a job can forget to, in the
# transaction of the change. outcome is that of the record, as JSON, and empty before the end.
# Numbers begin at the time of the table's creation (ms), so that those of a database that was lost are not
# given again: a watcher that comes back with one of them is told that it missed something.
_NOW_USEC = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000"
_TOLD = "INSERT INTO job_events (time_usec, job_id, name, state, outcome)"
_OUTCOME = """
    CASE WHEN NEW.ended_usec IS NOT NULL AND json_valid(CAST(NEW.record AS TEXT))
    THEN coalesce(json_extract(CAST(NEW.record AS TEXT), '$.outcome'), '') ELSE '' END
"""
_CHANGE = f"""
    {_TOLD} VALUES (coalesce(NEW.ended_usec, {_NOW_USEC}), NEW.id, NEW.name, NEW.state, {_OUTCOME});
"""
EVENTS_KEPT = 100_000
_REMOVED_TOGETHER = 1000
_EVENTS = (
    """
    CREATE TABLE job_events (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        time_usec INTEGER NOT NULL,
        job_id TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        outcome TEXT NOT NULL
    ) STRICT
    """,
    """
    INSERT INTO sqlite_sequence (name, seq)
    VALUES ('job_events', CAST(strftime('%s', 'now') AS INTEGER) * 1000)
    """,
    f"CREATE TRIGGER job_inserted AFTER INSERT ON jobs BEGIN {_CHANGE} END",
    f"""
    CREATE TRIGGER job_changed AFTER UPDATE OF state ON jobs WHEN OLD.state IS NOT NEW.state
    BEGIN {_CHANGE} END
    """,
    f"""
    CREATE TRIGGER job_deleted AFTER DELETE ON jobs
    BEGIN {_TOLD} VALUES ({_NOW_USEC}, OLD.id, OLD.name, 'DELETED', ''); END
    """,
    f"""
    CREATE TRIGGER events_bounded AFTER INSERT ON job_events WHEN NEW.number % {_REMOVED_TOGETHER} = 0
    BEGIN DELETE FROM job_events WHERE number <= NEW.number - {EVENTS_KEPT}; END
    """,  # noqa: S608 - numbers of ours
)

# A submission (records.py) makes one job: no two rows may have the same.
_SUBMISSIONS = (
    "ALTER TABLE jobs ADD COLUMN submission TEXT NOT NULL DEFAULT ''",
    "CREATE UNIQUE INDEX jobs_by_submission ON jobs (submission) WHERE submission <> ''",
)

MIGRATIONS: Sequence[Sequence[str]] = (_VERSION_1, _SCHEDULES, _EVENTS, _SUBMISSIONS)

PROBES = (
    "SELECT number, id, state, name, created_usec, ended_usec, record, schedule_id, "
    "submission FROM jobs LIMIT 0",
    "SELECT id, state, name, created_usec, ended_usec, record, message FROM broken_jobs LIMIT 0",
    "SELECT id, name, calendar, paused, created_usec, next_usec, last_usec, last_job, started, skipped, "
    "skipped_reason, template FROM schedules LIMIT 0",
    "SELECT number, time_usec, job_id, name, state, outcome FROM job_events LIMIT 0",
)
"""Fail where a damaged table definition still reads as SQL."""


def version(connection: sqlite3.Connection) -> int:
    """Return how many migrations the file has seen."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def is_ours(connection: sqlite3.Connection) -> bool:
    """Tell our file, or one without content, from a database of something else."""
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (objects,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return bool(application_id == APPLICATION_ID or (application_id, objects) == (0, 0))


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the newest version, all in one transaction; one that is there stays untouched."""
    present = version(connection)
    if present >= len(migrations):
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for migration in migrations[present:]:
            for statement in migration:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
