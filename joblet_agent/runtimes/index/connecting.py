"""From the address of a server to a connection, directly or by a proxy. Blocking; each wait has an end.

Imported by web.py alone, as that is by ``fetching.web()``: the agent goes without TLS until then.
"""

import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import SplitResult

from joblet_agent.model.host import is_address
from joblet_agent.model.web import web_address

__all__ = ["Proxy", "connect", "trusting"]

_PORTS = {"http": 80, "https": 443}
_MOST_REPLY = 16 << 10
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r]")


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, and what is reached without it."""

    address: str = ""
    """Empty: there is none."""
    exceptions: tuple[str, ...] = ()
    """Names, with all hosts below them, and addresses. This host is one in any case."""

    def for_host(self, host: str) -> SplitResult | None:
        """Return the proxy's address; None for a host that is reached without one."""
        host = host.rstrip(".").casefold()
        is_here = ip_address(host).is_loopback if is_address(host) else host == "localhost"
        names = [name.removeprefix("*.").rstrip(".").casefold() for name in self.exceptions]
        if not self.address or is_here or any(host == name or host.endswith(f".{name}") for name in names):
            return None
        return web_address(self.address)


def trusting(certificates: Path | None) -> ssl.SSLContext:
    """Trust these certificates, or what the host trusts: /etc/ssl/certs, with what its admin has added.

    Raises OSError for a file that cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=certificates)
    except OSError as error:
        raise OSError(f"cannot read {certificates} (runtimes.ca_file): {error.strerror}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # From Python 3.13 on it refuses what other programs of the host take: proxies make CAs of their own.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def connect(
    server: SplitResult,
    proxy: SplitResult | None,
    idle_seconds: float,
    hold: Callable[[socket.socket], None],
    certificates: Path | None,
) -> socket.socket:
    """Return a connection to the server, over which it is asked; for http by a proxy, one to that.

    ``hold`` is given each socket as soon as it waits for anybody but the resolver. Raises OSError, and what
    ``hold`` raises.
    """
    near = proxy or server
    place = near.hostname or "", near.port or _PORTS[near.scheme]
    connected = socket.create_connection(place, idle_seconds)
    try:
        hold(connected)
        if server.scheme == "http":
            return connected
        if proxy is not None:
            _tunnel(connected, server)
        secure = trusting(certificates).wrap_socket(
            connected, server_hostname=server.hostname, do_handshake_on_connect=False
        )
    except BaseException:
        connected.close()
        raise
    try:
        hold(secure)
        secure.do_handshake()
    except BaseException:
        secure.close()
        raise
    return secure


def _tunnel(connected: socket.socket, server: SplitResult) -> None:
    """Have the proxy pass on what comes (RFC 9110, CONNECT). A server of TLS does not speak first."""
    host = f"[{server.hostname}]" if ":" in (server.hostname or "") else server.hostname
    place = f"{host}:{server.port or _PORTS[server.scheme]}"
    connected.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode("ascii"))
    reply = bytearray()
    while not reply.endswith(b"\r\n\r\n"):
        byte = connected.recv(1)
        if not byte or len(reply) > _MOST_REPLY:
            raise OSError("the proxy does not speak HTTP")
        reply += byte
    status = _STATUS.match(reply)
    if status is None or int(status[1]) != HTTPStatus.OK:
        raise OSError(f"the proxy answers {status[1].decode() if status else 'no HTTP'}")
