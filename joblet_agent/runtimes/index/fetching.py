"""Fetches indexes and archives: from web servers, and from files of this host."""

import asyncio
import errno
import hashlib
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeVar

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.durable import is_full
from joblet_agent.errors import HostUnavailable, JobletError, LimitReached, NotFound
from joblet_agent.model.web import file_address, shown_address
from joblet_agent.new_files import NEW_FILE
from joblet_agent.runtimes.index.failures import FAILED, Aborted, failure, too_large
from joblet_agent.runtimes.index.threads import run_apart

__all__ = ["FetchLimits", "Fetched", "Fetcher"]

T = TypeVar("T")

_PIECE = 1 << 18
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - names, for a hint


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """In seconds."""

    idle: float = 20.0
    """For each answer that is waited for."""
    small: float = 60.0
    """For an index or a signature."""
    large: float = 7200.0
    """For an archive."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that was fetched."""

    sha256: str
    size: int


OnProgress = Callable[[int, int], None]
"""Told how many bytes have come, of how many (0: unknown); from another thread, with each piece."""


class _Source(Protocol):
    """What gives the bytes of one address."""

    def run(self, take: Callable[[bytes], None], most_bytes: int, begin: Callable[[int], None]) -> None: ...
    def abort(self) -> None: ...


class Fetcher:
    """Fetches files, each in a thread; a fetch that is cancelled is over within half a second."""

    def __init__(self, config: RuntimesConfig, limits: FetchLimits | None = None) -> None:
        """Without limits those that hold in an agent."""
        self._config = config
        self._limits = limits or FetchLimits()

    async def small(self, address: str, most_bytes: int) -> bytes:
        """Return what there is at the address. Raises NotFound, LimitReached, HostUnavailable."""
        received = bytearray()
        source = self._source(address)
        work = partial(source.run, received.extend, most_bytes, lambda _: None)
        await self._run(work, source, address, self._limits.small)
        return bytes(received)

    async def archive(self, address: str, to: Path, most_bytes: int, on_progress: OnProgress) -> Fetched:
        """Write what there is at the address into a new file. Raises as ``small``, also for a full disk."""
        source = self._source(address)
        work = partial(_write, source, to, most_bytes, on_progress)
        return await self._run(work, source, address, self._limits.large)

    def _source(self, address: str) -> _Source:
        if address.startswith("file:"):
            return _FileSource(file_address(address), address)
        found = web()
        proxy = found.Proxy(self._config.proxy, self._config.no_proxy)
        request: _Source = found.WebRequest(address, proxy, self._limits.idle, self._config.ca_file)
        return request

    async def _run(self, work: Callable[[], T], source: _Source, address: str, seconds: float) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await run_apart(work, source.abort, f"fetch {shown_address(address)}")
        except TimeoutError:
            raise failure(address, f"it takes more than {seconds:g} seconds") from None


def web() -> Any:
    """Return the module web.py, and bring TLS into a process that has kept it out until now (daemon.py)."""
    if sys.modules.get("ssl", sys) is None:
        del sys.modules["ssl"]
    return import_module("joblet_agent.runtimes.index.web")


class _FileSource:
    """A file of this host."""

    def __init__(self, path: str, address: str) -> None:
        self._path = path
        self._address = address
        self._is_unwanted = threading.Event()

    def abort(self) -> None:
        self._is_unwanted.set()

    def run(self, take: Callable[[bytes], None], most_bytes: int, begin: Callable[[int], None]) -> None:
        try:
            file = os.open(self._path, _READ)
        except OSError as error:
            raise self._refused(error) from error
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            os.close(file)
            raise self._refused(OSError(errno.EINVAL, "it is no file"))
        with open(file, "rb") as source:
            if status.st_size > most_bytes:
                raise too_large(self._address, most_bytes)
            begin(status.st_size)
            received = 0
            while piece := source.read(min(_PIECE, most_bytes + 1 - received)):
                received += len(piece)
                if received > most_bytes:
                    raise too_large(self._address, most_bytes)
                take(piece)
                if self._is_unwanted.is_set():
                    raise Aborted

    def _refused(self, error: OSError) -> JobletError:
        kind = NotFound if error.errno in {errno.ENOENT, errno.ENOTDIR} else HostUnavailable
        hidden = next((path for path in _HIDDEN if f"{self._path}/".startswith(f"{path}/")), None)
        return kind(
            f"cannot read {shown_address(self._address)}: {error.strerror}",
            reason=FAILED,
            hint=f"the agent has a {hidden} of its own, or none: put it elsewhere, such as into /srv"
            if hidden
            else "it must be a file of the host that the agent runs on",
        )


def _write(source: _Source, to: Path, most_bytes: int, on_progress: OnProgress) -> Fetched:
    digest = hashlib.sha256()
    received = expected = 0
    with open(os.open(to, NEW_FILE, 0o600), "wb", buffering=0) as file:

        def begin(size: int) -> None:
            nonlocal expected
            expected = size
            room = os.statvfs(file.fileno())
            if size > room.f_bavail * room.f_frsize:
                raise _full(to)

        def take(piece: bytes) -> None:
            nonlocal received
            rest = memoryview(piece)
            try:
                while rest:
                    rest = rest[file.write(rest) or 0 :]
            except OSError as error:
                raise (_full(to) if is_full(error) else _broken(to, error)) from error
            digest.update(piece)
            received += len(piece)
            on_progress(received, expected)

        source.run(take, most_bytes, begin)
    return Fetched(digest.hexdigest(), received)


def _full(to: Path) -> LimitReached:
    return LimitReached(
        f"cannot fetch the archive: no room is left in {to.parent}",
        reason="RUNTIME_DISK_FULL",
        hint="nothing was installed; make room where the agent has its state (rnx runtime gc, remove)",
    )


def _broken(to: Path, error: OSError) -> HostUnavailable:
    return HostUnavailable(
        f"cannot write below {to.parent}: {error.strerror}",
        reason="RUNTIME_STORE_FAILED",
        hint="see the state of the disk with state_dir",
    )
