"""dbus-next's bus with a reader of its own: signals take the short way, the rest the library's."""

import asyncio
import io
import logging
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Self

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType
from dbus_next.message import Message

from joblet_agent.systemd.names import is_our_path
from joblet_agent.systemd.signals import MalformedMessage, Signal, is_signal, message_size, read_signal
from joblet_agent.systemd.view import WATCHED, WATCHED_OF_TIMERS
from joblet_agent.systemd.writer import repair_writer

_WATCHED = WATCHED | WATCHED_OF_TIMERS
_RECEIVE_MOST = 256 * 1024
_LINE_MOST = 16 * 1024  # of the greeting
_GONE = "the system bus closed the connection"

_log = logging.getLogger(__name__)

SignalHandler = Callable[[Signal], None]
"""Called on the event loop with every signal that the match rules let through."""


class Connection(MessageBus):
    """One connection to the system bus. ``connect()`` it; use ``call``; both raise OSError or EOFError."""

    def __init__(self, on_signal: SignalHandler, further: Container[str] = ()) -> None:
        """``further`` has object paths of units that are wanted besides ours, now."""
        repair_writer()
        super().__init__(bus_type=BusType.SYSTEM)
        self._on_signal = on_signal
        self._further = further
        self._received = bytearray()

    async def connect(self) -> Self:
        """Greet the bus; a connection that fails is closed, and never used again."""
        try:
            await super().connect()
        except BaseException:
            self.close()
            raise
        return self

    async def call(self, msg: Message) -> Message | None:
        """Call a method. On a closed connection the library would wait, for a file that is not its own."""
        if self._disconnected:
            raise EOFError(_GONE)
        return await super().call(msg)

    async def end(self) -> BaseException | None:
        """Wait until the connection is closed, and return why; None if ``close`` did it."""
        await asyncio.wait([self._disconnect_future])
        return self._disconnect_future.exception()

    def close(self) -> None:
        """Disconnect at once; calls under way are answered with None."""
        self._user_disconnect = True
        self._finalize()

    def _finalize(self, err: BaseException | None = None) -> None:
        """Close the socket as well, which the library leaves to the garbage collector.

        Once only: afterwards another file may have its number.
        """
        if self._disconnected:
            return
        super()._finalize(err)  # type: ignore[no-untyped-call]
        with suppress(OSError):  # a greeting that could not be sent
            self._stream.close()
        self._sock.close()

    async def _auth_readline(self) -> str:
        """Replace the library's reader: it asks a bus that has hung up for ever, and holds the loop."""
        line = b""
        while not line.endswith(b"\r\n"):
            data = await self._loop.sock_recv(self._sock, 2)
            if not data or len(line) > _LINE_MOST:
                raise EOFError(_GONE)
            line += data
        return line[:-2].decode("ascii", "replace")

    def _message_reader(self) -> None:
        """Replace the library's reader, which reads each number with a call of its own."""
        try:
            data = self._sock.recv(_RECEIVE_MOST)
            if not data:
                raise EOFError(_GONE)
            self._received += data
            while (size := message_size(self._received)) is not None and size <= len(self._received):
                message = bytes(self._received[:size])
                del self._received[:size]
                self._take(message)
        except BlockingIOError:
            return
        except (OSError, EOFError, MalformedMessage) as error:
            self._finalize(error)

    def _take(self, message: bytes) -> None:
        if not is_signal(message):
            reply = Unmarshaller(io.BytesIO(message)).unmarshall()  # type: ignore[no-untyped-call]
            self._on_message(reply)  # type: ignore[no-untyped-call]
            return
        try:
            signal = read_signal(message, self._is_wanted, _WATCHED)
            if signal is not None:
                self._on_signal(signal)
        except MalformedMessage as error:
            _log.warning("a signal of the system bus was not understood: %s", error)
        except Exception:  # a bug must not cost the connection
            _log.exception("a signal of the system bus was not handled")

    def _is_wanted(self, path: str) -> bool:
        return is_our_path(path) or path in self._further
