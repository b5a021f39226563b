"""Recurring schedules of workflows: each start checks the file anew and makes a workflow of its own.

A schedule keeps what was sent, the file with its secrets and the files that came along, in a directory of
root alone that is named like a workflow's. Volumes and networks may have gone since: such a start is left
out, with the reason.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.belongings import files_not_stored
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.paths import AgentPaths, WorkflowPaths
from joblet_agent.jobs.secrets import write_private
from joblet_agent.jobs.tree import entries
from joblet_agent.model.audit import start_of_workflow_by_timer
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobRecord, JobSpec, JobState
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.workflow import NewWorkflow, WorkflowId, WorkflowState
from joblet_agent.ports import AuditLog, WorkflowStore
from joblet_agent.schedules.starts import Start
from joblet_agent.workflows.accept import Accepted, WorkflowAccept
from joblet_agent.workflows.belongings import WorkflowBelongings
from joblet_agent.workflows.wanted import WantedWorkflow


class WorkflowStarts:
    """Starts workflows when they are due (schedules.starts.Starts)."""

    def __init__(
        self,
        *,
        accept: WorkflowAccept,
        belongings: WorkflowBelongings,
        store: WorkflowStore,
        audit: AuditLog,
        paths: AgentPaths,
    ) -> None:
        self._accept = accept
        self._belongings = belongings
        self._store = store
        self._audit = audit
        self._paths = paths
        self._adopt: Callable[[NewWorkflow], None] = _nobody

    def deliver_to(self, adopt: Callable[[NewWorkflow], None]) -> None:
        """Let each new workflow, once it is stored, be driven by this."""
        self._adopt = adopt

    async def keep(self, schedule_id: ScheduleId, wanted: WantedWorkflow, delivery: Delivery | None) -> None:
        """Store what a schedule starts workflows of. Raises NotDelivered, and nothing is left."""
        own = self._own(schedule_id)
        await self._belongings.keep(WorkflowId(schedule_id), delivery, {})
        try:
            await asyncio.to_thread(_write, own, wanted)
        except OSError as error:
            await self._belongings.discard(WorkflowId(schedule_id))
            raise files_not_stored(error, self._paths.state_dir) from error

    async def why_not(self, schedule: Schedule) -> str:
        """See Starts."""
        before = None if schedule.last_job is None else await self._store.get(WorkflowId(schedule.last_job))
        if before is not None and not before.state.has_ended:
            return f"workflow {before.id} of the start before had not ended"
        return ""

    async def make(self, schedule: Schedule, due: datetime) -> Start:
        """See Starts. Raises WorkflowRefused, too."""
        try:
            wanted, paths = await asyncio.to_thread(_read, self._own(schedule.id))
        except (OSError, ValueError) as error:
            raise HostUnavailable(
                "what the schedule was made with cannot be read",
                reason="SCHEDULE_FILES_GONE",
                hint="remove the schedule, and run the file again",
            ) from error
        template = schedule.template
        caller = Identity(template.started_by, Role(template.role))
        accepted = await self._accept.accepted(wanted, caller, paths, template.pins)
        workflow = replace(
            accepted.workflow,
            state=WorkflowState.PENDING,
            scheduled_at=due,
            schedule_id=schedule.id,
        )
        await self._belongings.keep_copy(workflow.id, WorkflowId(schedule.id))
        await self._belongings.keep(workflow.id, None, accepted.secrets)
        return Start(workflow.id, workflow=NewWorkflow(workflow, accepted.text, accepted.members))

    async def take_back(self, start: Start) -> None:
        """See Starts."""
        await self._belongings.discard(WorkflowId(start.id))

    def begin(self, start: Start) -> None:
        """See Starts."""
        assert start.workflow is not None
        self._audit.write(start_of_workflow_by_timer(start.workflow.workflow))
        self._adopt(start.workflow)

    async def discard(self, schedule_id: ScheduleId) -> None:
        """See Starts."""
        await self._belongings.discard(WorkflowId(schedule_id))

    def _own(self, schedule_id: ScheduleId) -> WorkflowPaths:
        return self._paths.workflow(WorkflowId(schedule_id))


def template_of(accepted: Accepted) -> JobRecord:
    """Return what a schedule knows of the workflows that it starts."""
    workflow = accepted.workflow
    networks = {member.template.spec.network for member in accepted.members}
    spec = JobSpec(
        command="workflow",
        args=(workflow.file,) if workflow.file else (),
        name=workflow.name,
        network=BuiltIn.HOST.value if BuiltIn.HOST.value in networks else "",
        schedule=accepted.schedule,
    )
    templates = [member.template for member in accepted.members]
    return JobRecord(
        id=workflow.id,  # type: ignore[arg-type]  # the schedule's own takes its place
        spec=spec,
        state=JobState.SCHEDULED,
        created_at=workflow.created_at,
        started_by=workflow.started_by,
        role=workflow.role,
        token=workflow.token,
        pins={each.spec.runtime: each.runtime for each in templates if each.runtime is not None},
    )


def _write(own: WorkflowPaths, wanted: WantedWorkflow) -> None:
    own.home.mkdir(mode=0o700, exist_ok=True)
    write_private(own.wanted, json.dumps(asdict(wanted)).encode())


def _read(own: WorkflowPaths) -> tuple[WantedWorkflow, list[str]]:
    fields = json.loads(own.wanted.read_bytes())
    return WantedWorkflow(fields["text"], fields["name"], fields["file"]), entries(own.files)


def _nobody(_new: NewWorkflow) -> None:
    raise AssertionError("nobody drives workflows")
