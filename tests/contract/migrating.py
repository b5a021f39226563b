"""Migrations that are cut short, in a process of their own: a fork of pytest with its threads may never end.

``python3 -m tests.contract.migrating killed PATH`` kills one at each of its statements, looks at the file
after each, and prints how many were killed before one got through. ``full PATH BYTES`` opens the file where
files grow no further, and exits with 0 if that is told.
"""

import os
import resource
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from joblet_agent.errors import StoreFailed
from joblet_agent.store import opening, schema
from joblet_agent.store.versions import migrate


def killed(path: Path) -> int:
    """Return how many migrations were killed; each left the file as it was."""
    before = _content(path)
    survived = 0
    while _killed_after(survived, path):
        assert _content(path) == before, survived
        survived += 1
    return survived


def _killed_after(statements: int, path: Path) -> bool:
    child = os.fork()
    if child == 0:
        left = statements

        def count(_: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        connection = sqlite3.connect(path, isolation_level=None)
        connection.set_trace_callback(count)
        migrate(connection, schema.MIGRATIONS)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status in {0, signal.SIGKILL}, status
    return bool(status)


def _content(path: Path) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        version: list[tuple[object, ...]] = connection.execute("PRAGMA user_version").fetchall()
        return version + connection.execute("SELECT * FROM jobs").fetchall()


def full(path: Path, largest_file: int) -> bool:
    """Say whether it is told that the disk is full."""
    # That is EFBIG and not ENOSPC, so SQLite calls it an error of the disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    try:
        opening.open_for_writing(path)
    except StoreFailed as error:
        return error.reason in {"STORE_FULL", "STORE_IO"}
    return False


if __name__ == "__main__":
    if sys.argv[1] == "killed":
        print(killed(Path(sys.argv[2])))
    else:
        sys.exit(not full(Path(sys.argv[2]), int(sys.argv[3])))
