"""Interceptor: how many calls may run at once, of all and of one client; the end of streams with the agent.

grpc has a limit of its own, for one connection, but grpcio 1.51 lets the calls beyond it wait without a word,
and whoever wants more opens more connections. A client here is a name in a certificate, or a local socket.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from joblet_agent.errors import HostUnavailable, LimitReached
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded

_SHARE = 10
"""The last tenth of all calls is for clients that have less than a tenth of it."""


class CallLimit(Interceptor):
    """Keeps account of the calls that run. Streams count like any other call.

    Comes after the caller is authenticated: who is refused takes nobody's place.
    """

    def __init__(self, most: int, most_per_client: int) -> None:
        self._most = most
        self._most_per_client = most_per_client
        self._calls: Counter[str] = Counter()
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
    async def _call(self, context: Context) -> AsyncIterator[None]:
        with self._counted(context):
            yield

    @asynccontextmanager
    async def _stream(self, context: Context) -> AsyncIterator[None]:
        stream = asyncio.timeout(None)
        try:
            with self._counted(context):
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

    @contextmanager
    def _counted(self, context: Context) -> Iterator[None]:
        client = _client(context)
        self._check(self._calls[client])
        self._calls[client] += 1
        try:
            yield
        finally:
            self._calls[client] -= 1
            if not self._calls[client]:
                del self._calls[client]

    def _check(self, own: int) -> None:
        if own >= self._most_per_client:
            raise LimitReached(
                f"cannot serve the call: {own} calls of yours are being served already (rpc.max_per_client)",
                reason="TOO_MANY_OF_CLIENT",
                hint="end followers that nobody reads, or make fewer calls at a time",
            )
        total = self._calls.total()
        kept_back = self._most // _SHARE if own >= max(self._most // _SHARE**2, 1) else 0
        if total >= self._most - kept_back:
            raise LimitReached(
                f"cannot serve the call: {total} calls are being served already (rpc.max_concurrent)",
                reason="TOO_MANY_CALLS",
                hint="end followers that nobody reads, or try again later",
            )


def _client(context: Context) -> str:
    """Return whom the call counts for; a name in a certificate never counts for a local socket."""
    identity = caller()
    kind = "local" if context.peer().startswith("unix:") else "certificate"
    return f"{kind} {identity.role} {identity.name}"
