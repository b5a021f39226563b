import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from joblet_agent.rpc.connections import Connections
from joblet_agent.rpc.sockets import peer_of

MOST = 8


class Door:
    """A port, and the connections to it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.connections = Connections(self._listener.getsockname()[1], MOST)

    def come(self) -> socket.socket:
        """Connect, and be accepted; return the client's side."""
        client = self._stack.enter_context(socket.create_connection(self._listener.getsockname(), timeout=10))
        self._stack.enter_context(self._listener.accept()[0])
        self.connections.arrived()
        return client


@contextmanager
def door() -> Iterator[Door]:
    with ExitStack() as stack:
        yield Door(stack)


def name_of(client: socket.socket) -> str:
    host, port = client.getsockname()
    return f"ipv4:{host}:{port}"


def is_closed(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def closed(clients: list[socket.socket]) -> list[int]:
    return [number for number, client in enumerate(clients) if is_closed(client)]


def test_c4_too_many_connections_cost_the_oldest_that_nobody_uses() -> None:
    with door() as opened:
        clients = [opened.come() for _ in range(2)]
        opened.connections.begin(name_of(clients[0]), "bob")
        opened.connections.begin(name_of(clients[1]), "bob")
        opened.connections.end(name_of(clients[1]))
        clients += [opened.come() for _ in range(MOST)]
        # Neither the one with a call on it nor, while there are others, the one that has had one.
        assert closed(clients)[:2] == [2, 3]


def test_c4_idle_connections_are_closed_of_the_client_that_has_most() -> None:
    with door() as opened:
        clients = []
        for client in ("bob", *["eve"] * 7):
            clients.append(opened.come())
            opened.connections.begin(name_of(clients[-1]), client)
            opened.connections.end(name_of(clients[-1]))
        found = closed(clients)
        assert found
        assert 0 not in found


@pytest.mark.parametrize("count", [200, 201])
def test_c4_a_connection_whose_calls_are_all_refused_is_closed(count: int) -> None:
    with door() as opened:
        client, other = opened.come(), opened.come()
        for _ in range(count):
            opened.connections.begin(name_of(client), "eve")
            opened.connections.strike(name_of(client))
            opened.connections.end(name_of(client))
        assert (is_closed(client), is_closed(other)) == (count == 201, False)


@pytest.mark.parametrize(
    ("named", "peer"),
    [
        ("ipv4:127.0.0.1:80", ("127.0.0.1", 80)),
        ("ipv6:%5B::ffff:127.0.0.1%5D:80", ("127.0.0.1", 80)),
        ("ipv6:%5Bfe80::1%25eth0%5D:80", ("fe80::1", 80)),
        ("unix:", None),
    ],
)
def test_names_that_grpc_gives_to_peers(named: str, peer: object) -> None:
    assert peer_of(named) == peer
