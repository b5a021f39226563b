"""A web server on loopback that answers as a test wants, byte for byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

Answer = bytes | Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What is sent, or who sends it; the connection is closed afterwards."""


def ok(body: bytes, *headers: str) -> bytes:
    """An answer with all of the body."""
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def moved(location: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


@dataclass
class WebServer:
    """What it answers by the target of a request, and what was asked."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """First lines of requests."""
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """A client has ended its connection while it was to be answered."""
    address: str = ""
    served: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.served.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
            self.served.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            line = head.decode("latin-1").partition("\r\n")[0]
            self.asked.append(line)
            answer = self.answers.get(line.split()[1], b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            if isinstance(answer, bytes):
                writer.write(answer)
            else:
                await answer(reader, writer)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

    async def hang(self, reader: asyncio.StreamReader) -> None:
        """Say nothing until the client is gone."""
        with suppress(ConnectionError):
            await reader.read()
        self.gone.set()


@asynccontextmanager
async def serving(
    answers: dict[str, Answer] | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[WebServer]:
    """A server within the block."""
    web = WebServer(dict(answers or {}))
    server = await asyncio.start_server(web.serve, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()
    web.address = f"https://localhost:{port}" if context else f"http://{host}:{port}"
    try:
        yield web
    finally:
        server.close()
        for task in web.served.copy():
            task.cancel()
        await asyncio.gather(*web.served, return_exceptions=True)
        await asyncio.sleep(0)  # for transports that have been aborted
