"""One command inside a running job: its output as it comes, then how it ended.

Pipes with names, not files: what nobody reads is not written, so a command cannot fill the disk, and
one whose reader is gone ends by SIGPIPE, should nothing else end it. The launcher's report is a pipe, too:
it is at its end when the launcher is, however that ended.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator
from fcntl import ioctl
from pathlib import Path
from struct import unpack
from termios import FIONREAD

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.outcome import outcome_of
from joblet_agent.jobs.paths import ExecPaths
from joblet_agent.model.execution import ExecOutput
from joblet_agent.model.job import JobId, JobSpec, Outcome
from joblet_agent.ports import UnitPhase, UnitStatus

_CHUNK_BYTES = 64 * 1024
_REPORT_MOST = 4096
_LAUNCH_DEADLINE = 25.0  # systemd gives up the start before
_ENDED = re.compile(r"^ended (\d+)$", re.MULTILINE)


class Fifo:
    """The reading end of a pipe with a name."""

    def __init__(self, path: Path, gid: int) -> None:
        """Make it, for root and the job's group to write to (a command may open /dev/stdout)."""
        os.mkfifo(path, 0o600)
        os.chown(path, 0, gid)
        path.chmod(0o620)
        self.fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self.is_over = False

    def read(self) -> bytes:
        """Return what is there, b"" for nothing. Call it when it is readable.

        Before its first writer came, a pipe looks like one whose last writer has gone.
        """
        try:
            data = os.read(self.fd, _CHUNK_BYTES)
        except BlockingIOError:
            return b""
        self.is_over = not data
        return data

    def rest(self) -> bytes:
        """Return what is there now that the command has ended; a process that it left may write on."""
        (size,) = unpack("i", ioctl(self.fd, FIONREAD, b"\0\0\0\0"))
        return os.read(self.fd, size) if size else b""


class ExecSession:
    """Reads the pipes. Make it in a thread, iterate once, ``close`` it."""

    def __init__(self, paths: ExecPaths, spec: JobSpec, gid: int) -> None:
        self._paths = paths
        self._spec = spec
        self._report = b""
        paths.home.mkdir(mode=0o700)
        self._pipes = {
            ExecOutput.STDOUT: Fifo(paths.output, gid),
            ExecOutput.STDERR: Fifo(paths.errors, gid),
        }
        self._ending = Fifo(paths.report, 0)

    @property
    def has_ended(self) -> bool:
        """True when the launcher has: nothing need be stopped."""
        return self._ending.is_over

    async def events(self, job_id: JobId) -> AsyncGenerator[tuple[ExecOutput, bytes] | Outcome, None]:
        """Yield pieces of output, and last how the command ended. Raises HostUnavailable EXEC_NOT_STARTED."""
        while not self._ending.is_over:
            ready = await self._readable(job_id)
            for kind, pipe in self._pipes.items():
                if pipe in ready and (data := pipe.read()):
                    yield kind, data
            if self._ending in ready:
                self._report = (self._report + self._ending.read())[:_REPORT_MOST]
        for kind, pipe in self._pipes.items():
            if data := pipe.rest():
                yield kind, data
        yield exec_outcome(job_id, self._report.decode(errors="replace"), self._spec)

    async def _readable(self, job_id: JobId) -> set[Fifo]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        ready: set[Fifo] = set()
        waiting = [pipe for pipe in (*self._pipes.values(), self._ending) if not pipe.is_over]

        def wake(pipe: Fifo) -> None:
            ready.add(pipe)
            changed.set()

        for pipe in waiting:
            loop.add_reader(pipe.fd, wake, pipe)
        try:
            async with asyncio.timeout(None if self._report else _LAUNCH_DEADLINE):
                await changed.wait()
        except TimeoutError as error:
            raise HostUnavailable(
                f"cannot run a command in job {job_id[:8]}: systemd has not started it in time",
                reason="EXEC_NOT_STARTED",
            ) from error
        finally:
            for pipe in waiting:
                loop.remove_reader(pipe.fd)
        return ready

    def close(self) -> None:
        """Let go of the pipes; whoever writes to them ends by SIGPIPE. Once."""
        for pipe in (*self._pipes.values(), self._ending):
            os.close(pipe.fd)

    def remove(self) -> None:
        """Remove the files. Blocking."""
        shutil.rmtree(self._paths.home, ignore_errors=True)


def exec_outcome(job_id: JobId, report: str, spec: JobSpec) -> Outcome:
    """Say how a command ended, from the launcher's report (units/joblet-launch, "join")."""
    ended = _ENDED.search(report)
    number = int(ended[1]) if ended else 0
    killed = os.WTERMSIG(number) if ended and os.WIFSIGNALED(number) else 0
    status = UnitStatus(
        job_id,
        UnitPhase.ENDED,
        exit_kind=("killed" if killed else "exited") if ended else "",
        exit_status=killed or os.waitstatus_to_exitcode(number),
    )
    return outcome_of(
        status, stop_requested=False, launch_report=_ENDED.sub("", report).rstrip("\n"), spec=spec
    )
