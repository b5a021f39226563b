"""What probes look at: the host's files, its clock and its disks, the configuration, what systemd says."""

import ctypes
import grp
import os
import time
from dataclasses import dataclass
from pathlib import Path

from joblet_agent.config.load import Loaded
from joblet_agent.errors import JobletError
from joblet_agent.inotify import is_instance_left
from joblet_agent.jobs.host import HostFacts
from joblet_agent.systemd.survey import Survey

_TIMEX_BYTES = 512  # struct timex has 208
_MAXERROR_AT = 3 * ctypes.sizeof(ctypes.c_long)  # modes, offset, freq, maxerror
_UNSYNCHRONISED_USEC = 16_000_000  # where the kernel gives up (NTP_PHASE_LIMIT)


@dataclass(frozen=True, slots=True)
class Space:
    """Of a file system: what it has left for anybody but root."""

    free: int
    files: int | None
    """None: it does not count them."""


class Host:
    """Reads the host; ``root`` is another directory in tests."""

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root
        self.facts = HostFacts(root)

    def path(self, path: Path | str) -> Path:
        """Return where it is, below the root."""
        return self._root / str(path).lstrip("/")

    def text(self, path: Path | str) -> str | None:
        """Return what the file says; None if there is none."""
        try:
            return self.path(path).read_text(encoding="utf-8", errors="replace").strip()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def lines(self, path: Path | str) -> list[str]:
        """Return the lines of the file; none if there is none."""
        return (self.text(path) or "").splitlines()

    def number(self, path: Path | str) -> int | None:
        """Return the number that the file says; None if it says none."""
        text = self.text(path)
        return int(text) if text is not None and text.lstrip("-").isdecimal() else None

    def is_there(self, path: Path | str) -> bool:
        """Say whether there is such a file."""
        return self.path(path).exists()

    def nearest(self, path: Path) -> Path:
        """Return the path, or the nearest directory above it that is there."""
        while not self.is_there(path):
            path = path.parent
        return path

    def space(self, path: Path) -> Space:
        """Return what is free where the path is, or will be."""
        found = os.statvfs(self.path(self.nearest(path)))
        return Space(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)

    def now(self) -> float:
        """Return the time, in seconds since 1970."""
        return time.time()

    def is_synchronised(self) -> bool:
        """Say whether the kernel's clock is kept by somebody (adjtimex(2), as timedatectl has it)."""
        state = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes 0: it changes nothing
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.adjtimex(state) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return ctypes.c_long.from_buffer(state, _MAXERROR_AT).value < _UNSYNCHRONISED_USEC

    def can_watch(self) -> bool:
        """Say whether this user has an inotify instance left."""
        return is_instance_left()

    def has_group(self, name: str) -> bool:
        """Say whether the host knows the group, by whatever means."""
        try:
            grp.getgrnam(name)
        except KeyError:
            return False
        return True

    def is_program(self, path: Path | str) -> bool:
        """Say whether it can be executed."""
        return os.access(self.path(path), os.X_OK)


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that a probe may look at."""

    host: Host
    loaded: Loaded
    systemd: Survey | JobletError
    """What systemd says, or why it says nothing."""
    is_root: bool

    @property
    def survey(self) -> Survey | None:
        """Return what systemd says, if it says anything."""
        return self.systemd if isinstance(self.systemd, Survey) else None
