"""One command inside a running job: its input as it is given, its output as it comes, then how it ended.

The launcher's report is a pipe, too: it is at its end when the launcher is, however that ended.
"""

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator

from joblet_agent.errors import HostUnavailable, InvalidRequest, LimitReached
from joblet_agent.jobs.exec_pipes import Fifo, Input, OrderFifo, Readable, Terminal
from joblet_agent.jobs.outcome import outcome_of
from joblet_agent.jobs.paths import ExecPaths
from joblet_agent.jobs.signals import signal_number
from joblet_agent.model.execution import ExecOutput, TerminalSize
from joblet_agent.model.job import JobId, JobSpec, Outcome
from joblet_agent.ports import ExecPlan, UnitPhase, UnitStatus

MOST_PIECE = 1024 * 1024
"""Bytes of one piece of input."""

_REPORT_MOST = 4096
_LAUNCH_DEADLINE = 25.0  # systemd gives up the start before
_ENDED = re.compile(r"^ended (\d+)$", re.MULTILINE)


class ExecSession:
    """What joins a command to the agent. Make it in a thread, iterate once, ``close`` it."""

    def __init__(self, paths: ExecPaths, plan: ExecPlan) -> None:
        self._paths = paths
        self._job_id = plan.job.job_id
        self._spec = plan.job.spec
        self._report = b""
        self._input_has_ended = False
        paths.home.mkdir(mode=0o700)
        self._ending = Fifo(paths.report, 0)
        self._orders = OrderFifo(paths.orders)
        self._input: Input | None = None
        self._sources: dict[Readable, ExecOutput] = {}
        if plan.terminal is not None:
            self._input = Terminal(paths.input)
        else:
            self._sources[Fifo(paths.output, plan.job.uid)] = ExecOutput.STDOUT
            self._sources[Fifo(paths.errors, plan.job.uid)] = ExecOutput.STDERR
            self._input = Input(paths.input) if plan.input is not None else None
        if self._input is not None:
            self._sources[self._input] = ExecOutput.STDOUT

    @property
    def has_ended(self) -> bool:
        """True when the launcher has: nothing need be stopped."""
        return self._ending.is_over

    async def events(self) -> AsyncGenerator[tuple[ExecOutput, bytes] | Outcome, None]:
        """Yield pieces of output, and last how the command ended. Raises HostUnavailable EXEC_NOT_STARTED."""
        while not self._ending.is_over:
            ready = await self._readable()
            for source, kind in self._sources.items():
                if source in ready and (data := source.read()):
                    yield kind, data
            if self._ending in ready:
                self._report = (self._report + self._ending.read())[:_REPORT_MOST]
        for source, kind in self._sources.items():
            if data := source.rest():
                yield kind, data
        yield exec_outcome(self._job_id, self._report.decode(errors="replace"), self._spec)

    async def _readable(self) -> set[Readable]:
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        ready: set[Readable] = set()
        waiting = [source for source in (*self._sources, self._ending) if not source.is_over]

        def wake(source: Readable) -> None:
            ready.add(source)
            changed.set()

        for source in waiting:
            loop.add_reader(source.fd, wake, source)
        try:
            async with asyncio.timeout(None if self._report else _LAUNCH_DEADLINE):
                await changed.wait()
        except TimeoutError as error:
            raise HostUnavailable(
                f"cannot run a command in job {self._job_id[:8]}: systemd has not started it in time",
                reason="EXEC_NOT_STARTED",
            ) from error
        finally:
            for source in waiting:
                loop.remove_reader(source.fd)
        return ready

    async def write(self, data: bytes) -> None:
        """Give the command input; return when it can take more.

        Raises InvalidRequest: STDIN_TOO_LARGE, STDIN_NOT_WANTED, STDIN_ENDED.
        """
        if len(data) > MOST_PIECE:
            raise self._wrong(f"a piece of input has more than {MOST_PIECE} bytes", "STDIN_TOO_LARGE")
        await self._open_input().write(data)

    async def end_input(self) -> None:
        """Let the command's input end. Raises InvalidRequest: STDIN_NOT_WANTED, STDIN_ENDED."""
        given = self._open_input()
        self._input_has_ended = True
        await given.end(self._order)

    async def resize(self, size: TerminalSize) -> None:
        """Give the command's terminal another size. Raises InvalidRequest NO_TERMINAL."""
        if not isinstance(self._input, Terminal):
            raise self._wrong("a window has changed, and it has no terminal", "NO_TERMINAL")
        await self._input.resize(size)

    def signal(self, given: str) -> None:
        """Send a signal (name or number) to the command's process group.

        Raises InvalidRequest UNKNOWN_SIGNAL, and LimitReached for more than a pipe can hold.
        """
        self._order(signal_number(given))

    def _order(self, number: int) -> None:
        try:
            self._orders.give(number)
        except BlockingIOError:
            raise LimitReached(
                f"cannot send a signal to a command in job {self._job_id[:8]}: too many wait already",
                reason="TOO_MANY_SIGNALS",
            ) from None

    def _open_input(self) -> Input:
        if self._input is None:
            raise self._wrong("it was started with empty input", "STDIN_NOT_WANTED", "set stdin in its start")
        if self._input_has_ended:
            raise self._wrong("its input has ended", "STDIN_ENDED")
        return self._input

    def _wrong(self, why: str, reason: str, hint: str | None = None) -> InvalidRequest:
        return InvalidRequest(
            f"cannot give input to a command in job {self._job_id[:8]}: {why}", reason=reason, hint=hint
        )

    def close(self) -> None:
        """Let go of everything: the launcher kills the command when its orders end. Once."""
        for source in self._sources:
            source.close()
        self._orders.close()
        self._ending.close()

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
