"""Where secrets are while a job has not started: files of root alone, each from ``put`` to ``discard``.

The record of a job has the names only. The values of a job that starts at once are in memory (tmpfs), those
of a job that waits have to outlive a reboot and are on disk. Either file is written before the record and
removed once the command runs, or when there will be no start; after a crash ``discard_all_but`` takes away
what nobody needs any more. Blocking; callers run it in a thread.
"""

import base64
import errno
import json
import logging
import os
from collections.abc import Container, Mapping
from pathlib import Path

from joblet_agent.durable import sync_directory
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.model.secrets import Secrets
from joblet_agent.new_files import NEW_FILE

_UNFINISHED = ".new"
_KEPT_FREE = 4
"""A quarter of the tmpfs stays free: systemd and others on the host need it, too."""

GONE, DAMAGED = "its secrets are gone", "its secrets are damaged"

_log = logging.getLogger(__name__)


class SecretKeeper:
    """Keeps secrets by the id of their owner, a job for instance; the directories exist, 0700 root."""

    def __init__(self, *, fleeting: Path, lasting: Path) -> None:
        self._fleeting = fleeting
        self._lasting = lasting

    def put(self, owner: str, secrets: Secrets, *, lasting: bool) -> None:
        """Keep the secrets, durably if ``lasting``. Raises OSError, and nothing is kept then."""
        if lasting:
            write_secrets(self._lasting / owner, secrets)
            return
        content = pack(secrets)
        check_room(self._fleeting, 2 * len(content))
        _replace(self._fleeting / owner, content, durably=False)

    def get(self, owner: str) -> Secrets:
        """Return what was put. Raises OSError if it is not there, or not as it was put."""
        file = self._fleeting / owner
        return read_secrets(file if file.exists() else self._lasting / owner)

    def discard(self, owner: str) -> None:
        """Remove what was put, if anything; what cannot be removed is logged."""
        _remove(self._fleeting / owner)
        _remove(self._lasting / owner)

    def discard_all_but(self, owners: Container[str]) -> None:
        """Remove everything of others, and what was never finished: an agent died in between."""
        for directory in (self._fleeting, self._lasting):
            for entry in os.scandir(directory):
                if entry.name not in owners:
                    _remove(Path(entry.path))


def write_secrets(file: Path, secrets: Secrets) -> None:
    """Write the secrets, 0600, durably. Raises OSError, and there is no such file then."""
    write_private(file, pack(secrets))


def write_private(file: Path, content: bytes) -> None:
    """Write a file of root's alone, durably, in place of one that is there. Raises OSError, and it is not."""
    _replace(file, content, durably=True)


def read_secrets(file: Path) -> Secrets:
    """Return what was written. Raises OSError if it is not there, or not as it was written."""
    try:
        return unpack(file.read_bytes())
    except FileNotFoundError as error:
        raise OSError(errno.ENOENT, GONE) from error


def deliver_files(directory: Path, files: Mapping[str, bytes], uid: int) -> None:
    """Write a job's secret files: 0400 and owned by its user, as is the directory. Raises OSError.

    What an interrupted start left there is replaced. The directory's parent is root's alone; the job gets a
    read-only mount of it.
    """
    remove_tree(directory)
    check_room(directory.parent, sum(map(len, files.values())))
    directory.mkdir(mode=0o700)
    for name, content in files.items():
        _write(directory / name, content, owner=uid)
    os.chmod(directory, 0o500)
    os.chown(directory, uid, uid)


def check_room(directory: Path, size: int) -> None:
    """Raise OSError unless a quarter of the file system stays free behind so many bytes more."""
    room = os.statvfs(directory)
    if room.f_bavail * room.f_frsize - size < room.f_blocks * room.f_frsize // _KEPT_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def pack(secrets: Secrets) -> bytes:
    """Return what unpack() makes the same secrets of."""
    return json.dumps(
        {
            "environment": dict(secrets.environment),
            "files": {name: base64.b64encode(data).decode() for name, data in secrets.files.items()},
        }
    ).encode()


def unpack(content: bytes) -> Secrets:
    """Return what was packed. Raises OSError if it is damaged."""
    try:
        kept = json.loads(content)
        return Secrets(
            environment=kept["environment"],
            files={name: base64.b64decode(data) for name, data in kept["files"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # whose texts may tell what is in it
        raise OSError(errno.EIO, DAMAGED) from None


def _replace(file: Path, content: bytes, *, durably: bool) -> None:
    fresh = file.with_name(file.name + _UNFINISHED)
    try:
        fresh.unlink(missing_ok=True)
        _write(fresh, content, durably=durably)
        fresh.rename(file)
        if durably:
            sync_directory(file.parent)
    except OSError:
        _remove(fresh)
        raise


def _write(file: Path, content: bytes, *, durably: bool = False, owner: int | None = None) -> None:
    descriptor = os.open(file, NEW_FILE, 0o400 if owner is not None else 0o600)
    with open(descriptor, "wb") as stream:
        if owner is not None:
            os.fchown(descriptor, owner, owner)
        stream.write(content)
        if durably:
            stream.flush()
            os.fsync(descriptor)


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.error("cannot remove the secrets %s: %s", file, error.strerror)
