"""Archives that configuration management has put onto the host become runtimes when the agent starts.

Each file counts once, as long as its size and its time are the same: a runtime that an admin has removed does
not come back. One that cannot be taken in is a line in the log, of each version of the agent, and keeps no
other from it. What was taken in is written down after it is there: a crash between the two has it taken in
again, which changes nothing.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from joblet_agent import __version__
from joblet_agent.errors import HostUnavailable, JobletError, LimitReached
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.runtimes.disk import publish, write_new
from joblet_agent.runtimes.index.kinds import is_tar_name
from joblet_agent.runtimes.installer import RuntimeImporter

__all__ = ["DIRECTORY", "RuntimeDropIns"]

DIRECTORY: Final = Path("/usr/share/joblet/runtimes.d")
_MOST_FILES = 1000
_MOST_MEMORY = 1 << 20

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Archive:
    """A file in the directory."""

    path: Path
    mark: str
    """Differs when the file has been changed."""


class RuntimeDropIns:
    """Takes in, one after the other, what is new in the directory."""

    def __init__(self, directory: Path, memory: Path, importer: RuntimeImporter) -> None:
        """``memory`` is the file that says what was taken in."""
        self._directory = directory
        self._memory = memory
        self._importer = importer
        self._tasks = Tasks()

    def start(self) -> None:
        """Begin; nobody waits for it."""
        self._tasks.start(self.take_in(), "take in runtimes.d")

    async def close(self) -> None:
        """End what is under way; the next start goes on with it."""
        await self._tasks.close()

    async def take_in(self) -> None:
        """Take in all archives that are new."""
        archives = await asyncio.to_thread(_archives, self._directory)
        if not archives:
            return
        before = await asyncio.to_thread(_read, self._memory)
        # What is gone is forgotten: put there again, it counts again.
        known = {archive.path.name: mark for archive in archives if (mark := before.get(archive.path.name))}
        for archive in archives:
            name = archive.path.name
            if known.get(name) in {archive.mark, _failed(archive.mark)}:
                continue
            try:
                known[name] = await self._take_in(archive)
            except (HostUnavailable, LimitReached) as error:
                _log.error("cannot take in %s, trying again at the next start: %s", archive.path, error)
                continue
            await asyncio.to_thread(_write, self._memory, known)

    async def _take_in(self, archive: _Archive) -> str:
        """Return what is to be remembered of it."""
        try:
            runtime = await self._importer.import_archive(archive.path, source=str(archive.path))
        except (HostUnavailable, LimitReached):
            raise  # it is not the archive's fault
        except JobletError as error:
            _log.error("cannot take in %s: %s", archive.path, error)
            return _failed(archive.mark)
        _log.info("runtime %s: taken in from %s", runtime.facts, archive.path)
        return archive.mark


def _failed(mark: str) -> str:
    return f"{mark} refused by {__version__}"


def _archives(directory: Path) -> list[_Archive]:
    found = []
    try:
        paths = sorted(path for path in directory.iterdir() if is_tar_name(path.name))
        for path in paths[:_MOST_FILES]:
            status = path.stat()
            if path.is_file() and not path.name.startswith("."):
                found.append(_Archive(path, f"{status.st_size} {status.st_mtime_ns}"))
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.error("cannot read %s: %s", directory, error.strerror)
    return found


def _read(memory: Path) -> Mapping[str, str]:
    try:
        with memory.open("rb") as file:
            data: Any = json.loads(file.read(_MOST_MEMORY))
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = data.items() if isinstance(data, dict) else ()
    return {name: mark for name, mark in pairs if isinstance(mark, str)}


def _write(memory: Path, known: Mapping[str, str]) -> None:
    new = memory.with_name(f"{memory.name}.new")
    try:
        new.unlink(missing_ok=True)
        write_new(new, json.dumps(known, indent=1, sort_keys=True).encode())
        publish(new, memory)
    except OSError as error:
        _log.error("cannot write %s: %s", memory, error.strerror)
