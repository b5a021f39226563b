"""Wrapping of method handlers, the same for unary methods and for streams of either side.

Streaming servicer methods are coroutines that ``await context.write(...)``, never asynchronous
generators: a cancelled coroutine unwinds at once and in its own task, an abandoned generator whenever
the collector finds it. So ``behaviour(request, context)`` is awaited in all cases; where the client streams,
``request`` is an asynchronous iterator of requests.
"""

from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
    GenericHandler = grpc.GenericRpcHandler[Any, Any]
    _ServerInterceptor = grpc.aio.ServerInterceptor[Any, Any]
else:
    Context = grpc.aio.ServicerContext
    Handler = grpc.RpcMethodHandler
    GenericHandler = grpc.GenericRpcHandler
    _ServerInterceptor = grpc.aio.ServerInterceptor

Behaviour = Callable[[Any, Context], Awaitable[Any]]
Guard = Callable[[Context], AbstractAsyncContextManager[None]]


class Interceptor(_ServerInterceptor):
    """Puts something around every method."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the method's handler, wrapped; None, as grpc wants it, for a method that does not exist."""
        handler = await continuation(handler_call_details)
        return handler and self.wrapped(handler, _path(handler_call_details.method))

    @abstractmethod
    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler of ``method`` (``Service/Method``) with what this interceptor adds."""


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
