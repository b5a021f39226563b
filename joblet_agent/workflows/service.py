"""The use cases of workflows.

The order that makes kill -9 harmless between any two lines::

    run      keep what came along → make the timer of a scheduled one → store workflow and members → drive it
             (driver.py)
    due      store that it is not scheduled any more → stop the timer
    retry    store workflow and members as they begin → drive it
    delete   delete its jobs → delete it → discard what came along
    recover  read what has not ended → ... jobs are recovered ... → drive each → slices and files of others go
"""

import asyncio
from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from joblet_agent.errors import AmbiguousId, WrongState
from joblet_agent.jobs.ids import id_prefix, not_found
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.files import NO_UPLOADS, Uploads
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobId, JobRecord, Token
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import Member, Wish, Workflow, WorkflowFilter, WorkflowId
from joblet_agent.schedules.service import ScheduleService
from joblet_agent.workflows.accept import WorkflowAccept
from joblet_agent.workflows.admission import WorkflowAdmission
from joblet_agent.workflows.afterwards import Afterwards
from joblet_agent.workflows.agenda import WorkflowAgenda
from joblet_agent.workflows.driver import Driver, Means, already_ended
from joblet_agent.workflows.drivers import Drivers
from joblet_agent.workflows.wanted import Planned, WantedWorkflow
from joblet_agent.workflows.watching import Watch


class WorkflowService:
    """What callers can do with workflows. Ids may be shortened to a prefix that fits one only."""

    def __init__(
        self,
        *,
        means: Means,
        accept: WorkflowAccept,
        drivers: Drivers,
        agenda: WorkflowAgenda,
        admission: WorkflowAdmission,
        afterwards: Afterwards,
        schedules: ScheduleService,
    ) -> None:
        self._means = means
        self._store = means.store
        self._accept = accept
        self._drivers = drivers
        self._agenda = agenda
        self._admission = admission
        self._afterwards = afterwards
        self._schedules = schedules
        self._tasks = Tasks()

    # -- begin and end of the agent --------------------------------------------------------------------

    async def load(self) -> None:
        """Read what has not ended. Call once, before jobs are recovered."""
        await self._drivers.load()

    def open(self) -> None:
        """Go on with what was read. Call once, between the recovery of jobs and the start of their queue."""
        self._drivers.open()
        self._agenda.recover()

    async def sweep(self) -> None:
        """Remove the files of others. Call once, when schedules are recovered and before any is due."""
        recurring = [WorkflowId(each.id) for each in self._schedules.all() if each.is_of_workflows]
        known = [workflow.id for workflow in await self._store.all(WorkflowFilter())]
        unfinished = [driver.id for driver in self._drivers]
        await self._means.belongings.discard_all_but(
            [*known, *recurring], unfinished=[*unfinished, *recurring]
        )

    async def close(self) -> None:
        """Do nothing more; jobs go on, and the next agent goes on with the workflows."""
        for owner in (self._admission, self._afterwards, self._agenda, self._tasks, self._drivers):
            await owner.close()

    @property
    def has_unfinished(self) -> bool:
        """Say whether anything is left to do for any workflow."""
        return len(self._drivers) > 0

    # -- the use cases ---------------------------------------------------------------------------------

    async def run(
        self,
        wanted: WantedWorkflow,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        token: Token | None = None,
    ) -> Workflow | Schedule:
        """Check and accept a workflow with its files; return once it is stored.

        One with a calendar expression makes a recurring schedule. If the caller has submitted the token
        before, the answer is the workflow of that time as it is now. Raises WorkflowRefused with all that is
        wrong, InvalidRequest, LimitReached, StoreFailed, NotFound for an upload, HostUnavailable; there is
        none then.
        """
        return await self._admission.run(wanted, caller, uploads, token)

    async def check(
        self, wanted: WantedWorkflow, caller: Identity, paths: Collection[str], *, explain: bool
    ) -> Sequence[Planned]:
        """Check as ``run`` does, with files of these paths; return how its jobs would run, in order.

        With ``explain`` also their units. Raises WorkflowRefused with all that is wrong.
        """
        accepted = await self._accept.accepted(wanted, caller, paths)
        return await self._accept.planned(accepted, explain=explain)

    async def get(self, given: str) -> Workflow:
        """Return the workflow. Raises NotFound, AmbiguousId."""
        return await self._workflow(await self._resolve(given))

    async def members(self, workflow: Workflow) -> Sequence[Member]:
        """Return all jobs of the workflow, by number."""
        driver = self._drivers.get(workflow.id)
        return driver.members() if driver is not None else await self._store.members(workflow.id)

    async def job(self, job_id: JobId) -> JobRecord | None:
        """Return the record of a job; None if it is in the queue, or nobody knows it."""
        registry = self._means.registry
        job = registry.get(job_id)
        if job is not None:
            return job.record
        return None if job_id in registry.queue else await self._means.jobs.get(job_id)

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        """Return the workflows, newest first."""
        return [self._drivers.newest(each) for each in await self._store.all(wanted)]

    async def text(self, workflow: Workflow) -> str:
        """Return the text of its file, secrets as ``***``."""
        return await self._store.text(workflow.id)

    def slice_name(self, workflow_id: WorkflowId) -> str:
        """Return the name of the slice that its jobs are in."""
        return self._means.slices.slice_name(workflow_id)

    async def watch(self, given: str) -> Watch:
        """Return the workflow with all its members, then each change until it has ended."""
        workflow = await self.get(given)
        driver = self._drivers.get(workflow.id)
        if driver is not None and not workflow.state.has_ended:
            return driver.watch()
        members = await self.members(workflow)
        watch = Watch(
            lambda numbers: (workflow, [members[number] for number in numbers]),
            range(len(members)),
            lambda _: None,
        )
        watch.tell((), is_last=True)
        return watch

    async def stop(self, given: str) -> Workflow:
        """Stop what runs, cancel what waits. Raises WrongState once it has ended."""
        return await self._want(given, Wish.STOP)

    async def cancel(self, given: str) -> Workflow:
        """Cancel what waits; what runs goes on to its end. Raises WrongState once it has ended."""
        return await self._want(given, Wish.CANCEL)

    async def pause(self, given: str) -> Workflow:
        """Start nothing more, let what runs stand still. Raises WrongState if it has ended or is paused."""
        driver = await self._driver(given)
        if driver.workflow.is_paused:
            raise WrongState(
                f"cannot pause workflow {driver.id[:8]}: it is paused already",
                reason="WORKFLOW_PAUSED",
                hint="let it go on with: rnx workflow resume",
            )
        await self._shielded(driver.pause(), driver)
        return driver.workflow

    async def resume(self, given: str) -> Workflow:
        """Let a paused one go on. Raises WrongState if it is not."""
        driver = await self._driver(given)
        if not driver.workflow.is_paused:
            raise WrongState(
                f"cannot resume workflow {driver.id[:8]}: it is not paused", reason="WORKFLOW_NOT_PAUSED"
            )
        await self._shielded(driver.resume(), driver)
        return driver.workflow

    async def retry(self, given: str, *, failed_only: bool) -> Workflow:
        """Run the jobs of an ended one again, with ``failed_only`` those that have not completed.

        Raises WrongState: WORKFLOW_NOT_ENDED, NOTHING_TO_RETRY, SECRETS_GONE.
        """
        return await self._afterwards.retry(await self._resolve(given), failed_only=failed_only)

    async def delete(self, given: str) -> tuple[WorkflowId, int]:
        """Forget an ended one with its jobs, their logs and files; return how many jobs these were.

        Raises WrongState while it has not ended, and for files that cannot be removed.
        """
        workflow_id = await self._resolve(given)
        return workflow_id, await self._afterwards.delete(workflow_id)

    # -- behind them -----------------------------------------------------------------------------------

    async def _want(self, given: str, wish: Wish) -> Workflow:
        driver = await self._driver(given)
        if driver.workflow.wish is not Wish.STOP:  # more than that nobody can want
            await self._shielded(driver.want(wish), driver)
        return driver.workflow

    async def _driver(self, given: str) -> Driver:
        workflow = await self.get(given)
        driver = self._drivers.get(workflow.id)
        if driver is None or workflow.state.has_ended:
            raise already_ended(workflow)
        return driver

    async def _shielded(self, work: Coroutine[Any, Any, None], driver: Driver) -> None:
        await asyncio.shield(self._tasks.start(work, f"wish-{driver.id}"))

    async def _workflow(self, workflow_id: WorkflowId) -> Workflow:
        driver = self._drivers.get(workflow_id)
        workflow = driver.workflow if driver is not None else await self._store.get(workflow_id)
        if workflow is None:
            raise not_found(workflow_id, "workflow")
        return workflow

    async def _resolve(self, given: str) -> WorkflowId:
        text = id_prefix(given, "workflow")
        found = await self._store.find(text, most=2)
        if not found:
            raise not_found(text, "workflow")
        if len(found) > 1:
            raise AmbiguousId(
                f"id {text} fits more than one workflow",
                reason="WORKFLOW_ID_AMBIGUOUS",
                hint="give more characters",
            )
        return found[0]
