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

from joblet_agent.errors import HostUnavailable, JobletError, NotOffered, WrongState
from joblet_agent.jobs.check import check_command, quoted
from joblet_agent.jobs.control import UnitControl
from joblet_agent.jobs.exec_session import ExecSession
from joblet_agent.jobs.live import LiveControl
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.plan import launch_plan
from joblet_agent.jobs.root import DefaultRoot
from joblet_agent.model.execution import ExecOutput, ExecSpec
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobRecord, Outcome
from joblet_agent.model.profile import Profile
from joblet_agent.ports import ExecPlan, ExecUnits, JournalCopy, LaunchPlan

_log = logging.getLogger(__name__)
_VERB = "run a command in"


class RunningExec:
    """A command that was started. Iterate over it once; ``close`` it, which kills it if it still runs."""

    def __init__(self, owner: "ExecService", plan: ExecPlan, session: ExecSession) -> None:
        self._owner = owner
        self._plan = plan
        self._session = session
        self._events = session.events(plan.job.job_id)

    def __aiter__(self) -> AsyncIterator[tuple[ExecOutput, bytes] | Outcome]:
        """Return the output as it comes, then how it ended."""
        return self._events

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
    ) -> None:
        self._live = live
        self._control = control
        self._units = units
        self._journal = journal
        self._paths = paths
        self._root = root
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

        It gets the job's variables but the secret ones, and its own. Raises InvalidRequest, WrongState
        (JOB_NOT_RUNNING, JOB_PAUSED), NotOffered (EXEC_NOT_OFFERED), LaunchFailed, HostUnavailable.
        """
        job = await self._live.running(given, _VERB)
        if await self._control.is_paused(job):
            raise WrongState(
                f"cannot {_VERB} job {job.record.id[:8]}: it is paused",
                reason="JOB_PAUSED",
                hint="let it go on with: rnx job resume",
            )
        plan = self._plan(job.record, wanted)
        if plan.job.profile is Profile.PRIVILEGED:
            raise NotOffered(
                f"cannot {_VERB} job {job.record.id[:8]}: its profile is {Profile.PRIVILEGED}",
                reason="EXEC_NOT_OFFERED",
                hint="let a job of its own do it",
            )
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
        spec = replace(
            record.spec,
            command=wanted.command,
            args=wanted.args,
            work_dir=wanted.work_dir,
            environment={**own.environment, **wanted.environment},
        )
        check_command(spec)
        exec_id = str(uuid.uuid4())
        paths = self._paths.execution(exec_id)
        job: LaunchPlan = replace(
            own, spec=spec, environment=spec.environment, environment_file=paths.environment
        )
        return ExecPlan(exec_id, job, paths.output, paths.errors, paths.report)

    async def _opened(self, plan: ExecPlan) -> ExecSession:
        paths = self._paths.execution(plan.exec_id)
        try:
            return await _kept(asyncio.to_thread(ExecSession, paths, plan.job.spec, plan.job.uid))
        except OSError as error:
            raise HostUnavailable(
                f"cannot prepare the pipes of the command: {error.strerror}", reason="CANNOT_PREPARE_FILES"
            ) from error


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
