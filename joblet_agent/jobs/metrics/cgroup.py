"""One job's control group: its files to a sample (Documentation/admin-guide/cgroup-v2.rst in the kernel).

Blocking, a few microseconds a file. Which files there are depends on the host: without the controller
(containers) or on an older kernel (memory.peak came with 5.19) a figure is 0.
"""

import errno
import os
from pathlib import Path

from joblet_agent.model.metrics import Sample

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC
_MOST = 64 * 1024
_GONE = {errno.ENOENT, errno.ENODEV}
# EOPNOTSUPP: pressure is compiled in, but switched off at boot.
_NOT_COUNTED = {*_GONE, errno.EOPNOTSUPP}


class GroupGone(Exception):
    """The control group does not exist (any more): its job has ended."""


class ControlGroup:
    """An open control group. ``close`` it."""

    __slots__ = ("_fd",)

    def __init__(self, path: Path) -> None:
        """Open it. Raises GroupGone, OSError."""
        try:
            self._fd = os.open(path, _DIRECTORY)
        except FileNotFoundError as error:
            raise GroupGone(str(path)) from error

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def sample(self, now_ns: int) -> Sample:
        """Read everything once. Raises GroupGone, OSError."""
        try:
            cpu = self._content("cpu.stat")  # in every group, whatever the controllers
        except OSError as error:
            if error.errno in _GONE:
                raise GroupGone from error
            raise
        memory = self._optional("memory.stat")
        moved = _moved(self._optional("io.stat"))
        return Sample(
            taken_ns=now_ns,
            cpu_usec=_field(cpu, b"usage_usec"),
            memory=_number(self._optional("memory.current")),
            memory_peak=_number(self._optional("memory.peak")),
            memory_limit=_number(self._optional("memory.max")),
            memory_anon=_field(memory, b"anon"),
            memory_file=_field(memory, b"file"),
            memory_kernel=_field(memory, b"kernel"),
            read_bytes=moved[b"rbytes"],
            write_bytes=moved[b"wbytes"],
            read_ops=moved[b"rios"],
            write_ops=moved[b"wios"],
            tasks=_number(self._optional("pids.current")),
            cpu_pressure=_pressure(self._optional("cpu.pressure")),
            memory_pressure=_pressure(self._optional("memory.pressure")),
            io_pressure=_pressure(self._optional("io.pressure")),
        )

    def _content(self, name: str) -> bytes:
        fd = os.open(name, _FILE, dir_fd=self._fd)
        try:
            return os.read(fd, _MOST)
        finally:
            os.close(fd)

    def _optional(self, name: str) -> bytes:
        try:
            return self._content(name)
        except OSError as error:
            if error.errno in _NOT_COUNTED:
                return b""
            raise


def _number(content: bytes) -> int:
    """Return the number in a file of one; 0 for ``max``."""
    text = content.strip()
    return int(text) if text.isdigit() else 0


def _field(content: bytes, name: bytes) -> int:
    """Return the number behind the name in a file of lines ``NAME NUMBER``; 0 if there is none."""
    _, found, rest = (b"\n" + content).partition(b"\n%b " % name)
    return _number(rest.partition(b"\n")[0]) if found else 0


def _moved(content: bytes) -> dict[bytes, int]:
    """Sum up the devices of io.stat, as systemd does: ``8:0 rbytes=… wbytes=… rios=… wios=… …``."""
    total = {b"rbytes": 0, b"wbytes": 0, b"rios": 0, b"wios": 0}
    for word in content.split():
        key, is_figure, number = word.partition(b"=")
        if is_figure and key in total:
            total[key] += _number(number)
    return total


def _pressure(content: bytes) -> float:
    """Return avg10 of the line ``some avg10=1.23 avg60=… avg300=… total=…``."""
    _, found, rest = content.partition(b"some avg10=")
    return float(rest.partition(b" ")[0]) if found else 0.0
