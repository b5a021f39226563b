"""Files on the wire: streams of either side."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from joblet_agent.errors import LimitReached, NotFound
from joblet_agent.model.files import FileKind, FilePiece, NewFile, UploadPart, WorkFile
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, NOW, Caller, FakeFiles, FakeJobs, reason_of, serving

UPLOAD, LIST, DOWNLOAD = (
    "AgentService/UploadFiles",
    "AgentService/ListJobFiles",
    "AgentService/DownloadJobFile",
)
FILE = WorkFile("a/b", FileKind.FILE, 2**40, 0o640, NOW)


def test_an_upload_is_converted_message_by_message() -> None:
    files = FakeFiles()

    async def run() -> pb.UploadReply:
        async with serving(FakeJobs(), files=files) as caller:
            chunks = [
                pb.UploadChunk(entry=pb.UploadEntry(path="d", mode=0o755, is_directory=True)),
                pb.UploadChunk(entry=pb.UploadEntry(path="d/a", size=3), content=b"ab"),
                pb.UploadChunk(offset=2, content=b"c", sha256=b"digest"),
            ]
            reply: pb.UploadReply = await caller.upload(UPLOAD, chunks)
            return reply

    reply = asyncio.run(run())
    assert files.parts == [
        UploadPart(NewFile("d", 0o755, is_directory=True)),
        UploadPart(NewFile("d/a", size=3), content=b"ab"),
        UploadPart(offset=2, content=b"c", sha256=b"digest"),
    ]
    assert (reply.upload_id, reply.file_count, reply.total_bytes) == ("0123", 1, 2)
    assert reply.expires_time == "2026-01-31T12:00:00Z"


def test_an_error_within_a_stream_is_answered_as_any_other() -> None:
    files = FakeFiles(error=LimitReached("cannot take files: enough", reason="UPLOAD_TOO_LARGE"))

    async def run() -> grpc.aio.AioRpcError:
        async with serving(FakeJobs(), files=files) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.upload(UPLOAD, [pb.UploadChunk()] * 100)
            return caught.value

    error = asyncio.run(run())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "UPLOAD_TOO_LARGE")


@pytest.mark.parametrize("bytes_", [b"\xff\xff", b"\x0a\x03\x0a\x01\xff"])
def test_a_message_of_a_stream_that_cannot_be_read_is_refused(bytes_: bytes) -> None:
    async def run() -> tuple[grpc.aio.AioRpcError, int]:
        files = FakeFiles()
        async with serving(FakeJobs(), files=files) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.upload(UPLOAD, [pb.UploadChunk(content=b"x"), bytes_])
            return caught.value, len(files.parts)

    error, taken = asyncio.run(run())
    assert (error.code(), reason_of(error), taken) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "MALFORMED_REQUEST",
        1,
    )


def test_an_upload_ends_when_the_agent_stops() -> None:
    async def run() -> grpc.aio.AioRpcError:
        async with serving(FakeJobs()) as caller:
            begun, over = asyncio.Event(), asyncio.Event()

            async def chunks() -> AsyncIterator[bytes]:
                yield pb.UploadChunk(content=b"x").SerializeToString()
                begun.set()
                await over.wait()

            call = caller.channel.stream_unary(f"/joblet.{UPLOAD}", None, None)(chunks())
            await begun.wait()
            await asyncio.sleep(0.1)  # the call has arrived
            await caller.stop()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            over.set()
            return caught.value

    error = asyncio.run(run())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "AGENT_STOPPING")


def test_lists_and_downloads_are_sent_piece_by_piece_and_closed() -> None:
    pieces = [
        FilePiece(FILE),
        FilePiece(offset=5, content=b"x"),
        FilePiece(replace(FILE, name="l"), skipped="why"),
    ]
    files = FakeFiles(pieces=pieces)

    async def run(caller: Caller) -> tuple[list[pb.JobFileList], list[pb.FileChunk]]:
        listed = [each async for each in caller.stream(LIST, pb.ListJobFilesRequest(uuid=ID, path="p"))]
        sent = caller.stream(DOWNLOAD, pb.DownloadJobFileRequest(uuid=ID, path="q"))
        return listed, [each async for each in sent]

    async def serve() -> tuple[list[pb.JobFileList], list[pb.FileChunk]]:
        async with serving(FakeJobs(), files=files) as caller:
            return await run(caller)

    (listed,), sent = asyncio.run(serve())
    told = pb.JobFile(name="a/b", kind="file", size=2**40, mode=0o640, modified_time="2026-01-31T12:00:00Z")
    assert listed.files[0] == told
    assert [chunk.file.name for chunk in sent] == ["a/b", "", "l"]
    assert (sent[1].offset, sent[1].content, sent[2].skipped) == (5, b"x", "why")
    assert (files.calls, files.closed) == ([(ID, "p"), (ID, "q")], 2)


def test_files_of_a_request_reach_the_service() -> None:
    jobs = FakeJobs()

    async def run() -> None:
        async with serving(jobs) as caller:
            uploads = [
                pb.FileUpload(path="a", content=b"x", mode=0o600),
                pb.FileUpload(path="d", is_directory=True),
            ]
            await caller.unary("JobService/RunJob", pb.RunJobRequest(command="true", uploads=uploads))
            await caller.unary("JobService/RunJob", pb.RunJobRequest(command="true", upload_id="0123"))

    asyncio.run(run())
    assert jobs.calls[0][3].files == (
        NewFile("a", 0o600, size=1, content=b"x"),
        NewFile("d", is_directory=True),
    )
    assert jobs.calls[1][3].staged_id == "0123"


def test_what_the_service_refuses_is_answered() -> None:
    class NoFiles(FakeFiles):
        async def download(self, given: str, path: str) -> object:  # type: ignore[override]
            raise NotFound("cannot read files: there is none", reason="NO_FILES")

    async def run() -> grpc.aio.AioRpcError:
        async with serving(FakeJobs(), files=NoFiles()) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(DOWNLOAD)
            return caught.value

    error = asyncio.run(run())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "NO_FILES")
