"""The methods of AgentService that move files."""

from collections.abc import AsyncIterator

from joblet_agent.model.files import FilePiece, NewFile, UploadPart, WorkFile
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.convert import rfc3339
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import Files


class FileServicer:
    """Proto to model, one service call, model to proto; one message of a stream at a time."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def UploadFiles(self, requests: AsyncIterator[pb.UploadChunk], context: Context) -> pb.UploadReply:
        """Take files in for a job that is run next."""
        upload = await self._files.upload(_Parts(requests), caller())
        return pb.UploadReply(
            upload_id=upload.id,
            file_count=upload.file_count,
            total_bytes=upload.total_bytes,
            expires_time=rfc3339(upload.expires_at),
        )

    async def ListJobFiles(self, request: pb.ListJobFilesRequest, context: Context) -> None:
        """Send what is in a directory of a job's workspace."""
        batches = await self._files.files(request.uuid, request.path)
        try:
            async for batch in batches:
                await context.write(pb.JobFileList(files=map(_file_to_proto, batch)))
        finally:
            await batches.aclose()

    async def DownloadJobFile(self, request: pb.DownloadJobFileRequest, context: Context) -> None:
        """Send a file of a job's workspace, or a directory with all that is below it."""
        pieces = await self._files.download(request.uuid, request.path)
        try:
            async for piece in pieces:
                await context.write(piece_to_proto(piece))
        finally:
            await pieces.aclose()


class _Parts:
    """The parts of an upload, each converted when it is asked for."""

    def __init__(self, requests: AsyncIterator[pb.UploadChunk]) -> None:
        self._requests = aiter(requests)

    def __aiter__(self) -> "_Parts":
        return self

    async def __anext__(self) -> UploadPart:
        chunk = await anext(self._requests)
        entry = chunk.entry
        return UploadPart(
            entry=NewFile(entry.path, entry.mode, entry.is_directory, entry.size)
            if chunk.HasField("entry")
            else None,
            offset=chunk.offset,
            content=chunk.content,
            sha256=chunk.sha256,
        )


def _file_to_proto(file: WorkFile) -> pb.JobFile:
    return pb.JobFile(
        name=file.name,
        kind=file.kind.value,
        size=file.size,
        mode=file.mode,
        modified_time=rfc3339(file.modified_at),
    )


def piece_to_proto(piece: FilePiece) -> pb.FileChunk:
    """Return one message of a download."""
    return pb.FileChunk(
        file=_file_to_proto(piece.file) if piece.file else None,
        offset=piece.offset,
        content=piece.content,
        skipped=piece.skipped,
    )
