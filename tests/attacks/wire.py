"""A connection to the agent that says whatever it is told to, frame by frame."""

import socket
import ssl
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from hpack import Encoder
from hyperframe.frame import (
    DataFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tests.certificates import Pair

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PORT = 50051
PATIENCE = 30.0
"""Seconds after which a send or a receive fails."""
_LARGEST_FRAME = 16384

Header = tuple[str, str]


def tcp(port: int = PORT) -> socket.socket:
    """Connect, and say nothing."""
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def tls_context(pair: Pair | None) -> ssl.SSLContext:
    """Return what a client with this certificate needs; it does not look at the server's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if pair is not None:
        with tempfile.NamedTemporaryFile() as file:
            file.write(pair.key + pair.pem)
            file.flush()
            context.load_cert_chain(file.name)
    return context


def tls(context: ssl.SSLContext, port: int = PORT) -> socket.socket:
    """Connect and shake hands."""
    return context.wrap_socket(tcp(port), server_hostname="joblet")


def local(path: Path) -> socket.socket:
    """Connect to a local socket."""
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(PATIENCE)
    made.connect(str(path))
    return made


class Wire:
    """HTTP/2 over a socket, without any of its rules."""

    def __init__(self, connection: socket.socket, *, greet: bool = True) -> None:
        self.connection = connection
        self._encoder = Encoder()
        if greet:
            self.send_bytes(PREFACE)
            self.send(SettingsFrame(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def send_bytes(self, raw: bytes) -> None:
        self.connection.sendall(raw)

    def send(self, *frames: Frame) -> None:
        self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def call(
        self, stream: int, method: str, more: Iterable[Header] = (), *, ends: bool = False
    ) -> HeadersFrame:
        """Return the frame that begins a call of ``Service/Method``."""
        frame = HeadersFrame(stream, self.header_block(method, more))
        frame.flags.add("END_HEADERS")
        if ends:
            frame.flags.add("END_STREAM")
        return frame

    def header_block(self, method: str, more: Iterable[Header] = ()) -> bytes:
        headers = [
            (":method", "POST"),
            (":scheme", "https"),
            (":path", f"/joblet.{method}"),
            (":authority", "joblet"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *more,
        ]
        return bytes(self._encoder.encode(headers))

    def window(self, stream: int, more: int) -> WindowUpdateFrame:
        """Return the frame that lets the server send so many bytes more."""
        return WindowUpdateFrame(stream, more)

    def reset(self, stream: int) -> RstStreamFrame:
        return RstStreamFrame(stream, error_code=8)

    def ping(self) -> PingFrame:
        return PingFrame(0, b"\0" * 8)

    def read(self, seconds: float) -> bytes:
        """Return what the server says within the time, at most 64 KiB; empty after its end or silence."""
        self.connection.settimeout(seconds)
        try:
            return self.connection.recv(65536)
        except (TimeoutError, ssl.SSLError, ConnectionError):
            return b""
        finally:
            self.connection.settimeout(PATIENCE)


def message(payload: bytes, length: int | None = None) -> bytes:
    """Return a message as gRPC frames it; with a length that may be a lie."""
    return b"\0" + (len(payload) if length is None else length).to_bytes(4, "big") + payload


def data(stream: int, raw: bytes, *, ends: bool = False) -> list[DataFrame]:
    """Return the frames that carry these bytes."""
    pieces = [raw[start : start + _LARGEST_FRAME] for start in range(0, len(raw), _LARGEST_FRAME)] or [b""]
    frames = [DataFrame(stream, piece) for piece in pieces]
    if ends:
        frames[-1].flags.add("END_STREAM")
    return frames
