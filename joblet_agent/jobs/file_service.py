"""What callers can do with files: send them ahead of a job, look at and fetch those of a job."""

from collections.abc import AsyncIterator

from joblet_agent.errors import WrongState
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.pieces import Pieces
from joblet_agent.jobs.service import JobService
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.upload_check import path_parts
from joblet_agent.jobs.work_files import list_directory, read_tree
from joblet_agent.model.files import FilePiece, StagedUpload, UploadPart, WorkFile
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobRecord


class FileService:
    """The file use cases. Paths are relative to the job's workspace; empty for the workspace itself."""

    def __init__(self, *, jobs: JobService, staging: UploadStaging, paths: AgentPaths) -> None:
        self._jobs = jobs
        self._staging = staging
        self._paths = paths

    async def upload(self, parts: AsyncIterator[UploadPart], caller: Identity) -> StagedUpload:
        """Take files in for a job that the caller runs next; see jobs/staging.py for what it raises."""
        return await self._staging.receive(parts, caller.name)

    async def files(self, given: str, path: str) -> Pieces[list[WorkFile]]:
        """Return what is in a directory. The pieces raise as jobs/work_files.py does."""
        parts = _parts(path)
        record = await self._record(given)
        return Pieces(list_directory(self._paths.job(record.id).work, parts))

    async def download(self, given: str, path: str) -> Pieces[FilePiece]:
        """Return a file, or a directory with all below it. The pieces raise as jobs/work_files.py does."""
        parts = _parts(path)
        record = await self._record(given)
        return Pieces(read_tree(self._paths.job(record.id).work, parts))

    async def _record(self, given: str) -> JobRecord:
        record = await self._jobs.get(given)
        if record.spec.work_in_memory:
            raise WrongState(
                f"cannot read files: /work of job {record.id[:8]} is memory of its own (--work-size)",
                reason="WORK_IN_MEMORY",
                hint="run the job without --work-size, or let it print its results",
            )
        return record


def _parts(path: str) -> tuple[str, ...]:
    return path_parts(path, doing="read files") if path else ()
