"""A disk that the agent reaches no more from some point on, or on which one thing fails."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_CHANGES = (
    *("chmod", "chown", "fchmod", "fchown", "fsync", "link", "mkdir", "removexattr", "rename", "rmdir"),
    *("sendfile", "symlink", "unlink", "utime", "write"),
)
"""Whatever changes something on a disk; os.open does when it makes a file."""
_GROWS = ("fsync", "link", "mkdir", "open", "rename", "sendfile", "symlink", "write")
"""What a full disk refuses."""


class Death(BaseException):
    """The process is gone; nothing that it still does has an effect."""


class Disk:
    """Counts changes, and lets the one at a point be the last, or fail."""

    def __init__(self, at: int, *, is_full: bool) -> None:
        self.at = at
        self.is_full = is_full
        self.count = 0
        self._lock = threading.Lock()

    @property
    def was_reached(self) -> bool:
        return self.count > self.at

    def change(self, name: str) -> None:
        if self.is_full and name not in _GROWS:
            return
        with self._lock:
            self.count += 1
            number = self.count - 1
        if self.is_full and number == self.at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not self.is_full and number >= self.at:
            raise Death


@contextmanager
def disk(at: int, *, is_full: bool = False) -> Iterator[Disk]:
    """Have such a disk within the block: the change of this number is not made."""
    found = Disk(at, is_full=is_full)

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not (is_full and "src_dir_fd" in kwargs and name == "rename"):  # jobs/removal.py makes room
                found.change(name)
            return real(*args, **kwargs)

        return call

    real_open = os.open

    def opened(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            found.change("open")
        return real_open(path, flags, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        for name in _CHANGES:
            patch.setattr(os, name, counted(name, getattr(os, name)))
        patch.setattr(os, "open", opened)
        yield found
