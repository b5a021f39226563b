"""Tells when a file grows (ports.FileWatcher), with one inotify descriptor on the event loop.

Every watch is armed for a single event (``IN_ONESHOT``): a job that writes a million lines while
nobody is ready to look again pays for one event, not for a million. Armed first and looked at
afterwards, no change is missed. Only the standard library: inotify is three system calls.
"""

import asyncio
import ctypes
import errno
import logging
import os
import struct
from collections.abc import Callable
from pathlib import Path

from joblet_agent.errors import HostUnavailable

_IN_MODIFY, _IN_ATTRIB, _IN_MOVED_TO, _IN_CREATE = 0x2, 0x4, 0x80, 0x100
_IN_DELETE_SELF, _IN_MOVE_SELF = 0x400, 0x800
_IN_ONLYDIR, _IN_ONESHOT = 0x1000000, 0x80000000
# The last name of a file that somebody holds open goes with IN_ATTRIB, without IN_DELETE_SELF.
_FILE_MASK = _IN_MODIFY | _IN_ATTRIB | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONESHOT
_DIRECTORY_MASK = _IN_CREATE | _IN_MOVED_TO | _IN_DELETE_SELF | _IN_MOVE_SELF | _IN_ONLYDIR | _IN_ONESHOT
_IN_CLOSE_WRITE, _IN_MOVED_FROM, _IN_DELETE = 0x8, 0x40, 0x200
# What becomes of the files in a directory, once each is whole.
_CONTENT_MASK = _IN_CLOSE_WRITE | _IN_ATTRIB | _IN_MOVED_FROM | _IN_DELETE | _DIRECTORY_MASK
_EVERYBODY = -1  # wd of IN_Q_OVERFLOW: the kernel dropped events

_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024
_POLL_SECONDS = 0.02
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR})

_log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None, use_errno=True)


class InotifyWatcher:
    """One inotify descriptor and the watches on it. Make and use it on the event loop's thread."""

    def __init__(self) -> None:
        """Raise HostUnavailable (NO_INOTIFY) if the kernel gives root no more instances."""
        self._loop = asyncio.get_running_loop()
        self._armed: dict[int, set[InotifyWatch]] = {}
        self._polling: set[InotifyWatch] = set()
        try:
            self._fd = _instance()
        except OSError as error:
            raise HostUnavailable(
                f"cannot start: the kernel gives root no more inotify instances ({error.strerror})",
                reason="NO_INOTIFY",
                hint="raise fs.inotify.max_user_instances (sysctl.d(5)); a host's containers share them",
            ) from error
        self._loop.add_reader(self._fd, self._on_events)

    def watch(self, path: Path, wake: Callable[[], None]) -> "InotifyWatch":
        """Return a watch of the file, not armed yet; see ports.FileWatcher."""
        return InotifyWatch(self, path, wake, _FILE_MASK)

    def watch_directory(self, path: Path, wake: Callable[[], None]) -> "InotifyWatch":
        """Return a watch of the directory, or of its appearance: wakes when a file in it is another one."""
        return InotifyWatch(self, path, wake, _CONTENT_MASK)

    def close(self) -> None:
        """End every watch: each is woken, and cannot be armed again."""
        if self._fd < 0:
            return
        self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        watches = {watch for armed in self._armed.values() for watch in armed} | self._polling
        self._armed.clear()
        for watch in watches:
            watch.fire()

    def arm(self, watch: "InotifyWatch") -> int | None:
        """Return the descriptor of the armed watch, None if the file must be polled."""
        if self._fd < 0:
            raise HostUnavailable(
                f"cannot watch {watch.path}: the agent is stopping", reason="AGENT_STOPPING"
            )
        try:
            wd = self._add_watch(watch.path, watch.mask)
        except OSError as error:
            self._polling.add(watch)
            if not watch.was_reported:
                watch.was_reported = True
                _log.warning("polling %s instead of watching it: %s", watch.path, error.strerror)
            return None
        self._armed.setdefault(wd, set()).add(watch)
        return wd

    def disarm(self, watch: "InotifyWatch", wd: int | None) -> None:
        """Forget the watch; the kernel forgets it with the last one of its file."""
        self._polling.discard(watch)
        armed = self._armed.get(wd) if wd is not None else None
        if wd is None or armed is None:
            return
        armed.discard(watch)
        if not armed:
            del self._armed[wd]
            _libc.inotify_rm_watch(self._fd, wd)  # EINVAL: it fired a moment ago

    def _add_watch(self, path: Path, mask: int) -> int:
        """Arm the file, or while it is missing the directory in which its way will appear."""
        while True:
            try:
                return self._inotify_add(path, mask)
            except OSError as error:
                if error.errno not in _MISSING:
                    raise
            child = path
            while not os.path.lexists(child.parent):
                child = child.parent
            wd = self._inotify_add(child.parent, _DIRECTORY_MASK)
            if not os.path.lexists(child):
                return wd
            # It appeared before the directory was armed: that event is never sent.

    def _inotify_add(self, path: Path, mask: int) -> int:
        return _checked(_libc.inotify_add_watch(self._fd, os.fsencode(path), ctypes.c_uint32(mask)))

    def _on_events(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            wd, _mask, _cookie, name_length = _EVENT.unpack_from(data, at)
            at += _EVENT.size + name_length
            fired = list(self._armed) if wd == _EVERYBODY else [wd]
            for one in fired:
                # IN_IGNORED follows every one-shot event; its watch is gone from here by then.
                for watch in self._armed.pop(one, ()):
                    watch.fire()


class InotifyWatch:
    """One file of one who waits for it (ports.FileWatch)."""

    __slots__ = ("_poll", "_seen", "_wake", "_watcher", "_wd", "mask", "path", "was_reported")

    def __init__(self, watcher: InotifyWatcher, path: Path, wake: Callable[[], None], mask: int) -> None:
        self.path = path
        self.mask = mask
        self.was_reported = False
        self._watcher = watcher
        self._wake = wake
        self._wd: int | None = None
        self._seen: tuple[int, int, int] | None = None
        self._poll: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Wake once at the next change. Raises HostUnavailable when the watcher is closed."""
        if self._wd is not None or self._poll is not None:
            return
        self._wd = self._watcher.arm(self)
        if self._wd is None:
            self._seen = _state(self.path)
            self._poll = asyncio.get_running_loop().call_later(_POLL_SECONDS, self._look)

    def close(self) -> None:
        """Wake no more."""
        self._watcher.disarm(self, self._wd)
        self._wd = None
        if self._poll is not None:
            self._poll.cancel()
            self._poll = None

    def fire(self) -> None:
        """Take in that the file changed."""
        self.close()
        self._wake()

    def _look(self) -> None:
        if _state(self.path) != self._seen:
            self.fire()
        else:
            self._poll = asyncio.get_running_loop().call_later(_POLL_SECONDS, self._look)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_nlink


def is_instance_left() -> bool:
    """Say whether this user can have another inotify instance; the containers of a host share them."""
    try:
        os.close(_instance())
    except OSError as error:
        if error.errno == errno.EMFILE:
            return False
        raise
    return True


def _instance() -> int:
    return _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
