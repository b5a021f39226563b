"""The jobs' users, told to the host: static records as nss-systemd(8) reads them.

systemd takes no ``User=`` that no user database knows (status 217). With a record of its uid a job's unit
says which user its processes have, and so do ps(1), ls(1) and getent(1): ``joblet-7f3a0000-0000``, the
beginning of the job's id. A record gives no rights and no way to log in, everybody may read it, and it
tells nothing that the unit does not tell.

A link by number leads to the record by name. The link is made last and goes first, so whatever a crash
leaves is found by its name.
"""

import json
import logging
import pwd
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from joblet_agent.errors import LaunchFailed
from joblet_agent.model.job import JobId

USER_RECORDS: Final = Path("/run/userdb")

LAUNCHER_DROP_IN: Final = Path("/usr/lib/systemd/system/joblet-job-.service.d/launcher.conf")
"""With it the launcher starts as root although the unit has ``User=``."""

_PREFIX: Final = "joblet-"
_OF_A_JOB: Final = re.compile(_PREFIX + r"[0-9a-f]{8}-[0-9a-f]{4}\.(user|group)")
_CHECK: Final = "joblet-check"
_CHECK_UID: Final = 2**32 - 2
"""Valid, and beyond what jobs.uid_first and jobs.uid_count allow."""
_LOCAL_SOURCES: Final = frozenset({"files", "compat", "systemd"})
_SWITCH: Final = Path("/etc/nsswitch.conf")
_CACHE: Final = Path("/run/nscd/socket")

_log = logging.getLogger(__name__)


class UserRecords:
    """The records below one directory. The calls touch a few small files in memory."""

    def __init__(self, directory: Path = USER_RECORDS) -> None:
        self._directory = directory

    def write(self, job_id: JobId, uid: int) -> None:
        """Give the uid, and the gid of the same number, the job's name. Raises LaunchFailed."""
        try:
            self._write(_name(job_id), uid, f"Joblet job {job_id}")
        except OSError as error:
            raise LaunchFailed(
                f"cannot write the record of the job's user: {error.strerror}", reason="CANNOT_PREPARE_FILES"
            ) from error

    def remove(self, job_id: JobId) -> None:
        """Take the job's name away; one without is no error."""
        self._remove(_name(job_id))

    def keep_only(self, job_ids: Collection[JobId]) -> None:
        """Remove the records of all other jobs."""
        kept = {_name(job_id) for job_id in job_ids}
        found = {path.stem for path in self._directory.glob(f"{_PREFIX}*") if _OF_A_JOB.fullmatch(path.name)}
        for name in found - kept:
            self._remove(name)

    def trouble(self) -> str:
        """Return why units cannot have ``User=``; empty if they can. Blocks as the host's lookups do."""
        if trouble := _trouble_with_sources(_CACHE, _SWITCH):
            return trouble
        try:
            self._write(_CHECK, _CHECK_UID, "Joblet agent")
            found = pwd.getpwuid(_CHECK_UID).pw_name
        except OSError as error:
            return f"cannot write to {self._directory}: {error.strerror}"
        except KeyError:
            return f"the host does not read {self._directory} (is libnss-systemd installed?)"
        finally:
            self._remove(_CHECK)
        if found != _CHECK:
            return f"uid {_CHECK_UID} belongs to {found}"
        return "" if LAUNCHER_DROP_IN.exists() else f"{LAUNCHER_DROP_IN} is missing"

    def _write(self, name: str, uid: int, title: str) -> None:
        self._remove(name)
        for kind, record in _records(name, uid, title):
            file, link = self._directory / f"{name}.{kind}", self._directory / f"{uid}.{kind}"
            file.write_text(json.dumps(record), encoding="utf-8")
            file.chmod(0o644)
            link.unlink(missing_ok=True)
            link.symlink_to(file.name)

    def _remove(self, name: str) -> None:
        for kind in ("user", "group"):
            file = self._directory / f"{name}.{kind}"
            try:
                self._remove_link(file)
                file.unlink()
            except FileNotFoundError:
                continue
            except OSError as error:
                _log.warning("cannot remove the record of user %s: %s", name, error.strerror)

    def _remove_link(self, file: Path) -> None:
        try:
            uid = int(json.loads(file.read_bytes())["gid"])
        except (ValueError, TypeError, KeyError):
            return  # half a record has no link yet
        link = self._directory / f"{uid}{file.suffix}"
        # The uid may have another job by now: a unit that is left over is released when somebody finds it.
        if link.is_symlink() and link.readlink() == Path(file.name):
            link.unlink()


def lookups_trouble(place: Callable[[Path], Path] = Path) -> str:
    """Return why units cannot have ``User=`` as far as files tell; empty if they do not. It only looks.

    ``place`` says where a file of the host is.
    """
    if trouble := _trouble_with_sources(place(_CACHE), place(_SWITCH)):
        return trouble
    if "systemd" not in _sources(place(_SWITCH)):
        return f"the host does not read {USER_RECORDS} (is libnss-systemd installed?)"
    return "" if place(LAUNCHER_DROP_IN).exists() else f"{LAUNCHER_DROP_IN} is missing"


def _trouble_with_sources(cache: Path, switch: Path) -> str:
    if cache.exists():
        return "nscd runs, which may have noted that there is no such user"
    if remote := sorted(_sources(switch) - _LOCAL_SOURCES):
        return f"each start would ask {', '.join(remote)} for the user's groups (nsswitch.conf)"
    return ""


def _name(job_id: JobId) -> str:
    return _PREFIX + job_id[:13]


def _records(name: str, uid: int, title: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the two records (https://systemd.io/USER_RECORD, https://systemd.io/GROUP_RECORD)."""
    yield "group", {"groupName": name, "gid": uid, "disposition": "dynamic"}
    yield (
        "user",
        {
            "userName": name,
            "realName": title,
            "uid": uid,
            "gid": uid,
            "disposition": "dynamic",
            "homeDirectory": "/nonexistent",
            "shell": "/usr/sbin/nologin",
            "locked": True,
        },
    )


def _sources(switch: Path) -> set[str]:
    """Return where users and their groups come from; nsswitch.conf(5)."""
    try:
        text = switch.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return set()
    lines = re.findall(r"^\s*(?:passwd|group|initgroups)\s*:([^#\n]*)", text, re.MULTILINE)
    return {word for line in lines for word in re.sub(r"\[[^]]*\]", " ", line).split()}
