"""What is sent to a command inside a job: what to run, then standard input and changes of the window."""

import os
from collections.abc import Iterator
from typing import Any

from rnx.client import pb
from rnx.exits import RnxError
from rnx.typed import STDIN, open_typed


def is_open(fd: int) -> bool:
    """Tell whether there is such a file."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


class ExecInput:
    """The messages of one call, for gRPC's thread to iterate over once. ``close`` it, which ends them.

    gRPC asks for the next message when it is rid of the one before: what nobody reads stays where it is.
    """

    def __init__(self, start: Any) -> None:
        self._start = start
        self._typed = open_typed(reads=start.stdin)

    def __enter__(self) -> "ExecInput":
        return self

    def __exit__(self, *_: object) -> None:
        self._typed.close()

    def __iter__(self) -> Iterator[Any]:
        """Yield the messages. Raises RnxError if standard input cannot be read."""
        yield pb.ExecInJobRequest(start=self._start)
        try:
            for piece in self._typed:
                yield _message(piece)
        except OSError as error:
            raise RnxError(f"cannot read standard input: {error.strerror}") from error

    def resized(self, *_: object) -> None:
        """Send the size of the window, soon. A handler of signals may call it."""
        self._typed.call()


def window_size() -> Any:
    """Return the size of the terminal that is standard input."""
    columns, rows = os.get_terminal_size(STDIN)
    return pb.TerminalSize(rows=rows, columns=columns)


def _message(piece: bytes | None) -> Any:
    if piece is None:
        return pb.ExecInJobRequest(terminal_size=window_size())
    return pb.ExecInJobRequest(stdin=piece) if piece else pb.ExecInJobRequest(stdin_end=pb.ExecStdinEnd())
