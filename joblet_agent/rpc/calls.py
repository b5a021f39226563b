"""Interceptor: how many calls may run at once, of all and of one client; the end of streams with the agent.

grpc has a limit of its own, for one connection, but grpcio 1.51 lets the calls beyond it wait without a word,
and whoever wants more opens more connections. A client here is a name in a certificate, or a local socket.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from joblet_agent.config import RpcConfig
from joblet_agent.errors import HostUnavailable, LimitReached
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded

_SHARE = 10
"""The last tenth of all calls is for clients that have less than a tenth of it."""


class CallLimit(Interceptor):
    """Keeps account of the calls that run. Streams count like any other call.

    Comes after the caller is authenticated: who is refused takes nobody's place.
    """

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self._calls: Counter[str] = Counter()
        self._streams: dict[asyncio.Timeout, asyncio.Task[Any]] = {}
        self._is_ending = False

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, refusing calls beyond the limit."""
        is_stream = handler.request_streaming or handler.response_streaming
        return guarded(handler, self._stream if is_stream else self._call)

    async def end_streams(self, within: float) -> None:
        """Answer every stream, from now on, with UNAVAILABLE: followers come back to the next agent.

        Returns when those that run have their answer, after ``within`` seconds at the latest: who does not
        read cannot be told.
        """
        self._is_ending = True
        for stream in self._streams:
            stream.reschedule(asyncio.get_running_loop().time())
        if self._streams:
            await asyncio.wait(self._streams.values(), timeout=within)

    @asynccontextmanager
    async def _call(self, context: Context) -> AsyncIterator[None]:
        with self._counted(context):
            yield

    @asynccontextmanager
    async def _stream(self, context: Context) -> AsyncIterator[None]:
        if self._is_ending:
            raise _stopping()
        task = asyncio.current_task()
        assert task is not None
        stream = asyncio.timeout(None)
        try:
            with self._counted(context):
                async with stream:
                    self._streams[stream] = task  # grpc's, which ends when the answer is sent
                    try:
                        yield
                    finally:
                        del self._streams[stream]
        except TimeoutError:
            if not stream.expired():
                raise
            raise _stopping() from None

    @contextmanager
    def _counted(self, context: Context) -> Iterator[None]:
        client = client_of(context)
        self._check(self._calls[client])
        self._calls[client] += 1
        try:
            yield
        finally:
            self._calls[client] -= 1
            if not self._calls[client]:
                del self._calls[client]

    def _check(self, own: int) -> None:
        if own >= self._config.max_per_client:
            raise LimitReached(
                f"cannot serve the call: {own} calls of yours are being served already (rpc.max_per_client)",
                reason="TOO_MANY_OF_CLIENT",
                hint="end followers that nobody reads, or make fewer calls at a time",
            )
        total, most = self._calls.total(), self._config.max_concurrent
        kept_back = most // _SHARE if own >= max(most // _SHARE**2, 1) else 0
        if total >= most - kept_back:
            raise LimitReached(
                f"cannot serve the call: {total} calls are being served already (rpc.max_concurrent)",
                reason="TOO_MANY_CALLS",
                hint="end followers that nobody reads, or try again later",
            )


def _stopping() -> HostUnavailable:
    return HostUnavailable(
        "cannot go on: the agent is stopping",
        reason="AGENT_STOPPING",
        hint="jobs keep running; try again when the agent is back",
    )


def client_of(context: Context) -> str:
    """Return whom a call of a known caller counts for; a certificate's name never counts for a socket."""
    identity = caller()
    kind = "local" if context.peer().startswith("unix:") else "certificate"
    return f"{kind} {identity.role} {identity.name}"
