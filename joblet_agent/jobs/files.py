"""A job's files on the host: made before the start, removed after the end.

Blocking; callers run it in a thread. Work directories hold whatever a job wanted to put there:
nothing here follows a link that it made.
"""

import logging
import os
from collections.abc import Callable, Collection, Container
from pathlib import Path

from joblet_agent.jobs.paths import AgentPaths, JobPaths
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.tree import give_tree
from joblet_agent.model.job import JobId

Delivery = Callable[[Path], None]
"""Makes a job's home with a work directory, and in it what came with the job. Blocking; raises OSError."""

_log = logging.getLogger(__name__)
_REPORT_MOST = 4096


def deliver(paths: JobPaths, delivery: Delivery) -> None:
    """Put what came with a job into its directory; it belongs to root until the job starts.

    Raises OSError, e.g. for a full disk; nothing is left then.
    """
    try:
        delivery(paths.work)
    except BaseException:
        remove_all(paths)
        raise


def prepare(paths: JobPaths, uid: int) -> None:
    """Make the job's directories and its empty log (0600 root). Raises OSError, e.g. for a full disk."""
    paths.home.mkdir(mode=0o700, parents=False, exist_ok=True)
    try:
        paths.work.mkdir(mode=0o755)
        os.chown(paths.work, uid, uid)
    except FileExistsError:  # delivered, or from a start that was interrupted before its command ran
        give_tree(paths.work, uid)
    for file in (paths.log, paths.launch_report):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def read_report(paths: JobPaths) -> str:
    """Return the launcher's report; empty if there is none."""
    try:
        with paths.launch_report.open("rb") as file:
            return file.read(_REPORT_MOST).decode(errors="replace")
    except FileNotFoundError:
        return ""


def settle_work(paths: JobPaths, *, keep: bool) -> bool:
    """Keep or discard an ended job's work directory, an empty one in any case; say whether it is kept."""
    if not keep:
        discard_work(paths)
        return False
    try:
        paths.work.rmdir()
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not empty
    return False


def remove_work(paths: JobPaths) -> None:
    """Remove the work directory that was kept of an ended job."""
    discard_work(paths)
    _remove_tree(paths.trash)


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


def discard_secrets(paths: JobPaths) -> None:
    """Remove what holds secrets of a job that has ended."""
    _remove(paths.environment)
    _remove_tree(paths.credentials)


def remove_private(paths: JobPaths) -> list[str]:
    """Remove what an ended job leaves besides its log; what cannot be removed is logged once.

    Returns what is left of its work directory, and why.
    """
    discard_secrets(paths)
    _remove(paths.launch_report)
    return _remove_tree(paths.trash)


def remove_all(paths: JobPaths) -> list[str]:
    """Remove everything of a job that is deleted; return what cannot be removed and why."""
    return remove_private(paths) + _remove_tree(paths.home)


def remove_leftovers(paths: AgentPaths, active: Container[str], started: Collection[str]) -> None:
    """Remove what an agent could not before it died.

    Private files of jobs that are not ``active``, and what jobs whose command runs needed before.
    """
    for directory in (paths.environments, paths.launch_reports, paths.trash, paths.credentials):
        for entry in os.scandir(directory):
            if entry.name not in active:
                remove_private(paths.job(JobId(entry.name)))
    for job_id in started:
        _remove(paths.job(JobId(job_id)).environment)


def homes(paths: AgentPaths) -> list[JobId]:
    """Return the ids of all jobs that have files."""
    return [JobId(entry.name) for entry in os.scandir(paths.jobs) if entry.is_dir(follow_symlinks=False)]


def homes_with_work(paths: AgentPaths) -> list[JobId]:
    """Return the ids of all jobs that have a work directory."""
    return [job_id for job_id in homes(paths) if os.path.lexists(paths.job(job_id).work)]


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("cannot remove %s: %s", file, error.strerror)


def _remove_tree(directory: Path) -> list[str]:
    failures = remove_tree(directory)
    if failures:
        _log.warning(
            "cannot remove %s completely (%d failures), first: %s", directory, len(failures), failures[0]
        )
    return failures
