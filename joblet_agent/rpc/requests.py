"""Interceptor: a call is checked before its request is received, and memory for requests has a limit.

gRPC receives the request of a unary method before it calls anybody, from whoever has a certificate of ours,
with or without a role: ten calls with 100 MiB each are a gigabyte, and calls that never send their request
are in nobody's account. To gRPC every method here takes a stream. Then the call comes at once, gRPC receives
only what fits into the window of HTTP/2 (64 KiB), and the rest when the call has passed the checks and has a
place.
"""

import asyncio
from collections import Counter, deque
from datetime import timedelta

import grpc.aio

from joblet_agent.config import RpcConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, LimitReached
from joblet_agent.rpc.calls import client_of
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, handler_maker
from joblet_agent.rpc.memory import forget_frames, give_back
from joblet_agent.units import MIB, format_duration

PLACES = 8
"""Requests that are received at once. The second half is for clients that have no place yet."""
PLACES_OF_CLIENT = 2
"""Of them those of one client."""
REQUEST_MISSING = "REQUEST_MISSING"
"""Reason of calls that were ended, or taken back, without a request."""
LARGE = MIB
"""Bytes; a larger request keeps its place until it is answered, because it stays in memory as long."""


class Reception:
    """The places for requests on their way: who sends slowly stops nobody else. Belongs to the event loop."""

    def __init__(self, most: int = PLACES, most_of_client: int = PLACES_OF_CLIENT) -> None:
        self._most = most
        self._most_of_client = most_of_client
        self._taken: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    async def enter(self, client: str) -> None:
        """Take a place of the client, waiting until there is one."""
        if self._is_free(client):
            self._taken[client] += 1
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append((client, admitted))
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # admitted in this very moment
                self.leave(client)
            raise

    def leave(self, client: str) -> None:
        """Give a place of the client to the first who waits and may have it."""
        self._taken[client] -= 1
        if not self._taken[client]:
            del self._taken[client]
        for _ in range(len(self._waiting)):
            waiting, admitted = self._waiting.popleft()
            if admitted.done():
                continue
            if self._is_free(waiting):
                self._taken[waiting] += 1
                admitted.set_result(None)
            else:
                self._waiting.append((waiting, admitted))

    def _is_free(self, client: str) -> bool:
        own = self._taken[client]
        most = self._most // 2 if own else self._most
        return own < self._most_of_client and self._taken.total() < most


class Arriving:
    """The request of a unary method, which is received when it is asked for."""

    def __init__(self, context: Context, reception: Reception, within: timedelta) -> None:
        self._context = context
        self._reception = reception
        self._within = within
        self._place: str | None = None
        self._is_large = False

    async def receive(self) -> bytes:
        """Return the request. Raises LimitReached if it does not arrive in time. ``leave`` afterwards."""
        try:
            async with asyncio.timeout(self._within.total_seconds()):
                request = await self._receive()
        except TimeoutError:
            raise LimitReached(
                f"cannot serve the call: its request has not arrived within {format_duration(self._within)} "
                "(rpc.request_timeout)",
                reason="REQUEST_TOO_SLOW",
                hint="send the request at once; files over a slow line as an upload",
            ) from None
        self._is_large = len(request) > LARGE
        if not self._is_large:
            self.leave()
        return request

    def leave(self) -> None:
        """Let go of the request's place."""
        if self._place is not None:
            place, self._place = self._place, None
            self._reception.leave(place)
        if self._is_large:
            self._is_large = False
            asyncio.get_running_loop().call_soon(give_back)  # when nobody holds the request any more

    async def _receive(self) -> bytes:
        client = client_of(self._context)
        await self._reception.enter(client)
        self._place = client
        try:
            request = await self._context.read()
        except grpc.aio.BaseError as error:
            raise HostUnavailable(
                "cannot serve the call: the agent is stopping",
                reason="AGENT_STOPPING",
                hint="jobs keep running; try again when the agent is back",
            ) from error
        if not isinstance(request, bytes):  # grpc.aio.EOF
            raise InvalidRequest("cannot read the request: there is none", reason=REQUEST_MISSING)
        return request


class RequestInterceptor(Interceptor):
    """Let unary methods have an ``Arriving`` for their request. Must be the outermost interceptor."""

    def __init__(self, reception: Reception, config: RpcConfig) -> None:
        self._reception = reception
        self._config = config

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler as one that takes a stream."""
        if handler.request_streaming:
            return handler
        inner = behaviour_of(handler)

        async def behaviour(_: object, context: Context) -> object:
            try:
                return await inner(Arriving(context, self._reception, self._config.request_timeout), context)
            except BaseException as error:
                forget_frames(error)  # grpc keeps the error, and so would the request stay
                raise

        make = handler_maker(takes_stream=True, gives_stream=bool(handler.response_streaming))
        return make(behaviour, request_deserializer=None, response_serializer=handler.response_serializer)
