"""A repair of dbus-next 0.2.3: its writer takes a full socket for a broken one.

``_MessageWriter.write_callback`` lets BlockingIOError reach its ``except Exception``, which closes
the connection; every later call then waits for ever. Bus daemons read slowly when busy, so a burst
of some hundred starts is enough. With the repair the round ends and the loop calls again when the
socket has room. It can go once a release of dbus-next handles EAGAIN; dbus-fast has the same fault.
"""

import socket
from array import array
from typing import Any

from dbus_next.aio import message_bus


def repair_writer() -> None:
    """Replace the writer's callback for every bus of this process; repeated calls change nothing."""
    message_bus._MessageWriter.write_callback = _write_callback  # type: ignore[method-assign]  # there is no public way


def _write_callback(writer: Any) -> None:
    try:
        while writer.buf is not None or writer.messages.qsize():
            _write_some(writer)
        writer.loop.remove_writer(writer.fd)
    except BlockingIOError:
        return
    except OSError as error:
        if writer.fut is not None and not writer.fut.done():
            writer.fut.set_exception(error)
        writer.bus._finalize(error)


def _write_some(writer: Any) -> None:
    if writer.buf is None:
        buffer, writer.unix_fds, writer.fut = writer.messages.get_nowait()
        writer.buf, writer.offset = memoryview(buffer), 0
    rest = writer.buf[writer.offset :]
    if writer.unix_fds and writer.negotiate_unix_fd:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", writer.unix_fds))]
        writer.offset += writer.sock.sendmsg([rest], rights)
        writer.unix_fds = None
    else:
        writer.offset += writer.sock.send(rest)
    if writer.offset >= len(writer.buf):
        writer.buf = None
        if writer.fut is not None and not writer.fut.done():
            writer.fut.set_result(None)
