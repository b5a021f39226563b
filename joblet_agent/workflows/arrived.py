"""The files that came with a workflow, and which of them each job gets. Pure; paths only."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from posixpath import normpath

from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.workflow_file import WorkflowJob

_BEHIND_SLASH = chr(ord("/") + 1)


class Arrived:
    """Finds files by what jobs name, files and directories. Jobs that name the same share the answer."""

    def __init__(self, paths: Collection[str]) -> None:
        self.paths = frozenset(map(normpath, paths))
        self._sorted = sorted(self.paths)
        self._found: dict[tuple[Sequence[str], Sequence[str]], Uploads] = {}

    def missing(self, job: WorkflowJob) -> Iterator[tuple[str, str]]:
        """Yield key and path of what the job names and did not come."""
        for number, path in enumerate(job.upload_files):
            if path not in self.paths:
                yield f"uploads.files[{number}]", path
        for number, path in enumerate(job.upload_directories):
            if path not in self.paths and not self._below(path):
                yield f"uploads.directories[{number}]", path

    def of(self, job: WorkflowJob) -> Uploads:
        """Return the job's files, without their content."""
        key = (job.upload_files, job.upload_directories)
        if key not in self._found:
            paths = {path for path in job.upload_files if path in self.paths}
            for directory in job.upload_directories:
                paths.update(self._below(directory))
            self._found[key] = Uploads(tuple(map(NewFile, sorted(paths - self._directories(paths)))))
        return self._found[key]

    def _below(self, directory: str) -> list[str]:
        first = bisect_left(self._sorted, f"{directory}/")
        return self._sorted[first : bisect_left(self._sorted, f"{directory}{_BEHIND_SLASH}")]

    def _directories(self, paths: Collection[str]) -> set[str]:
        """Return which of the paths are ways to others of them: they came as entries of their own."""
        return {path for path in paths if self._below(path)}
