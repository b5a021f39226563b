"""Interceptor: the bytes of a request become a message, inside our own error handling.

grpc would decode before any of our code runs: before the caller is known, and a request that cannot be
decoded (text that is not UTF-8, a cut message) would be a bug's traceback in our log and no clear answer.
"""

import asyncio
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError

from joblet_agent.errors import InvalidRequest
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, with_behaviour
from joblet_agent.rpc.requests import Arriving


class DecodeInterceptor(Interceptor):
    """Receive and decode requests last: the interceptors before it see none."""

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, taking bytes."""
        inner, decode = behaviour_of(handler), handler.request_deserializer
        assert decode is not None

        async def behaviour(request: Arriving, context: Context) -> object:
            try:
                return await inner(decoded(await request.receive(), decode, method), context)
            finally:
                request.leave()

        async def stream_behaviour(requests: AsyncIterator[bytes], context: Context) -> object:
            return await inner(DecodedStream(requests, decode, method), context)

        if handler.request_streaming:
            return with_behaviour(handler, stream_behaviour, deserializer=None)
        return with_behaviour(handler, behaviour, deserializer=None)


BEGIN_WITH_START = frozenset({"AgentService/ExecInJob", "AgentService/ImportRuntime"})
"""Client streams whose first message says in its field ``start`` what the call is about."""

_START_WITHIN = 10.0
"""Seconds for the first message; a call without it holds a place of the limit of calls."""


class DecodedStream:
    """The messages of a client's stream, each decoded when it is asked for."""

    def __init__(
        self, requests: AsyncIterator[bytes], decode: Callable[[bytes], object], method: str
    ) -> None:
        self._requests = aiter(requests)
        self._decode = decode
        self._first: Any = None
        self.method = method

    def __aiter__(self) -> "DecodedStream":
        return self

    async def __anext__(self) -> object:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        return decoded(await anext(self._requests), self._decode, self.method)

    async def start(self) -> Any:
        """Return ``start`` of the first message, which stays the first of the iteration.

        Raises InvalidRequest START_MISSING.
        """
        if self._first is None:
            try:
                async with asyncio.timeout(_START_WITHIN):
                    self._first = await anext(self)
            except TimeoutError:
                raise self._no_start(f"no message within {_START_WITHIN:.0f} s") from None
            except StopAsyncIteration:
                raise self._no_start("no message") from None
        if not self._first.HasField("start"):
            raise self._no_start("another message before it")
        return self._first.start

    def _no_start(self, what: str) -> InvalidRequest:
        return InvalidRequest(
            f"cannot call {self.method}: its start is missing, there is {what}",
            reason="START_MISSING",
            hint="say with the first message what is to be done",
        )


async def subject_of(request: object) -> object:
    """Return the message that says what a call is about, the request itself if there is none in it.

    Changes to it are changes to the request. Raises InvalidRequest START_MISSING.
    """
    if isinstance(request, DecodedStream) and request.method in BEGIN_WITH_START:
        return await request.start()
    return request


async def start_of(requests: object) -> Any:
    """Return the start of a stream in BEGIN_WITH_START. Raises InvalidRequest START_MISSING."""
    assert isinstance(requests, DecodedStream)
    return await requests.start()


def decoded(request: bytes, decode: Callable[[bytes], object], method: str) -> object:
    """Return the message. Raises InvalidRequest for bytes that are none."""
    try:
        # Debian's protobuf (3.21, C++) only warns of a stray end-group tag, and leaves out what is behind it.
        # Made an error, the warning arrives as SystemError.
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            return decode(request)
    # ValueError: text that is not UTF-8, with protobuf in Python
    except (DecodeError, ValueError, SystemError) as error:
        raise InvalidRequest(
            f"cannot read the request of {method}: not a valid message, or a text in it is not UTF-8",
            reason="MALFORMED_REQUEST",
            hint="send text as UTF-8, and build the message with the published definition",
        ) from error
