"""Migrations: every version on its way to the newest."""

import sqlite3
from contextlib import closing

import pytest

from joblet_agent.store import schema

TWO = (*schema.MIGRATIONS, ("ALTER TABLE jobs ADD COLUMN owner TEXT", "UPDATE jobs SET owner = 'somebody'"))


def connect() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def test_a_new_file_gets_the_newest_version() -> None:
    with closing(connect()) as connection:
        schema.migrate(connection)
        assert schema.version(connection) == len(schema.MIGRATIONS)
        assert schema.is_ours(connection)
        for probe in schema.PROBES:
            connection.execute(probe)


def test_r5_rows_of_an_older_version_stay() -> None:
    with closing(connect()) as connection:
        schema.migrate(connection)
        connection.execute(
            "INSERT INTO jobs (number, id, state, name, created_usec, ended_usec, record) "
            "VALUES (1, 'a', 'RUNNING', '', 5, NULL, x'')"
        )
        schema.migrate(connection, TWO)
        assert schema.version(connection) == len(TWO)
        assert connection.execute("SELECT id, owner FROM jobs").fetchall() == [("a", "somebody")]


def test_a_migration_that_fails_changes_nothing() -> None:
    with closing(connect()) as connection:
        schema.migrate(connection)
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            schema.migrate(connection, (*TWO, ("DROP TABLE absent",)))
        assert schema.version(connection) == len(schema.MIGRATIONS)
        schema.migrate(connection, TWO)


def test_the_newest_version_is_left_alone() -> None:
    with closing(connect()) as connection:
        schema.migrate(connection)
        before = connection.total_changes
        schema.migrate(connection)
        assert connection.total_changes == before
