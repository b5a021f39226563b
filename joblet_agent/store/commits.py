"""How acts meet the database: writes of many callers in one transaction, reads one by one."""

import sqlite3
from collections.abc import Sequence
from typing import Any

from joblet_agent.store.failures import store_failed
from joblet_agent.store.worker import Act, Done, Ending


def write_together(connection: sqlite3.Connection, acts: Sequence[Act[Any]]) -> Sequence[Ending]:
    """Do the acts in one transaction, as its end costs more than all of them.

    If that fails, each is done in a transaction of its own: what one caller wants must not fail another,
    and on a disk that is nearly full the small ones may still fit.
    """
    try:
        return _transact(connection, acts)
    except Exception as error:  # a thread's top: it goes to the caller
        if len(acts) == 1:
            return [_for_caller(error, "write to the state database")]
    return [ending for act in acts for ending in write_together(connection, [act])]


def read_one_by_one(connection: sqlite3.Connection, acts: Sequence[Act[Any]]) -> Sequence[Ending]:
    """Do the acts, each by itself."""
    return [_read(connection, act) for act in acts]


def _transact(connection: sqlite3.Connection, acts: Sequence[Act[Any]]) -> Sequence[Ending]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        endings = [Done(act(connection)) for act in acts]
        connection.execute("COMMIT")
    except BaseException:
        # SQLite has already rolled back after some errors, a full disk among them.
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return endings


def _read(connection: sqlite3.Connection, act: Act[Any]) -> Ending:
    try:
        return Done(act(connection))
    except Exception as error:  # a thread's top: it goes to the caller
        return _for_caller(error, "read from the state database")


def _for_caller(error: Exception, doing: str) -> Exception:
    if not isinstance(error, sqlite3.Error):
        return error
    failed = store_failed(error, doing)
    failed.__cause__ = error
    return failed
