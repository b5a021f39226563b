"""Streams of files, right ones and wrong ones."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client

PIECE = 1 << 20


def entry(path: str, size: int = 0, **fields: Any) -> pb.UploadEntry:
    return pb.UploadEntry(path=path, size=size, **fields)


def chunks_of(path: str, content: bytes, **fields: Any) -> Iterator[pb.UploadChunk]:
    """The messages of one file."""
    yield pb.UploadChunk(entry=entry(path, len(content), **fields))
    for offset in range(0, len(content), PIECE):
        yield pb.UploadChunk(offset=offset, content=content[offset : offset + PIECE])
    yield pb.UploadChunk(offset=len(content), sha256=hashlib.sha256(content).digest())


def send(client: Client, chunks: Iterator[pb.UploadChunk], timeout: float = 120) -> pb.UploadReply:
    reply: pb.UploadReply = client.agent.UploadFiles(chunks, timeout=timeout)
    return reply


def uploaded(client: Client, files: Mapping[str, bytes]) -> str:
    """Send the files and return the upload's id."""
    return send(
        client, (chunk for path, content in files.items() for chunk in chunks_of(path, content))
    ).upload_id
