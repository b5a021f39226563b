"""Migrations: every version on its way to the newest."""

import sqlite3
from contextlib import closing

import pytest

from joblet_agent.store import schema
from joblet_agent.store.versions import FileVersion, Migration, is_ours, migrate, version_of

KNOWN = len(schema.MIGRATIONS)
NEEDED = 6
"""What version 0.1.0 knows of them: all later ones are additive."""
OWNERS = ("ALTER TABLE jobs ADD COLUMN owner TEXT", "UPDATE jobs SET owner = 'somebody'")
NEXT = (*schema.MIGRATIONS, Migration(OWNERS, since="9.1.0", is_additive=True))
AFTER_NEXT = (*NEXT, Migration(("CREATE TABLE a (b)",), since="9.2.0"))


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_a_new_file_gets_the_newest_version() -> None:
    with closing(connect()) as connection:
        migrate(connection, schema.MIGRATIONS)
        assert version_of(connection).seen == KNOWN
        assert is_ours(connection)
        for probe in schema.PROBES:
            connection.execute(probe)


def test_r5_rows_of_an_older_version_stay() -> None:
    with closing(connect()) as connection:
        migrate(connection, schema.MIGRATIONS)
        connection.execute(
            "INSERT INTO jobs (number, id, state, name, created_usec, ended_usec, record) "
            "VALUES (1, 'a', 'RUNNING', '', 5, NULL, x'')"
        )
        migrate(connection, NEXT)
        assert connection.execute("SELECT id, owner FROM jobs").fetchall() == [("a", "somebody")]


def test_r5_a_migration_that_only_adds_leaves_the_file_to_older_agents() -> None:
    with closing(connect()) as connection:
        migrate(connection, schema.MIGRATIONS)
        migrate(connection, NEXT)
        assert version_of(connection) == FileVersion(KNOWN + 1, NEEDED, "9.1.0", "0.1.0")
        migrate(connection, schema.MIGRATIONS)
        assert version_of(connection) == FileVersion(KNOWN + 1, NEEDED, "9.1.0", "0.1.0")
        migrate(connection, AFTER_NEXT)
        assert version_of(connection) == FileVersion(KNOWN + 2, KNOWN + 2, "9.2.0", "9.2.0")


def test_r5_the_version_before_can_use_a_file_of_this_one() -> None:
    assert all(each.is_additive for each in schema.MIGRATIONS[NEEDED:])


def test_a_migration_that_fails_changes_nothing() -> None:
    with closing(connect()) as connection:
        migrate(connection, schema.MIGRATIONS)
        before = version_of(connection)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            migrate(connection, (*AFTER_NEXT, Migration(("DROP TABLE absent",), since="9.3.0")))
        assert version_of(connection) == before
        migrate(connection, NEXT)


def test_the_newest_version_is_left_alone() -> None:
    with closing(connect()) as connection:
        migrate(connection, schema.MIGRATIONS)
        before = connection.total_changes
        migrate(connection, schema.MIGRATIONS)
        assert connection.total_changes == before
