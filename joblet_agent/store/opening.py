"""Opens the database file so that the agent always starts: what is broken is set aside, never deleted.

Only two things stop the start: a file of a newer agent, because setting it aside would forget jobs that a
mere upgrade brings back; and a disk that cannot be read or written.
"""

import logging
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from joblet_agent.errors import StoreFailed
from joblet_agent.store import schema, versions
from joblet_agent.store.failures import is_broken, store_failed, unusable_files

_BUSY_SECONDS = 5.0
# A burst may blow the write-ahead log up; beyond this it shrinks again at the next checkpoint.
_LOG_BYTES = 16 * 1024 * 1024
_SIDE_FILES = ("-wal", "-shm")

_log = logging.getLogger(__name__)


class _BrokenFile(Exception):
    """SQLite can read the file, yet it is not a sound database of ours."""


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create the database, checked and of the newest version, in files that only root can read.

    A broken file is renamed to ``NAME.broken-TIME``, with an error in the log, and a new one takes its
    place. Raises StoreFailed, with reason STORE_TOO_NEW for the file of a newer agent.
    """
    try:
        return _open_checked(path)
    except _BrokenFile as error:
        _set_aside(path, str(error))
    except UnicodeDecodeError:
        # Python's way to tell that SQLite's error quotes a damaged table definition.
        _set_aside(path, "its tables have names that are no text")
    except sqlite3.Error as error:
        if not is_broken(error):
            raise store_failed(error, f"open the state database {path}") from error
        _set_aside(path, str(error))
    except OSError as error:
        raise unusable_files(error, f"open the state database {path}") from error
    try:
        return _open_checked(path)
    except sqlite3.Error as error:
        raise store_failed(error, f"create the state database {path}") from error
    except OSError as error:
        raise unusable_files(error, f"create the state database {path}") from error


def open_for_reading(path: Path) -> sqlite3.Connection:
    """Open the database beside its writer, for queries only."""
    try:
        connection = _connect(path)
        connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        raise store_failed(error, f"open the state database {path}") from error
    # A damaged text must be one broken record, not the end of the whole query.
    connection.text_factory = lambda text: text.decode("utf-8", "replace")
    return connection


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, cached_statements=256)


def _open_checked(path: Path) -> sqlite3.Connection:
    _make_private(path)
    connection = _connect(path)
    try:
        _check(connection, path)
        _configure(connection)
        versions.migrate(connection, schema.MIGRATIONS)
        _probe(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_private(path: Path) -> None:
    """Create directory and file before SQLite does, because its side files take the file's mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
    finally:
        os.close(file)


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if not versions.is_ours(connection):
        raise _BrokenFile("it is a database of another program")
    versions.refuse_newer(connection, path, schema.MIGRATIONS)
    if _fault(connection) is not None:
        # An index holds nothing that its table does not: all jobs stay if only indexes are damaged.
        connection.execute("REINDEX")
        fault = _fault(connection)
        if fault is not None:
            raise _BrokenFile(fault)
        _log.warning(
            "the indexes of the state database %s were damaged and are made anew; nothing is lost", path
        )


def _fault(connection: sqlite3.Connection) -> str | None:
    """Check all of it, as a fault that is found later would stop the agent then: 0.25 s for 100,000 jobs."""
    (verdict,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
    return None if verdict == "ok" else " ".join(str(verdict).split())


def _configure(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreFailed(
            f"cannot open the state database: its file system offers no write-ahead log (mode {mode})",
            reason="STORE_CANNOT_OPEN",
            hint="put the agent's state directory on a local file system",
        )
    # NORMAL syncs at checkpoints: a killed agent loses nothing, a power cut at most the last moments, and
    # the file is sound after either (https://www.sqlite.org/pragma.html#pragma_synchronous).
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")


def _probe(connection: sqlite3.Connection) -> None:
    try:
        for probe in schema.PROBES:
            connection.execute(probe)
    except (sqlite3.OperationalError, UnicodeDecodeError) as error:  # damaged names are no text
        raise _BrokenFile(str(error)) from error


def _set_aside(path: Path, why: str) -> None:
    """Rename the files. The database goes first: SQLite drops a side file that has lost its database."""
    aside = path.with_name(f"{path.name}.broken-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
    try:
        path.rename(aside)
        for suffix in _SIDE_FILES:
            side = path.with_name(path.name + suffix)
            if side.exists():
                side.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise unusable_files(error, f"open the state database {path}") from error
    _log.error(
        "the state database %s is broken (%s): it is now %s, and the agent starts without the jobs in it",
        path,
        why,
        aside,
    )
