"""How the files that come with a job get into its work directory."""

import re
from functools import partial
from pathlib import Path

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.removal import remove_tree
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.tree import write_tree
from joblet_agent.jobs.upload_check import MOST_TOLD, check_tree
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import JobSpec
from joblet_agent.model.workspace import most_files
from joblet_agent.units import format_bytes

_BLOCK = 4096
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


def check_uploads(spec: JobSpec, uploads: Uploads, most_entries: int) -> None:
    """Raise InvalidRequest or LimitReached for files that cannot all be in the job's work directory."""
    if not uploads.files and not uploads.staged_id:
        return
    if uploads.staged_id and not _UPLOAD_ID.fullmatch(uploads.staged_id):
        raise InvalidRequest(
            f"cannot run job: not the id of an upload: {quoted(uploads.staged_id)}",
            reason="INVALID_UPLOAD_ID",
            hint="the id is in the reply of UploadFiles",
        )
    if uploads.files and uploads.staged_id:
        raise InvalidRequest(
            "cannot run job: it has files in the request and an upload_id",
            reason="TWO_UPLOADS",
            hint="send all files the same way",
        )
    if spec.work_in_memory:
        raise InvalidRequest(
            "cannot run job: files cannot be sent to a job with --work-size: its /work is memory of its own "
            "here, where no project quotas can limit a directory",
            reason="UPLOADS_INTO_MEMORY",
            hint="leave --work-size out, or let the command fetch its files",
        )
    check_tree(uploads.files, most_entries)
    _check_room(spec, sum(_on_disk(len(file.content)) for file in uploads.files), len(uploads.files))


def bring_uploads(
    spec: JobSpec, uploads: Uploads, staging: UploadStaging, owner: str
) -> tuple[tuple[str, ...], Delivery] | None:
    """Return the paths of the files that come with a job, and what puts them into its work directory.

    None when there are none. A staged upload is taken by this: whoever calls must let the delivery run.
    Raises NotFound for an upload that is not there, LimitReached for one that the workspace has no room for.
    """
    if uploads.staged_id:
        upload = staging.look(uploads.staged_id, owner)
        _check_room(spec, upload.total_bytes, upload.file_count)
        upload, directory = staging.take(uploads.staged_id, owner)
        return upload.paths, partial(_move, directory)
    if not uploads.files:
        return None
    paths = tuple(file.path for file in uploads.files if not file.is_directory)
    return paths[:MOST_TOLD], partial(_write, uploads.files)


def _check_room(spec: JobSpec, size: int, files: int) -> None:
    most = spec.resources.work_size
    if not most:
        return
    if size > most:
        what = f"its files take {size} bytes or more"
    elif files > most_files(most):
        what = f"it has {files} files, and at most {most_files(most)} go with that"
    else:
        return
    raise LimitReached(
        f"cannot run job: its work size is {format_bytes(most)}: {what}",
        reason="UPLOADS_OVER_WORK_SIZE",
        hint="send less, or ask for more with --work-size; the default is limits.default.work_size",
    )


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _move(staged: Path, work: Path) -> None:
    try:
        work.parent.mkdir(mode=0o700)
        staged.rename(work)
    except OSError:
        remove_tree(staged)
        raise


def _write(files: tuple[NewFile, ...], work: Path) -> None:
    work.parent.mkdir(mode=0o700)
    work.mkdir(mode=0o755)
    write_tree(work, files)
