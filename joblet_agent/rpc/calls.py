"""Interceptor: how many calls may run at once, and the end of streams when the agent stops.

grpc has a limit of its own, but grpcio 1.51 lets the calls beyond it wait without a word.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from joblet_agent.errors import HostUnavailable, LimitReached
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded


class CallLimit(Interceptor):
    """Keeps account of the calls that run. Streams count like any other call."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._unary = 0
        self._streams: set[asyncio.Timeout] = set()

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, refusing calls beyond the limit."""
        is_stream = handler.request_streaming or handler.response_streaming
        return guarded(handler, self._stream if is_stream else self._call)

    def end_streams(self) -> None:
        """Answer every stream that runs with UNAVAILABLE: followers come back to the next agent."""
        for stream in self._streams:
            stream.reschedule(asyncio.get_running_loop().time())

    @asynccontextmanager
    async def _call(self, _context: Context) -> AsyncIterator[None]:
        self._check()
        self._unary += 1
        try:
            yield
        finally:
            self._unary -= 1

    @asynccontextmanager
    async def _stream(self, _context: Context) -> AsyncIterator[None]:
        self._check()
        stream = asyncio.timeout(None)
        try:
            async with stream:
                self._streams.add(stream)
                try:
                    yield
                finally:
                    self._streams.discard(stream)
        except TimeoutError:
            if not stream.expired():
                raise
            raise HostUnavailable(
                "cannot go on: the agent is stopping",
                reason="AGENT_STOPPING",
                hint="jobs keep running; try again when the agent is back",
            ) from None

    def _check(self) -> None:
        if self._unary + len(self._streams) >= self._most:
            raise LimitReached(
                f"cannot serve the call: {self._most} calls are being served already (rpc.max_concurrent)",
                reason="TOO_MANY_CALLS",
                hint="end followers that nobody reads, or try again later",
            )
