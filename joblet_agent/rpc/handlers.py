"""Wrapping of method handlers, the same for unary methods and for streams of either side.

Streaming servicer methods are coroutines that ``await context.write(...)``, never asynchronous
generators: a cancelled coroutine unwinds at once and in its own task, an abandoned generator whenever
the collector finds it. So ``behaviour(request, context)`` is awaited in all cases; where the client streams,
``request`` is an asynchronous iterator of requests.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    GenericHandler = grpc.GenericRpcHandler[Any, Any]
else:
    Context = grpc.aio.ServicerContext
    Handler = grpc.RpcMethodHandler
    GenericHandler = grpc.GenericRpcHandler

Behaviour = Callable[[Any, Context], Awaitable[Any]]
Guard = Callable[[Context], AbstractAsyncContextManager[None]]


class Interceptor(ABC):
    """Puts something around every method."""

    @abstractmethod
    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler of ``method`` (``Service/Method``) with what this interceptor adds."""


class InterceptedHandlers(GenericHandler):
    """The methods of some handlers, each with all interceptors around it, the first of them outermost.

    grpc would put them around a method again at each call, which takes longer than most calls.
    """

    def __init__(self, handlers: Sequence[GenericHandler], interceptors: Sequence[Interceptor]) -> None:
        self._handlers = handlers
        self._interceptors = interceptors
        self._methods: dict[str, Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler | None:
        """Return the method's handler; None, as grpc wants it, for a method that does not exist."""
        method = handler_call_details.method
        if method not in self._methods:
            handler = next(
                filter(None, (each.service(handler_call_details) for each in self._handlers)), None
            )
            if handler is None:
                return None
            for interceptor in reversed(self._interceptors):
                handler = interceptor.wrapped(handler, _path(method))
            self._methods[method] = handler
        return self._methods[method]


def _path(method: str) -> str:
    """Return ``Service/Method``; services that are not ours keep their package."""
    return method.removeprefix("/").removeprefix("joblet.")


def behaviour_of(handler: Handler) -> Behaviour:
    """Return what the handler does."""
    if handler.request_streaming and handler.response_streaming:
        return cast(Behaviour, handler.stream_stream)
    if handler.request_streaming:
        return cast(Behaviour, handler.stream_unary)
    return cast(Behaviour, handler.unary_stream if handler.response_streaming else handler.unary_unary)


def with_behaviour(
    handler: Handler, behaviour: Behaviour, *, deserializer: Callable[[bytes], Any] | None
) -> Handler:
    """Return a handler that answers like ``handler`` but does something else."""
    make = handler_maker(
        takes_stream=bool(handler.request_streaming), gives_stream=bool(handler.response_streaming)
    )
    return make(behaviour, request_deserializer=deserializer, response_serializer=handler.response_serializer)


def handler_maker(*, takes_stream: bool, gives_stream: bool) -> Callable[..., Handler]:
    """Return grpc's function that makes handlers of this kind."""
    if takes_stream and gives_stream:
        return grpc.stream_stream_rpc_method_handler
    if takes_stream:
        return grpc.stream_unary_rpc_method_handler
    if gives_stream:
        return grpc.unary_stream_rpc_method_handler
    return grpc.unary_unary_rpc_method_handler


def guarded(handler: Handler, guard: Guard) -> Handler:
    """Return the handler with everything it does inside ``guard(context)``."""
    inner = behaviour_of(handler)

    async def behaviour(request: object, context: Context) -> object:
        async with guard(context):
            return await inner(request, context)

    return with_behaviour(handler, behaviour, deserializer=handler.request_deserializer)
