"""Work directories of jobs that run are limited by project quotas, where the file system has them.

Each limited directory has a project of its own as long as it is there, which may be longer than its job
runs and longer than its user is the job's. A project is free when no file has it, and that the file system
itself knows: nothing is stored. Its limit is in force from before the job's command runs until the job has
ended, when nobody writes any more. Blocking, but for ``are_enforced``; raises OSError.
"""

import errno
import logging
import os
import random
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from joblet_agent.jobs.tree import DIRECTORY
from joblet_agent.model.workspace import most_files
from joblet_agent.ports import ProjectQuotas, ProjectUsage
from joblet_agent.units import format_bytes

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = 4096

_log = logging.getLogger(__name__)


class WorkQuotas:
    """Gives work directories their limits. Projects are taken from ``first`` on, ``count`` of them."""

    def __init__(self, quotas: ProjectQuotas, first: int, count: int) -> None:
        self._quotas = quotas
        self._projects = range(first, first + count)
        # Somewhere, so that one agent does not begin with what those before it have taken.
        self._next = random.randrange(count)  # noqa: S311 - it is no secret
        self._lock = threading.Lock()
        self.are_enforced = quotas.are_enforced()
        """A workspace on disk can be limited. Found out at the start, and again for each directory."""

    def limit(self, work: Path, size: int) -> None:
        """Hold the directory, and what is in it already, to so many bytes and the files that go with them.

        Doing it again sets the limit anew. Nobody may write to the directory meanwhile.
        """
        if not self._quotas.are_enforced():
            text = "its file system no longer has the project quotas that its work size needs"
            raise OSError(errno.EOPNOTSUPP, text)
        top = os.open(work, DIRECTORY)
        try:
            project = self._quotas.project(top)
            if project in self._projects:
                self._quotas.set_limit(project, size=size, files=most_files(size))
            else:
                project = self._take(size)
        finally:
            os.close(top)
        try:
            self._assign(work, project)
        except OSError as error:
            if error.errno != errno.EDQUOT:
                raise
            text = f"what came with it takes more than its work size, {format_bytes(size)}"
            raise OSError(errno.EDQUOT, text) from error

    def lift(self, work: Path) -> None:
        """Take the limit away from the directory of a job that has ended; one that is gone has none."""
        project = self._project_of(work)
        if project is not None:
            self._quotas.set_limit(project, size=0, files=0)

    def is_full(self, work: Path) -> bool:
        """Say whether a limited directory has next to no room for content, or none for another file."""
        project = self._project_of(work)
        if project is None:
            return False
        usage = self._quotas.usage(project)
        if not _is_limited(usage):
            return False
        # A file system refuses a write somewhat earlier: it keeps blocks for its own maps of the file.
        least = max(_BLOCK, min(16 * _BLOCK, usage.most_size // 64))
        return usage.most_size - usage.size < least or usage.files >= usage.most_files

    def reconcile(self, wanted: Mapping[Path, int]) -> None:
        """Let these directories, which jobs write to, have their limits, and no other project of ours one."""
        if not self.are_enforced:
            if wanted:
                _log.warning(
                    "%d jobs run without the limit of their /work: no project quotas any more", len(wanted)
                )
            return
        held = set()
        for work, size in wanted.items():
            project = self._project_of(work)
            if project is not None:
                self._quotas.set_limit(project, size=size, files=most_files(size))
                held.add(project)
        left = [
            each.project
            for each in self._quotas.known(self._projects[0], self._projects[-1])
            if _is_limited(each)
        ]
        for project in left:
            if project not in held:
                self._quotas.set_limit(project, size=0, files=0)

    def _take(self, size: int) -> int:
        """Return a project that no file has, with its limit set: that is what others see it taken by."""
        with self._lock:
            for step in range(len(self._projects)):
                project = self._projects[(self._next + step) % len(self._projects)]
                usage = self._quotas.usage(project)
                if not usage.files and not _is_limited(usage):
                    self._quotas.set_limit(project, size=size, files=most_files(size))
                    self._next = (self._next + step + 1) % len(self._projects)
                    return project
        raise OSError(errno.EUSERS, "all project ids of jobs.project_count are in use")

    def _assign(self, work: Path, project: int) -> None:
        for _, _, names, directory in os.fwalk(work, follow_symlinks=False):
            self._quotas.assign(directory, project)
            for name in names:
                file = os.open(name, _FILE, dir_fd=directory)
                try:
                    self._quotas.assign(file, project)
                finally:
                    os.close(file)

    def _project_of(self, work: Path) -> int | None:
        with suppress(FileNotFoundError):
            top = os.open(work, DIRECTORY)
            try:
                project = self._quotas.project(top)
            finally:
                os.close(top)
            return project if project in self._projects else None
        return None


def _is_limited(usage: ProjectUsage) -> bool:
    return bool(usage.most_size or usage.most_files)
