"""A job's files on the host: made before the start, removed after the end.

Blocking; callers run it in a thread. Work directories hold whatever a job wanted to put there:
nothing here follows a link that it made.
"""

import logging
import os
from collections.abc import Container
from pathlib import Path

from joblet_agent.jobs.paths import AgentPaths, JobPaths
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.model.job import JobId

_log = logging.getLogger(__name__)
_REPORT_MOST = 4096


def prepare(paths: JobPaths, uid: int) -> None:
    """Make the job's directories and its empty log (0600 root). Raises OSError, e.g. for a full disk."""
    paths.home.mkdir(mode=0o700, parents=False, exist_ok=True)
    paths.work.mkdir(mode=0o755, exist_ok=True)
    os.chown(paths.work, uid, uid)
    for file in (paths.log, paths.launch_report):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def read_report(paths: JobPaths) -> str:
    """Return the launcher's report; empty if there is none."""
    try:
        with paths.launch_report.open("rb") as file:
            return file.read(_REPORT_MOST).decode(errors="replace")
    except FileNotFoundError:
        return ""


def discard_work(paths: JobPaths) -> None:
    """Put an ended job's work directory into the trash: one rename, however much is in it.

    A disk that refuses does not keep the job from ending; what it refused is logged.
    """
    try:
        paths.work.rename(paths.trash)
    except FileNotFoundError:
        return  # done already, before a crash
    except OSError as error:
        _log.warning("cannot discard %s: %s", paths.work, error.strerror)


def remove_private(paths: JobPaths) -> None:
    """Remove what an ended job leaves besides its log; what cannot be removed is logged once."""
    _remove(paths.environment)
    _remove(paths.launch_report)
    _remove_tree(paths.trash)


def remove_all(paths: JobPaths) -> None:
    """Remove everything of a job that is deleted."""
    remove_private(paths)
    _remove_tree(paths.home)


def remove_leftovers(paths: AgentPaths, active: Container[str]) -> None:
    """Remove private files of jobs that are not active: an agent died before it could."""
    for directory in (paths.environments, paths.launch_reports, paths.trash):
        for entry in os.scandir(directory):
            if entry.name not in active:
                remove_private(paths.job(JobId(entry.name)))


def homes(paths: AgentPaths) -> list[JobId]:
    """Return the ids of all jobs that have files."""
    return [JobId(entry.name) for entry in os.scandir(paths.jobs) if entry.is_dir(follow_symlinks=False)]


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("cannot remove %s: %s", file, error.strerror)


def _remove_tree(directory: Path) -> None:
    failures = remove_tree(directory)
    if failures:
        _log.warning(
            "cannot remove %s completely (%d failures), first: %s", directory, len(failures), failures[0]
        )
