"""The terminal of whoever runs ``rnx``, while its keys are for a command inside a job."""

import os
import signal
import sys
import termios
import tty
from collections.abc import Callable
from typing import Any

assert sys.platform != "win32"

_DEADLY = (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM)


class RawTerminal:
    """While entered, every key is read as it is; whatever ends us gives the terminal its modes back.

    But for SIGKILL; ``stty sane`` helps then. Signals end us by themselves as ever, after the modes.
    """

    def __init__(self, fd: int, resized: Callable[..., None]) -> None:
        """``resized`` is called when the window may have another size."""
        self._fd = fd
        self._resized = resized
        self._modes: list[Any] = []
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "RawTerminal":
        self._modes = termios.tcgetattr(self._fd)
        handlers: dict[signal.Signals, Callable[..., None]] = dict.fromkeys(
            (*_DEADLY, signal.SIGTSTP), self._leave
        )
        handlers |= {signal.SIGWINCH: self._resized, signal.SIGCONT: self._return}
        self._handlers = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        tty.setraw(self._fd, termios.TCSADRAIN)
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _restore(self) -> None:
        termios.tcsetattr(self._fd, termios.TCSANOW, self._modes)

    def _leave(self, number: int, _frame: object) -> None:
        """Do what the signal does to a program that does not handle it."""
        self._restore()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _return(self, *_: object) -> None:
        """Go on after a stop."""
        signal.signal(signal.SIGTSTP, self._leave)
        tty.setraw(self._fd, termios.TCSADRAIN)
        self._resized()
