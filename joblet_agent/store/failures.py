"""Errors of SQLite and of its files become StoreFailed."""

import errno
import sqlite3
from dataclasses import dataclass

from joblet_agent.errors import StoreFailed


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    hint: str


_FULL = _Failure(
    "STORE_FULL", "free space on the file system of the agent's state directory; nothing was changed"
)
_IO = _Failure(
    "STORE_IO", "the kernel log (journalctl -k) may name the failing disk, and a quota may be used up"
)
_READ_ONLY = _Failure("STORE_READ_ONLY", "make the agent's state directory writable; nothing was changed")
_BUSY = _Failure("STORE_BUSY", "another program holds the state database; end it and try again")
_BROKEN = _Failure(
    "STORE_BROKEN", "restart the agent: it sets the broken file aside and starts with a new one"
)
_CANNOT_OPEN = _Failure("STORE_CANNOT_OPEN", "the agent's state directory must exist and belong to root")
_OTHER = _Failure("STORE_FAILED", "please report this")

# Extended codes (https://www.sqlite.org/rescode.html) before the primary ones.
_BY_CODE = {
    # The shared index of the write-ahead log could not grow: what a full disk looks like there.
    sqlite3.SQLITE_IOERR_SHMSIZE: _FULL,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_IOERR: _IO,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_BUSY: _BUSY,
    sqlite3.SQLITE_LOCKED: _BUSY,
    sqlite3.SQLITE_CORRUPT: _BROKEN,
    sqlite3.SQLITE_NOTADB: _BROKEN,
    sqlite3.SQLITE_CANTOPEN: _CANNOT_OPEN,
}

_BY_ERRNO = {errno.ENOSPC: _FULL, errno.EDQUOT: _FULL, errno.EROFS: _READ_ONLY, errno.EIO: _IO}


def store_failed(error: sqlite3.Error, doing: str) -> StoreFailed:
    """Return our error for SQLite's; ``doing`` completes ``cannot …``."""
    code = _code(error)
    failure = _BY_CODE.get(code) or _BY_CODE.get(code & 0xFF, _OTHER)
    return StoreFailed(f"cannot {doing}: {error}", reason=failure.reason, hint=failure.hint)


def unusable_files(error: OSError, doing: str) -> StoreFailed:
    """Return our error for the kernel's, before SQLite is there to tell."""
    failure = _BY_ERRNO.get(error.errno or 0, _CANNOT_OPEN)
    return StoreFailed(f"cannot {doing}: {error.strerror}", reason=failure.reason, hint=failure.hint)


def is_broken(error: sqlite3.Error) -> bool:
    """Tell whether SQLite says that the file itself is damaged or no database."""
    return _BY_CODE.get(_code(error) & 0xFF) is _BROKEN


def _code(error: sqlite3.Error) -> int:
    # Python's own errors ("Cannot operate on a closed database.") have none.
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
