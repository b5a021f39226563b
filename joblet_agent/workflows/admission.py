"""The ways of a workflow into the agent: checked, its files and secrets kept, stored, driven."""

import asyncio
from collections.abc import Collection
from dataclasses import replace
from functools import partial

from joblet_agent.config import AgentConfig
from joblet_agent.errors import JobletError, LimitReached
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.submissions import Submissions, check_token
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.uploads import bring_uploads, check_uploads
from joblet_agent.model.files import Uploads
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobSpec, Token
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import NewWorkflow, Workflow
from joblet_agent.ports import JobRuntimes, WorkflowStore
from joblet_agent.schedules.service import ScheduleService
from joblet_agent.workflows.accept import Accepted, WorkflowAccept
from joblet_agent.workflows.agenda import WorkflowAgenda
from joblet_agent.workflows.belongings import WorkflowBelongings
from joblet_agent.workflows.drivers import Drivers
from joblet_agent.workflows.starts import WorkflowStarts, template_of
from joblet_agent.workflows.wanted import WantedWorkflow

_UPLOADS_OF = JobSpec(command="workflow")
"""What uploads of a workflow are checked like: those of a job whose workspace has no limit."""


class WorkflowAdmission:
    """Lets workflows, and schedules of workflows, in."""

    def __init__(
        self,
        *,
        config: AgentConfig,
        accept: WorkflowAccept,
        store: WorkflowStore,
        belongings: WorkflowBelongings,
        staging: UploadStaging,
        submissions: Submissions,
        schedules: ScheduleService,
        starts: WorkflowStarts,
        agenda: WorkflowAgenda,
        drivers: Drivers,
        runtimes: JobRuntimes,
    ) -> None:
        self._config = config
        self._accept = accept
        self._store = store
        self._belongings = belongings
        self._staging = staging
        self._submissions = submissions
        self._schedules = schedules
        self._starts = starts
        self._agenda = agenda
        self._drivers = drivers
        self._runtimes = runtimes
        self._tasks = Tasks()
        submissions.find_also(store.submitted)
        starts.deliver_to(drivers.adopt)

    async def close(self) -> None:
        """Let nothing in any more; what is half done the next agent removes."""
        await self._tasks.close()

    async def run(
        self,
        wanted: WantedWorkflow,
        caller: Identity,
        uploads: Uploads,
        token: Token | None,
    ) -> Workflow | Schedule:
        """Check and accept a workflow with its files; return once it is stored.

        If the caller has submitted the token before, the answer is the workflow of that time as it is now.
        Raises WorkflowRefused with all that is wrong, InvalidRequest, LimitReached, StoreFailed, NotFound for
        an upload, HostUnavailable; there is no workflow then.
        """
        if token is not None:
            check_token(token.text)
        check_uploads(_UPLOADS_OF, uploads, self._config.uploads.max_entries)
        accepted = await self._accept.accepted(wanted, caller, await self._paths_of(uploads, caller))
        if token is not None:  # its digest is of all but the text, whose secrets nobody shall guess from it
            token = token.asking_for(accepted.text)
        accepted = replace(accepted, workflow=replace(accepted.workflow, token=token))
        with self._runtimes.hold(member.template for member in accepted.members):
            return await self._let_in(wanted, accepted, uploads, caller)

    async def _let_in(
        self, wanted: WantedWorkflow, accepted: Accepted, uploads: Uploads, caller: Identity
    ) -> Workflow | Schedule:
        token = accepted.workflow.token
        if accepted.schedule:
            admit_recurring = partial(self._admit_recurring, wanted, accepted, uploads, caller)
            return await self._submissions.make(caller.name, token, admit_recurring)
        admit = partial(self._admit, accepted, uploads, caller)
        return self._drivers.newest(await self._submissions.make(caller.name, token, admit))

    async def _admit_recurring(
        self, wanted: WantedWorkflow, accepted: Accepted, uploads: Uploads, caller: Identity
    ) -> Schedule:
        brought = bring_uploads(_UPLOADS_OF, uploads, self._staging, caller.name)
        delivery = None if brought is None else brought[1]
        return await self._schedules.create_of_workflows(
            template_of(accepted),
            accepted.schedule,
            lambda schedule_id: self._starts.keep(schedule_id, wanted, delivery),
        )

    async def _admit(self, accepted: Accepted, uploads: Uploads, caller: Identity) -> Workflow:
        most = self._config.workflows.max_active
        if len(self._drivers) >= most:
            raise LimitReached(
                f"cannot run workflow: {most} workflows have not ended (workflows.max_active)",
                reason="TOO_MANY_WORKFLOWS",
                hint="try again later, or stop others: rnx workflow list",
            )
        workflow = accepted.workflow
        # Last of all: from here on the workflow owns its files.
        brought = bring_uploads(_UPLOADS_OF, uploads, self._staging, caller.name)
        delivery = None if brought is None else brought[1]
        return await asyncio.shield(
            self._tasks.start(self._create(workflow, accepted, delivery), f"create-{workflow.id}")
        )

    async def _create(self, workflow: Workflow, accepted: Accepted, delivery: Delivery | None) -> Workflow:
        try:
            await self._belongings.keep(workflow.id, delivery, accepted.secrets)
            await self._agenda.add(workflow)
            await self._store.create(workflow, accepted.text, accepted.members)
        except JobletError:
            self._agenda.forget(workflow.id)
            await self._belongings.discard(workflow.id)
            raise
        self._drivers.adopt(NewWorkflow(workflow, accepted.text, accepted.members))
        self._agenda.look(workflow.id)  # it may have become due meanwhile, and no timer looks back
        return workflow

    async def _paths_of(self, uploads: Uploads, caller: Identity) -> Collection[str]:
        if uploads.staged_id:
            return await self._staging.entries(uploads.staged_id, caller.name, act="run workflow")
        return [file.path for file in uploads.files]
