"""dbus-next's bus with a reader of its own: signals take the short way, the rest the library's."""

import io
import logging
from collections.abc import Callable

from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.aio.message_bus import MessageBus
from dbus_next.constants import BusType

from joblet_agent.systemd.names import is_our_path
from joblet_agent.systemd.signals import MalformedMessage, Signal, is_signal, message_size, read_signal
from joblet_agent.systemd.view import WATCHED, WATCHED_OF_TIMERS
from joblet_agent.systemd.writer import repair_writer

_WATCHED = WATCHED | WATCHED_OF_TIMERS
_RECEIVE_MOST = 256 * 1024

_log = logging.getLogger(__name__)

SignalHandler = Callable[[Signal], None]
"""Called on the event loop with every signal that the match rules let through."""


class Connection(MessageBus):
    """One connection to the system bus. ``connect()`` it; use ``call``."""

    def __init__(self, on_signal: SignalHandler) -> None:
        repair_writer()
        super().__init__(bus_type=BusType.SYSTEM)
        self._on_signal = on_signal
        self._received = bytearray()

    def close(self) -> None:
        """Disconnect at once; calls under way are answered with None."""
        self._user_disconnect = True
        self._finalize()

    def _finalize(self, err: BaseException | None = None) -> None:
        """Close the socket as well, which the library leaves to the garbage collector."""
        super()._finalize(err)  # type: ignore[no-untyped-call]
        self._stream.close()
        self._sock.close()

    def _message_reader(self) -> None:
        """Replace the library's reader, which reads each number with a call of its own."""
        try:
            data = self._sock.recv(_RECEIVE_MOST)
            if not data:
                raise EOFError("the system bus closed the connection")
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
            signal = read_signal(message, is_our_path, _WATCHED)
            if signal is not None:
                self._on_signal(signal)
        except MalformedMessage as error:
            _log.warning("a signal of the system bus was not understood: %s", error)
        except Exception:  # a bug must not cost the connection
            _log.exception("a signal of the system bus was not handled")
