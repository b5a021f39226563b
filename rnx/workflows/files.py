"""Workflow files on this side: which file and workflow is meant, and what is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.workflow_file import FileInvalid, Problem, Workflow, load
from joblet_agent.workflow_file.room import MOST_BYTES
from rnx.exits import RnxError
from rnx.output import clean


@dataclass(frozen=True, slots=True)
class Source:
    """A workflow file that was read and checked."""

    path: Path
    name: str
    """Which workflow or job of it is meant; empty for the only one."""
    text: str
    workflow: Workflow


class WorkflowInvalid(RnxError):
    """A workflow that cannot run; ``problems`` has all that is wrong, by its place in the file."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = problems
        super().__init__("workflow validation failed")
        self.more = FileInvalid(problems).shown(str(path))


def split_name(text: str) -> tuple[Path, str]:
    """Return path and name of ``FILE`` or ``FILE:NAME``; a file that is there is meant as a whole."""
    path, colon, name = text.rpartition(":")
    if not colon or Path(text).exists():
        return Path(text), ""
    return Path(path), name


def read_workflow(text: str) -> Source:
    """Return the workflow that ``FILE`` or ``FILE:NAME`` means.

    The files that its jobs upload must be there. Raises RnxError; WorkflowInvalid has all that is wrong.
    """
    path, name = split_name(text)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RnxError(f"cannot read {path}: {error.strerror}") from error
    try:
        written = content.decode("utf-8-sig")
        workflow = load(written).select(name)
    except UnicodeDecodeError as error:
        raise RnxError(f"cannot read {path}: not UTF-8") from error
    except FileInvalid as error:
        raise WorkflowInvalid(path, error.problems) from error
    missing = tuple(_missing_files(path, workflow))
    if missing:
        raise WorkflowInvalid(path, missing)
    return Source(path, name, written, workflow)


def found_upload(path: Path, name: str) -> Path | None:
    """Return where a file that a job uploads is: beside the workflow file, or as it is written."""
    return next((each for each in (path.parent / name, Path(name)) if each.exists()), None)


def _missing_files(path: Path, workflow: Workflow) -> Iterator[Problem]:
    for job in workflow.jobs.values():
        for key, names, is_right in (
            ("uploads.files", job.upload_files, Path.is_file),
            ("uploads.directories", job.upload_directories, Path.is_dir),
        ):
            for number, name in enumerate(names):
                found = found_upload(path, name)
                if found is None or not is_right(found):
                    mark = job.marks.get(f"{key}[{number}]", job.marks.get(key, job.mark))
                    what = "file" if key == "uploads.files" else "directory"
                    text = f"{what} {clean(name)} referenced in job {job.name} not found"
                    yield Problem(mark, f"{workflow.key}jobs.{job.group}.{key}", text)
