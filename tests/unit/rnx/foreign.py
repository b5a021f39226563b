"""Runs ``rnx`` as it finds another system: ``python -m tests.unit.rnx.foreign win32|darwin WORD...``

What the Python of that system lacks is gone before anything of ours is loaded, what it refuses is refused.
Libraries are loaded before, as they have their own code for each system.
"""

import builtins
import errno
import fcntl
import os
import runpy
import select
import signal
import socket
import stat
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"}
LACKING: dict[str, tuple[tuple[ModuleType, str], ...]] = {
    "darwin": (
        (os, "memfd_create eventfd pidfd_open sched_getaffinity O_PATH O_TMPFILE getrandom posix_fallocate"),
        (select, "epoll"),
        (socket, "AF_NETLINK SOCK_CLOEXEC SOCK_NONBLOCK"),
    ),
    "win32": (
        (
            os,
            "chown fchdir fchmod fchown fork forkpty getegid geteuid getgid getgroups getpgid "
            "getpgrp getuid killpg lchown memfd_create mkfifo mknod openpty posix_fallocate pread "
            "preadv pwrite readv sendfile setsid set_blocking get_blocking statvfs sync sysconf "
            "tcgetpgrp ttyname uname wait wait3 wait4 writev O_CLOEXEC O_DIRECTORY O_NOCTTY "
            "O_NOFOLLOW O_NONBLOCK O_PATH O_SYNC O_TMPFILE",
        ),
        (
            signal,
            "SIGALRM SIGCHLD SIGCONT SIGHUP SIGKILL SIGPIPE SIGQUIT SIGSTOP SIGTSTP SIGTTIN SIGTTOU SIGUSR1 "
            "SIGUSR2 SIGWINCH alarm pause pthread_kill pthread_sigmask setitimer sigwait",
        ),
        (select, "epoll poll"),
        (socket, "AF_UNIX"),
    ),
}


def become(system: str) -> None:
    """Make this process find what it would find there."""
    for module, names in LACKING[system]:
        for name in names.split():
            if hasattr(module, name):
                delattr(module, name)
    sys.platform = system
    if system == "win32":
        _refuse_modules()
        _refuse_what_windows_refuses()


def _refuse_modules() -> None:
    imported = builtins.__import__
    for name in UNIX_MODULES & set(sys.modules):
        del sys.modules[name]

    def find(name: str, *args: Any, **kwargs: Any) -> ModuleType:
        if name in UNIX_MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return imported(name, *args, **kwargs)

    builtins.__import__ = find


def _refuse_what_windows_refuses() -> None:
    """Directories are not opened, open files not renamed, and select knows sockets alone."""
    flock, lock = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
    opened, replace = os.open, os.replace

    def open_(path: Any, flags: int, mode: int = 0o777, **where: Any) -> int:
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return opened(path, flags, mode, **where)

    def refuse_open(path: Any) -> None:
        for descriptor in os.listdir("/proc/self/fd"):
            link = f"/proc/self/fd/{descriptor}"
            if os.path.islink(link) and os.readlink(link) == os.path.realpath(path):
                raise PermissionError(errno.EACCES, "The process cannot access the file", path)

    def rename_(source: Any, target: Any, **where: Any) -> None:
        if os.path.exists(target):
            raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", target)
        replace_(source, target, **where)

    def replace_(source: Any, target: Any, **where: Any) -> None:
        refuse_open(source)
        replace(source, target, **where)

    def select_(*_: object) -> None:
        raise OSError("An operation was attempted on something that is not a socket")

    def locking(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count, stat.S_ISREG(os.fstat(descriptor).st_mode)) == (2, 1, True)
        flock(descriptor, lock)

    changed = {"open": open_, "rename": rename_, "replace": replace_}
    for name, function in changed.items():
        setattr(os, name, function)
    select.select = select_  # type: ignore[assignment]
    sys.modules["msvcrt"] = SimpleNamespace(locking=locking, LK_NBLCK=2)  # type: ignore[assignment]
    sys.modules["colorama"] = SimpleNamespace(just_fix_windows_console=lambda: None)  # type: ignore[assignment]


def _load_libraries() -> None:
    """Load what is not ours, with what it loads late."""
    import asyncio  # noqa: F401, PLC0415
    import platform  # noqa: PLC0415
    import tempfile  # noqa: F401, PLC0415
    import traceback  # noqa: F401, PLC0415

    import click  # noqa: PLC0415
    import click.testing  # noqa: F401, PLC0415
    import grpc  # noqa: F401, PLC0415
    import yaml  # noqa: F401, PLC0415
    from google.protobuf import json_format  # noqa: F401, PLC0415

    platform.uname()


if __name__ == "__main__":
    _load_libraries()
    become(sys.argv.pop(1))
    assert not [name for name in sys.modules if name.partition(".")[0] == "rnx"]
    sys.argv[0] = "rnx"
    sys.path.insert(0, str(Path(__file__).parents[3]))
    runpy.run_module("rnx", run_name="__main__")
