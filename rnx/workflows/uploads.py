"""The files that travel with a workflow: every one that its jobs upload, under the path as it is written."""

from pathlib import Path

from rnx.exits import RnxError
from rnx.uploads import Upload, directory_below, file_below
from rnx.workflows.files import Source, found_upload


def workflow_uploads(source: Source) -> list[Upload]:
    """Find all files and directories, each once however many jobs want it. Raises RnxError."""
    found: dict[str, Upload] = {}
    jobs = source.workflow.jobs.values()
    for name in dict.fromkeys(name for job in jobs for name in job.upload_files):
        found[name] = file_below(_place(source, name), name)
    for name in dict.fromkeys(name for job in jobs for name in job.upload_directories):
        for each in directory_below(_place(source, name), name):
            found.setdefault(each.path, each)
    return list(found.values())


def _place(source: Source, name: str) -> Path:
    place = found_upload(source.path, name)
    if place is None:
        raise RnxError(f"cannot send {name}: it is not there any more")
    return place
