"""The tables. A released migration never changes; a new version is a new entry at the end (versions.py)."""

from collections.abc import Sequence

from joblet_agent.store.versions import Migration

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

# Networks that somebody made (networks.py); removed: nobody may use it, and the kernel is to forget it.
# The one row of host_ranges is the IPv6 range that networks of this host are parts of.
_NETWORKS = (
    """
    CREATE TABLE networks (
        name TEXT PRIMARY KEY,
        created_usec INTEGER NOT NULL,
        removed INTEGER NOT NULL,
        network BLOB NOT NULL
    ) STRICT
    """,
    "CREATE TABLE host_ranges (number INTEGER PRIMARY KEY, range6 TEXT NOT NULL) STRICT",
)

# Volumes (volumes.py). record is JSON.
_VOLUMES = (
    """
    CREATE TABLE volumes (
        name TEXT PRIMARY KEY,
        created_usec INTEGER NOT NULL,
        record BLOB NOT NULL
    ) STRICT
    """,
)

# Workflows (workflows.py). What changes of one is apart from what never does, so that each change costs the
# same whatever the workflow's size: workflows and workflow_members have the former, workflow_texts and
# workflow_plans the latter. template is the record that each of a member's jobs begins with (records.py).
_WORKFLOWS = (
    """
    CREATE TABLE workflows (
        id TEXT PRIMARY KEY,
        state TEXT NOT NULL,
        started_by TEXT NOT NULL,
        submission TEXT NOT NULL,
        created_usec INTEGER NOT NULL,
        ended_usec INTEGER,
        record BLOB NOT NULL
    ) STRICT
    """,
    "CREATE INDEX workflows_by_creation ON workflows (created_usec, id)",
    "CREATE INDEX workflows_unfinished ON workflows (created_usec, id) WHERE ended_usec IS NULL",
    "CREATE INDEX workflows_by_end ON workflows (ended_usec, id) WHERE ended_usec IS NOT NULL",
    "CREATE UNIQUE INDEX workflows_by_submission ON workflows (submission) WHERE submission <> ''",
    """
    CREATE TABLE workflow_texts (
        workflow_id TEXT PRIMARY KEY,
        group_names BLOB NOT NULL,
        text TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE workflow_members (
        workflow_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        state TEXT NOT NULL,
        progress BLOB NOT NULL,
        PRIMARY KEY (workflow_id, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE workflow_plans (
        workflow_id TEXT NOT NULL,
        number INTEGER NOT NULL,
        name TEXT NOT NULL,
        plan BLOB NOT NULL,
        template BLOB NOT NULL,
        PRIMARY KEY (workflow_id, number)
    ) STRICT
    """,
    "ALTER TABLE jobs ADD COLUMN workflow_id TEXT NOT NULL DEFAULT ''",
    # Recurring schedules of workflows: agents that know none would start jobs of them.
    """
    CREATE TABLE workflow_schedules (
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
    "CREATE INDEX jobs_by_workflow ON jobs (workflow_id, created_usec, id) WHERE workflow_id <> ''",
)

MIGRATIONS: Sequence[Migration] = (
    Migration(_VERSION_1, since="0.1.0"),
    Migration(_SCHEDULES, since="0.1.0"),
    Migration(_EVENTS, since="0.1.0"),
    Migration(_SUBMISSIONS, since="0.1.0"),
    Migration(_NETWORKS, since="0.1.0"),
    Migration(_VOLUMES, since="0.1.0"),
    Migration(_WORKFLOWS, since="0.2.0", is_additive=True),
)

PROBES = (
    "SELECT number, id, state, name, created_usec, ended_usec, record, schedule_id, "
    "submission, workflow_id FROM jobs LIMIT 0",
    "SELECT id, state, name, created_usec, ended_usec, record, message FROM broken_jobs LIMIT 0",
    "SELECT id, name, calendar, paused, created_usec, next_usec, last_usec, last_job, started, skipped, "
    "skipped_reason, template FROM schedules LIMIT 0",
    "SELECT id, name, calendar, paused, created_usec, next_usec, last_usec, last_job, started, skipped, "
    "skipped_reason, template FROM workflow_schedules LIMIT 0",
    "SELECT number, time_usec, job_id, name, state, outcome FROM job_events LIMIT 0",
    "SELECT name, created_usec, removed, network FROM networks LIMIT 0",
    "SELECT number, range6 FROM host_ranges LIMIT 0",
    "SELECT name, created_usec, record FROM volumes LIMIT 0",
    "SELECT id, state, started_by, submission, created_usec, ended_usec, record FROM workflows LIMIT 0",
    "SELECT workflow_id, group_names, text FROM workflow_texts LIMIT 0",
    "SELECT workflow_id, number, state, progress FROM workflow_members LIMIT 0",
    "SELECT workflow_id, number, name, plan, template FROM workflow_plans LIMIT 0",
    # These read the triggers as well.
    "EXPLAIN INSERT INTO jobs (id) VALUES ('')",
    "EXPLAIN UPDATE jobs SET state = ''",
    "EXPLAIN DELETE FROM jobs",
)
"""Fail where a damaged table definition still reads as SQL."""
