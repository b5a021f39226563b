"""One GET over HTTP or HTTPS. Blocking: use a thread, and ``abort`` it from another one.

http.client, because it is there: what is asked for are a few files, one after the other. Each wait for the
network has an end (``idle_seconds``); the end of the whole is the caller's.

Import it by ``fetching.web()`` alone: the agent goes without TLS until then.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import SplitResult, urljoin

from joblet_agent import __version__
from joblet_agent.errors import JobletError, NotFound
from joblet_agent.model.web import shown_address, web_address
from joblet_agent.runtimes.index.connecting import Proxy, connect
from joblet_agent.runtimes.index.failures import FAILED, Aborted, failure, too_large

__all__ = ["Proxy", "WebRequest"]

_MOST_REDIRECTS = 5
_PIECE = 1 << 18
_KINDS: dict[str, type[http.client.HTTPConnection]] = {
    "http": http.client.HTTPConnection,
    "https": http.client.HTTPSConnection,
}
"""They are given their connection; what differs is the port that needs no mention."""
_REDIRECTS = {301, 302, 303, 307, 308}


class WebRequest:
    """A request that another thread can abort; it is used once."""

    def __init__(self, address: str, proxy: Proxy, idle_seconds: float, trusted: Path | None = None) -> None:
        """``trusted`` has the certificates that are trusted; None for those that the host trusts."""
        self._address = address
        self._proxy = proxy
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_aborted = False
        self._trusted = trusted

    def abort(self) -> None:
        """Let whoever waits in ``run`` go on at once, to raise Aborted. From any thread."""
        with self._lock:
            self._is_aborted = True
            if self._socket is not None:
                with suppress(OSError):  # it is closed already
                    socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def run(self, take: Callable[[bytes], None], most_bytes: int, begin: Callable[[int], None]) -> None:
        """Hand all that comes to ``take`` in pieces; before, ``begin`` is told how much it is (0: unknown).

        Raises Aborted, LimitReached for more than ``most_bytes``, NotFound, HostUnavailable.
        """
        address = self._address
        try:
            for _ in range(_MOST_REDIRECTS + 1):
                further = self._get(address, take, most_bytes, begin)
                if further is None:
                    return
                address = _redirected(address, further)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if self._is_aborted:
                raise Aborted from None
            raise failure(address, _words(error)) from error
        except JobletError:
            if self._is_aborted:
                raise Aborted from None
            raise
        raise failure(self._address, f"it is redirected more than {_MOST_REDIRECTS} times")

    def _get(
        self, address: str, take: Callable[[bytes], None], most_bytes: int, begin: Callable[[int], None]
    ) -> str | None:
        """Fetch it; return where else it is, if the server says so."""
        server = web_address(address)
        proxy = self._proxy.for_host(server.hostname or "")
        by_proxy = proxy is not None and server.scheme == "http"
        connection = _KINDS[server.scheme](server.hostname or "", server.port)
        connection.sock = connect(server, proxy, self._idle_seconds, self._hold, self._trusted)
        try:
            headers = {"User-Agent": f"joblet-agent/{__version__}", "Accept-Encoding": "identity"}
            target = address if by_proxy else _target(server)
            connection.request("GET", target, headers=headers | {"Connection": "close"})
            with connection.getresponse() as response:
                if response.status in _REDIRECTS:
                    return response.headers.get("Location", "")
                if response.status != HTTPStatus.OK:
                    raise _refused(address, response.status, response.reason)
                self._body(response, address, take, most_bytes, begin)
                return None
        finally:
            connection.close()

    def _hold(self, connected: socket.socket) -> None:
        with self._lock:
            self._socket = connected
            if self._is_aborted:
                raise Aborted

    def _body(
        self,
        response: http.client.HTTPResponse,
        address: str,
        take: Callable[[bytes], None],
        most_bytes: int,
        begin: Callable[[int], None],
    ) -> None:
        expected = response.length
        if expected is not None and expected > most_bytes:
            raise too_large(address, most_bytes)
        begin(expected or 0)
        received = 0
        while piece := response.read(_PIECE):
            received += len(piece)
            if received > most_bytes:
                raise too_large(address, most_bytes)
            take(piece)
            if self._is_aborted:
                raise Aborted
        if expected is not None and received != expected:
            raise failure(address, f"the connection ended after {received} of {expected} bytes")
        if self._is_aborted:
            raise Aborted


def _target(server: SplitResult) -> str:
    """Return what a server is asked for: the address without the server."""
    target = server._replace(scheme="", netloc="").geturl()
    return target if target.startswith("/") else f"/{target}"


def _redirected(address: str, location: str) -> str:
    """Return where a redirection leads: to the web, and never from https to http. Raises ValueError."""
    further = urljoin(address, location)
    try:
        parts = web_address(further)
    except ValueError as error:
        raise ValueError(f"it is redirected to where nothing is fetched from: {error}") from None
    if address.casefold().startswith("https:") and parts.scheme != "https":
        raise ValueError("it is redirected from https to http")
    return further


def _refused(address: str, status: int, words: str) -> JobletError:
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
        return NotFound(
            f"cannot fetch {shown_address(address)}: the server does not have it (status {status})",
            reason=FAILED,
            hint="see what the address is, and whether the mirror is complete",
        )
    return failure(address, f"the server answers {status} {words}".rstrip())


def _words(error: Exception) -> str:  # noqa: PLR0911 - one for each kind
    match error:
        case TimeoutError():
            return "the server does not answer"
        case socket.gaierror():
            return "there is no such host"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case http.client.IncompleteRead():
            return "the connection ended in the middle"
        case http.client.RemoteDisconnected() | ConnectionResetError():
            return "the server closed the connection"
        case http.client.HTTPException():
            return f"what answers there is no web server ({type(error).__name__})"
        case OSError():
            return error.strerror or str(error)
    return str(error)
