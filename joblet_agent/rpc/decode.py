"""Interceptor: the bytes of a request become a message, inside our own error handling.

grpc would decode before any of our code runs: before the caller is known, and a request that cannot be
decoded (text that is not UTF-8, a cut message) would be a bug's traceback in our log and no clear answer.
"""

import warnings
from collections.abc import AsyncIterator, Callable

from google.protobuf.message import DecodeError

from joblet_agent.errors import InvalidRequest
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, with_behaviour


class DecodeInterceptor(Interceptor):
    """Decode requests last, so that the interceptors before it handle bytes only."""

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, taking bytes."""
        inner, decode = behaviour_of(handler), handler.request_deserializer
        assert decode is not None

        async def behaviour(request: bytes, context: Context) -> object:
            return await inner(decoded(request, decode, method), context)

        async def stream_behaviour(requests: AsyncIterator[bytes], context: Context) -> object:
            return await inner(DecodedStream(requests, decode, method), context)

        if handler.request_streaming:
            return with_behaviour(handler, stream_behaviour, deserializer=None)
        return with_behaviour(handler, behaviour, deserializer=None)


class DecodedStream:
    """The messages of a client's stream, each decoded when it is asked for."""

    def __init__(
        self, requests: AsyncIterator[bytes], decode: Callable[[bytes], object], method: str
    ) -> None:
        self._requests = aiter(requests)
        self._decode = decode
        self._method = method

    def __aiter__(self) -> "DecodedStream":
        return self

    async def __anext__(self) -> object:
        return decoded(await anext(self._requests), self._decode, self._method)


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
