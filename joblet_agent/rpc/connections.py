"""How many connections the network listener has, and which are closed when there are too many.

gRPC 1.51 has no limit of its own, and stops listening for good when it runs out of files. It asks for the
certificates at each connection before the handshake, in a thread of its own, which is where this counts. The
sockets are found among the open files of the process (sockets.py) and shut down, which gRPC sees as the end
of the connection.

A connection whose calls are refused or taken back one after the other is closed, too: gRPC 1.51 hands us each
of them, however many, and the calls of all others wait in the same queue.
"""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.rpc.calls import client_of
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded
from joblet_agent.rpc.memory import give_back
from joblet_agent.rpc.requests import REQUEST_MISSING
from joblet_agent.rpc.sockets import Peer, canonical, duplicate, open_sockets, peer_of

_QUEUE = 512
_TELL_EVERY = 60.0
_STRIKES = 200
_FORGIVEN_PER_SECOND = 20
# tcp(7): a client whose host is gone without a word is found out within four minutes. Not by pings of HTTP/2:
# a follower that is stopped (Ctrl-Z) does not answer them, its kernel does.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 120), (socket.TCP_KEEPINTVL, 30), (socket.TCP_KEEPCNT, 4))

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Use:
    """What the calls on a connection tell of it."""

    client: str
    running: int = 0
    strikes: float = 0
    struck_at: float = 0


@dataclass(slots=True)
class _Closed:
    """How many were closed, and the log's line about them, which comes once a minute at most."""

    line: str
    count: int = 0
    told_at: float = -_TELL_EVERY

    def note(self, count: int) -> None:
        self.count += count
        now = time.monotonic()
        if self.count and now - self.told_at >= _TELL_EVERY:
            _LOG.warning(self.line, self.count)
            self.count, self.told_at = 0, now


class Connections:
    """The connections of one port. Its methods may be called by any thread."""

    def __init__(self, port: int, most: int) -> None:
        self._port = port
        self._most = most
        self._step = max(most // 4, 1)
        """So many come between two looks."""
        self._arrived = 0
        self._lock = threading.Lock()
        self._known: dict[str, Peer | None] = {}
        """By the name of their socket in /proc, oldest first; None for sockets of others."""
        self._uses: dict[str, _Use] = {}
        """By gRPC's name of the peer."""
        self._surplus = _Closed(
            f"closed %d connections to port {port}: there were more than {most} (listener.max_connections)"
        )
        self._floods = _Closed(
            f"closed %d connections to port {port}: more than {_STRIKES} calls on each "
            "were refused or taken back"
        )

    def arrived(self) -> None:
        """Take note of one more connection."""
        with self._lock:
            self._arrived += 1
            if self._arrived >= self._step:
                self._arrived = 0
                self._look()

    def begin(self, peer: str, client: str) -> None:
        """Take note of a call by a client that is known."""
        with self._lock:
            self._uses.setdefault(peer, _Use(client)).running += 1

    def end(self, peer: str) -> None:
        """Take note of its end."""
        with self._lock:
            if (use := self._uses.get(peer)) is not None:
                use.running -= 1

    def strike(self, peer: str) -> None:
        """Take note of a call that was refused for a limit or taken back; close the connection of many."""
        with self._lock:
            use, now = self._uses.get(peer), time.monotonic()
            if use is None:
                return
            use.strikes = max(use.strikes - (now - use.struck_at) * _FORGIVEN_PER_SECOND, 0) + 1
            use.struck_at = now
            if use.strikes <= _STRIKES:
                return
            use.strikes = 0
            self._shut([name for name, fd in open_sockets() if self._inspect(name, fd) == peer_of(peer)])
            self._floods.note(1)

    def set_up(self) -> None:
        """Let the kernel find out which peers are gone, and queue few new ones. Before the server starts."""
        for name, fd in open_sockets():
            with suppress(OSError), duplicate(fd, name) as found:
                if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and self._is_ours(found):
                    # gRPC does nothing else while it takes connections from the queue, which is 4096 long.
                    found.listen(_QUEUE)
                    # The sockets of connections have what follows from the one that listens.
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                    for option, value in _KEEPALIVE:
                        found.setsockopt(socket.IPPROTO_TCP, option, value)

    def _look(self) -> None:
        """Close what is too much, and some more, so that the next look need not come at once."""
        open_now = dict(open_sockets())
        for name, fd in open_now.items():
            if name not in self._known:
                self._known[name] = self._inspect(name, fd)
        self._known = {name: known for name, known in self._known.items() if name in open_now}
        ours = {name: known for name, known in self._known.items() if known is not None}
        uses = {at: (peer, use) for peer, use in self._uses.items() if (at := peer_of(peer)) is not None}
        there = set(ours.values())
        self._uses = {peer: use for at, (peer, use) in uses.items() if at in there or use.running}
        surplus = len(ours) + self._step - self._most
        if surplus <= 0:
            return
        victims = _by_merit(ours, {at: use for at, (_, use) in uses.items()})[:surplus]
        self._shut(victims)
        self._surplus.note(len(victims))
        give_back()

    @staticmethod
    def _shut(names: list[str]) -> None:
        for name, fd in open_sockets():
            if name in names:
                with suppress(OSError), duplicate(fd, name) as found:
                    found.shutdown(socket.SHUT_RDWR)

    def _inspect(self, name: str, fd: int) -> Peer | None:
        with suppress(OSError), duplicate(fd, name) as found:
            if self._is_ours(found) and not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                host, port = found.getpeername()[:2]
                return canonical(host), port
        return None

    def _is_ours(self, found: socket.socket) -> bool:
        is_ip = found.family in {socket.AF_INET, socket.AF_INET6}
        return is_ip and found.type == socket.SOCK_STREAM and found.getsockname()[1] == self._port


def _by_merit(ours: dict[str, Peer], uses: dict[Peer, _Use]) -> list[str]:
    """Return the connections that may be closed, the first of them first.

    Those on which nobody has made himself known, the oldest first: they have had the most time. Then idle
    ones, of the client that has most. None on which a call is being served: there are limits for calls.
    """
    strangers: list[str] = []
    idle: dict[str, list[str]] = {}
    for name, peer in ours.items():
        use = uses.get(peer)
        if use is None:
            strangers.append(name)
        elif not use.running:
            idle.setdefault(use.client, []).append(name)
    ranked = [(len(names) - place, name) for names in idle.values() for place, name in enumerate(names)]
    return strangers + [name for _, name in sorted(ranked, reverse=True)]


class UseInterceptor(Interceptor):
    """Tell the connections which of them are used, by whom. Comes after the caller is authenticated."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler with its calls noted."""
        return guarded(handler, self._noted)

    @asynccontextmanager
    async def _noted(self, context: Context) -> AsyncIterator[None]:
        peer = context.peer()
        self._connections.begin(peer, client_of(context))
        try:
            yield
        except (LimitReached, InvalidRequest, asyncio.CancelledError) as error:
            if not isinstance(error, InvalidRequest) or error.reason == REQUEST_MISSING:
                self._connections.strike(peer)
            raise
        finally:
            self._connections.end(peer)
