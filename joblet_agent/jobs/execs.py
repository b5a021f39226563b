"""Commands inside running jobs.

Nothing of them outlives its caller: when the caller goes away the command is killed, and an agent
that starts stops what the one before has left. So nothing is recorded but the line in the journal.
"""

import asyncio
import logging
import shutil
import uuid
from collections.abc import AsyncIterator, Coroutine
from dataclasses import replace
from typing import Any

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, WrongState
from joblet_agent.jobs.check import check_command, quoted
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.exec_session import ExecSession
from joblet_agent.jobs.live import LiveControl
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.profiles import require_permitted
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.model.execution import ExecOutput, ExecSpec, TerminalSize
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobRecord, Outcome
from joblet_agent.networks.jobs import JobNetworks
from joblet_agent.ports import ExecPlan, ExecUnits, JournalCopy, LaunchPlan

_log = logging.getLogger(__name__)
_VERB = "run a command in"
_MOST_SIZE = 65535  # struct winsize, ioctl_tty(2)


class RunningExec:
    """A command that was started. Iterate over it once; ``close`` it, which kills it if it still runs."""

    def __init__(self, owner: "ExecService", plan: ExecPlan, session: ExecSession) -> None:
        self._owner = owner
        self._plan = plan
        self._session = session
        self._events = session.events()

    def __aiter__(self) -> AsyncIterator[tuple[ExecOutput, bytes] | Outcome]:
        """Return the output as it comes, then how it ended."""
        return self._events

    async def write(self, data: bytes) -> None:
        """See ExecSession.write."""
        await self._session.write(data)

    async def end_input(self) -> None:
        """See ExecSession.end_input."""
        await self._session.end_input()

    async def resize(self, size: TerminalSize) -> None:
        """See ExecSession.resize; raises InvalidRequest BAD_TERMINAL, too."""
        check_size(size)
        await self._session.resize(size)

    def signal(self, given: str) -> None:
        """See ExecSession.signal."""
        self._session.signal(given)

    def close(self) -> None:
        """End it. Never waits: its caller may be canceled."""
        self._session.close()
        self._owner.clear_away(self._plan, self._session)


class ExecService:
    """Runs commands inside running jobs."""

    def __init__(
        self,
        live: LiveControl,
        control: UnitControl,
        units: ExecUnits,
        journal: JournalCopy,
        paths: AgentPaths,
        root: DefaultRoot,
        networks: JobNetworks,
    ) -> None:
        self._live = live
        self._control = control
        self._units = units
        self._journal = journal
        self._paths = paths
        self._root = root
        self._networks = networks
        self._tasks: set[asyncio.Task[None]] = set()

    async def recover(self) -> None:
        """Stop what an agent before this one has left. Call once, before the first ``start``."""
        try:
            count = await self._units.stop_all()
        except JobletError as error:
            _log.warning("commands inside jobs may have been left by the agent before: %s", error)
        else:
            if count:
                _log.info("stopped %d commands inside jobs whose callers are gone", count)
        await asyncio.to_thread(shutil.rmtree, self._paths.execs, ignore_errors=True)
        await asyncio.to_thread(self._paths.execs.mkdir, mode=0o700)

    async def close(self) -> None:
        """Finish what ``RunningExec.close`` has begun."""
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def start(self, given: str, wanted: ExecSpec, caller: Identity) -> RunningExec:
        """Start a command in the job's namespaces and control group, as the job's user.

        It gets the job's variables but the secret ones, and its own. Only admins may run commands in
        privileged jobs, where they are root, and only those whose own jobs may be there in jobs on the host's
        network. Raises InvalidRequest, NotPermitted (PROFILE_NOT_PERMITTED, NETWORK_NOT_PERMITTED),
        WrongState (JOB_NOT_RUNNING, JOB_PAUSED), LaunchFailed, HostUnavailable.
        """
        job = await self._live.running(given, _VERB)
        act = f"cannot {_VERB} job {job.record.id[:8]}"
        require_permitted(job.record.spec.profile, caller, act)
        self._networks.require_host_permitted(job.record.spec, caller.role, act)
        if await self._control.is_paused(job):
            raise WrongState(
                f"cannot {_VERB} job {job.record.id[:8]}: it is paused",
                reason="JOB_PAUSED",
                hint="let it go on with: rnx job resume",
            )
        plan = self._plan(job.record, wanted)
        session = await self._opened(plan)
        running = RunningExec(self, plan, session)
        what = f"{caller.name} runs {quoted(wanted.command)} in job {job.record.id}"
        self._journal.event(job.record, "exec", what)
        try:
            await self._units.start(plan)
        except BaseException:  # a caller that is gone, too: systemd may have begun
            running.close()
            raise
        return running

    def clear_away(self, plan: ExecPlan, session: ExecSession) -> None:
        """Stop the command if it runs, and remove its files, soon."""
        task = asyncio.create_task(self._clear_away(plan, session), name=f"exec-{plan.exec_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _clear_away(self, plan: ExecPlan, session: ExecSession) -> None:
        if not session.has_ended:
            try:
                await self._units.stop(plan.exec_id)
            except JobletError as error:
                _log.warning("a command in job %s is not stopped yet: %s", plan.job.job_id, error)
        await asyncio.to_thread(session.remove)

    def _plan(self, record: JobRecord, wanted: ExecSpec) -> ExecPlan:
        # Nobody keeps the values of secret variables once the job runs; its secret files it sees.
        own = launch_plan(record, self._paths, self._root.path, secrets={})
        own = replace(own, kit=None)  # the launcher of such a command is the host's
        terminal = wanted.terminal
        term = {"TERM": terminal.term} if terminal is not None and terminal.term else {}
        spec = replace(
            record.spec,
            command=wanted.command,
            args=wanted.args,
            work_dir=wanted.work_dir,
            environment={**own.environment, **term, **wanted.environment},
        )
        check_command(spec)
        if terminal is not None:
            check_size(terminal.size)
        exec_id = str(uuid.uuid4())
        paths = self._paths.execution(exec_id)
        job: LaunchPlan = replace(
            own, spec=spec, environment=spec.environment, environment_file=paths.environment
        )
        return ExecPlan(
            exec_id,
            job,
            paths.output,
            paths.errors,
            paths.report,
            paths.orders,
            input=paths.input if wanted.stdin or terminal is not None else None,
            terminal=None if terminal is None else terminal.size,
        )

    async def _opened(self, plan: ExecPlan) -> ExecSession:
        paths = self._paths.execution(plan.exec_id)
        try:
            return await _kept(asyncio.to_thread(ExecSession, paths, plan))
        except OSError as error:
            raise HostUnavailable(
                f"cannot prepare the pipes of the command: {error.strerror}", reason="CANNOT_PREPARE_FILES"
            ) from error


def check_size(size: TerminalSize) -> None:
    """Raise InvalidRequest BAD_TERMINAL for a size that no terminal can have."""
    if not (0 <= size.rows <= _MOST_SIZE and 0 <= size.columns <= _MOST_SIZE):
        raise InvalidRequest(
            f"cannot {_VERB} a job: a terminal has at most {_MOST_SIZE} rows and columns, "
            f"not {size.rows} and {size.columns}",
            reason="BAD_TERMINAL",
        )


async def _kept(work: Coroutine[Any, Any, ExecSession]) -> ExecSession:
    """Await what opens files; a caller that goes away meanwhile leaves nothing open."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_discard)
        raise


def _discard(task: "asyncio.Task[ExecSession]") -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
        task.result().remove()
