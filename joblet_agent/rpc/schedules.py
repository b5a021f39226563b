"""Recurring schedules on the wire."""

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.when import read_when
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import WorkflowFilter
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import caller
from joblet_agent.rpc.convert import HIDDEN, job_to_proto, rfc3339
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.services import Jobs, Schedules, Workflows
from joblet_agent.rpc.visibility import owner
from joblet_agent.rpc.workflow_rows import workflow_to_proto

DEFAULT_JOBS = 10
MOST_JOBS = 1000


class ScheduleServicer:
    """The methods of AgentService that are about recurring schedules."""

    def __init__(self, jobs: Jobs, schedules: Schedules, workflows: Workflows) -> None:
        self._jobs = jobs
        self._schedules = schedules
        self._workflows = workflows

    async def ListSchedules(
        self, request: pb.ListSchedulesRequest, context: Context
    ) -> pb.ListSchedulesResponse:
        """Return all recurring schedules."""
        visible = (each for each in self._schedules.all() if owner() in {"", each.template.started_by})
        return pb.ListSchedulesResponse(schedules=map(schedule_to_proto, visible))

    async def GetSchedule(self, request: pb.GetScheduleRequest, context: Context) -> pb.GetScheduleResponse:
        """Return one recurring schedule and its newest jobs, or workflows."""
        most = _most_jobs(request.most_jobs)
        schedule = self._schedules.get(request.uuid)
        if schedule.is_of_workflows:
            return pb.GetScheduleResponse(
                schedule=schedule_to_proto(schedule), workflows=await self._started(schedule, most)
            )
        jobs = await self._schedules.jobs(schedule, most=most)
        return pb.GetScheduleResponse(
            schedule=schedule_to_proto(schedule),
            jobs=[
                job_to_proto(record, queue_position=self._jobs.queue_position(record.id)) for record in jobs
            ],
        )

    async def _started(self, schedule: Schedule, most: int) -> list[pb.WorkflowInfo]:
        every = await self._workflows.all(WorkflowFilter())
        own = [workflow for workflow in every if workflow.schedule_id == schedule.id]
        return [
            workflow_to_proto(workflow, slice_name=self._workflows.slice_name(workflow.id))
            for workflow in own[:most]
        ]

    async def RemoveSchedule(
        self, request: pb.RemoveScheduleRequest, context: Context
    ) -> pb.RemoveScheduleResponse:
        """Forget a recurring schedule."""
        return pb.RemoveScheduleResponse(uuid=await self._schedules.remove(request.uuid))

    async def PauseSchedule(
        self, request: pb.PauseScheduleRequest, context: Context
    ) -> pb.PauseScheduleResponse:
        """Let a recurring schedule start nothing."""
        return pb.PauseScheduleResponse(schedule=schedule_to_proto(await self._schedules.pause(request.uuid)))

    async def ResumeSchedule(
        self, request: pb.ResumeScheduleRequest, context: Context
    ) -> pb.ResumeScheduleResponse:
        """Let a recurring schedule go on."""
        return pb.ResumeScheduleResponse(
            schedule=schedule_to_proto(await self._schedules.resume(request.uuid, caller()))
        )


def is_recurring(schedule: str) -> bool:
    """Say whether the text is a calendar expression. Raises InvalidRequest for a time of no kind."""
    return bool(schedule) and isinstance(read_when(schedule), str)


def created_to_proto(schedule: Schedule) -> pb.RunJobResponse:
    """Return the answer to RunJob that made a schedule and no job."""
    return pb.RunJobResponse(
        status="SCHEDULED",
        command=schedule.spec.command,
        args=schedule.spec.args,
        scheduled_time=rfc3339(schedule.next_at),
        schedule_uuid=schedule.id,
    )


def schedule_to_proto(schedule: Schedule) -> pb.Schedule:
    """Return a schedule."""
    return pb.Schedule(
        uuid=schedule.id,
        name=schedule.spec.name,
        command=schedule.spec.command,
        args=schedule.spec.args,
        schedule=schedule.calendar,
        status=schedule.state.value,
        next_time=rfc3339(schedule.next_at),
        last_time=rfc3339(schedule.last_at),
        last_job_uuid="" if schedule.is_of_workflows else schedule.last_job or "",
        of_workflows=schedule.is_of_workflows,
        last_workflow_uuid=schedule.last_job or "" if schedule.is_of_workflows else "",
        skip_missed=schedule.spec.skip_missed,
        started_count=schedule.started,
        skipped_count=schedule.skipped,
        skipped_reason=schedule.skipped_reason,
        created_time=rfc3339(schedule.created_at, timespec="microseconds"),
        started_by=schedule.template.started_by,
        unit=f"joblet-schedule@{schedule.id}.timer",
        uploads=schedule.spec.uploads,
        secret_environment=dict.fromkeys(schedule.spec.secret_environment, HIDDEN),
        secret_files=schedule.spec.secret_files,
    )


def _most_jobs(wanted: int) -> int:
    if not 0 <= wanted <= MOST_JOBS:
        raise InvalidRequest(
            f"cannot show schedule: most_jobs must be from 0 to {MOST_JOBS}, not {wanted}",
            reason="BAD_PAGE_SIZE",
        )
    return wanted or DEFAULT_JOBS
