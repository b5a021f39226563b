"""What joins a command inside a job to the agent: pipes, and its terminal.

Pipes, not files: what nobody reads is not written, so a command cannot fill the disk, and one whose reader is
gone ends by SIGPIPE, should nothing else end it. All of them belong to the event loop and never block it.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from fcntl import ioctl
from pathlib import Path
from struct import pack, unpack
from termios import FIONREAD, TIOCSWINSZ

from joblet_agent.model.execution import TerminalSize

_CHUNK_BYTES = 64 * 1024
_MOST_REST = 128 * 1024
"""More than a terminal of Linux holds (tty_buffer.c)."""
_END_OF_INPUT = b"\x04"  # Ctrl-D; termios(3), VEOF


class Readable:
    """Something that a command writes to."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_over = False

    def read(self) -> bytes:
        """Return what is there, b"" for nothing. Call it when it is readable.

        Before its first writer came, a pipe looks like one whose last writer has gone.
        """
        try:
            data = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        self.is_over = not data
        return data

    def rest(self) -> bytes:
        """Return what is there now that the command has ended; a process that it left may write on."""
        (size,) = unpack("i", ioctl(self.fd, FIONREAD, b"\0\0\0\0"))
        return os.read(self.fd, size) if size else b""

    def close(self) -> None:
        """Let go of it. Once."""
        os.close(self.fd)


class Fifo(Readable):
    """The reading end of a pipe with a name."""

    def __init__(self, path: Path, gid: int) -> None:
        """Make it, for root and the job's group to write to (a command may open /dev/stdout)."""
        os.mkfifo(path, 0o600)
        os.chown(path, 0, gid)
        path.chmod(0o620)
        super().__init__(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


class OrderFifo:
    """The writing end of the launcher's pipe of orders, which it obeys one byte at a time."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path, 0o600)
        # Until it has a reader nobody can open the writing end; fifo(7).
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def give(self, number: int) -> None:
        """Order a signal, or with 0 the end of input. Raises BlockingIOError when too many wait already."""
        os.write(self._fd, bytes((number,)))

    def close(self) -> None:
        """Order the command's death. Once."""
        os.close(self._fd)
        os.close(self._reader)


class Input(Readable):
    """A command's input; until the launcher has sent the other end of it, the socket it comes by."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(str(path))
        self._come = asyncio.Event()
        self._is_unread = False
        super().__init__(self._socket.fileno())

    def read(self) -> bytes:
        """Receive it; there is nothing to read. Call it when the socket is readable."""
        self.receive()
        self.is_over = True
        return b""

    def rest(self) -> bytes:
        """Return nothing."""
        return b""

    def receive(self) -> None:
        """Receive it if it has come. Once."""
        try:
            _, (fd,), _, _ = socket.recv_fds(self._socket, 1, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        os.set_blocking(fd, False)
        self.fd = fd
        self._come.set()

    @property
    def has_come(self) -> bool:
        """True when it is no longer the socket."""
        return self._come.is_set()

    async def write(self, data: bytes) -> None:
        """Return when all of it is taken, or nobody will: what a command does not read any more is lost."""
        await self._come.wait()
        left = memoryview(data)
        while left and not self._is_unread:
            try:
                left = left[os.write(self.fd, left) :]
            except BlockingIOError:
                await self._until_writable()
            except OSError:  # EPIPE; EIO of a terminal
                self._is_unread = True

    async def _until_writable(self) -> None:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        loop.add_writer(self.fd, changed.set)
        try:
            await changed.wait()
        finally:
            loop.remove_writer(self.fd)

    async def end(self, order: Callable[[int], None]) -> None:
        """Let the command see the end of its input, which the launcher orders. Once."""
        await self._come.wait()
        self._is_unread = True
        os.close(self.fd)
        self.fd = -1
        order(0)

    def close(self) -> None:
        """Let go of it; the launcher still has a pipe's end, so that it does not look complete."""
        self._socket.close()
        if self.has_come and self.fd >= 0:
            os.close(self.fd)


class Terminal(Input):
    """The agent's end of a command's terminal: input and output."""

    def read(self) -> bytes:
        """Return what is there, b"" for nothing. Call it when it is readable."""
        if self.has_come:
            return Readable.read(self)
        self.receive()
        return b""

    def rest(self) -> bytes:
        """Return what is there; a read waits for what the kernel still has on its way (n_tty_read())."""
        data = self.read()  # may be the one that receives it
        while self.has_come and len(data) < _MOST_REST and (piece := self.read()):
            data += piece
        return data

    async def end(self, order: Callable[[int], None]) -> None:
        """Tell the command that its input has ended, as a key does."""
        await self.write(_END_OF_INPUT)

    async def resize(self, size: TerminalSize) -> None:
        """Give it another size; the kernel sends SIGWINCH."""
        await self._come.wait()
        ioctl(self.fd, TIOCSWINSZ, pack("HHHH", size.rows, size.columns, 0, 0))
