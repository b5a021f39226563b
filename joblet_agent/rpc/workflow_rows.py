"""Workflow values to proto messages, without decisions."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord, JobState
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import Change, Member, MemberState, Workflow, WorkflowState
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import explanation_to_proto, published_exit_code, rfc3339
from joblet_agent.rpc.long_answer import PAGE
from joblet_agent.workflow_file.expression import jobs_of, to_text
from joblet_agent.workflows.wanted import Planned
from joblet_agent.yaml_file.problems import MOST_PROBLEMS, Problem

NO_JOB = "0"
"""Id of the job of a member that has had none yet, as published."""
STARTED = "STARTED"
MOST_BYTES = 1_000_000
"""Of one message of a watch: clients take 4 MiB unless they say otherwise (gRPC's default)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND, _MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)

JobOf = Callable[[JobId], Awaitable[JobRecord | None]]
"""Finds the record of a job; None for one in the queue."""


def accepted_to_proto(made: Workflow | Schedule) -> pb.RunWorkflowResponse:
    """Return the answer to RunWorkflow."""
    if isinstance(made, Schedule):
        return pb.RunWorkflowResponse(
            status=WorkflowState.SCHEDULED.value, scheduled_time=rfc3339(made.next_at), schedule_uuid=made.id
        )
    waits = made.state is WorkflowState.SCHEDULED
    return pb.RunWorkflowResponse(
        workflow_uuid=made.id,
        status=made.state.value if waits else STARTED,
        total_jobs=made.counts.total,
        scheduled_time=rfc3339(made.scheduled_at) if waits else "",
    )


def workflow_to_proto(workflow: Workflow, *, slice_name: str, text: str = "") -> pb.WorkflowInfo:
    """Return the summary; with the ``text`` of its file where that was asked for."""
    counts = workflow.counts
    return pb.WorkflowInfo(
        uuid=workflow.id,
        status=workflow.state.value,
        total_jobs=counts.total,
        completed_jobs=counts.completed,
        failed_jobs=counts.failed,
        canceled_jobs=counts.canceled,
        running_jobs=counts.active,
        stopped_jobs=counts.stopped,
        skipped_jobs=counts.skipped,
        created_at=_timestamp(workflow.created_at),
        started_at=_timestamp(workflow.started_at),
        completed_at=_timestamp(workflow.ended_at),
        yaml_content=text,
        workflow=workflow.file,
        name=workflow.name,
        description=workflow.description,
        paused=workflow.is_paused,
        ending=workflow.wish.value,
        started_by=workflow.started_by,
        slice=slice_name,
        scheduled_time=rfc3339(workflow.scheduled_at),
        schedule_uuid=workflow.schedule_id,
    )


async def member_to_proto(member: Member, job_of: JobOf) -> pb.WorkflowJob:
    """Return one job of a workflow."""
    plan, progress = member.plan, member.progress
    how = _How(progress.state.value)
    if progress.state is MemberState.ACTIVE:
        how = _active(await job_of(progress.job_id) if progress.job_id else None)
    elif progress.state.end is not None:
        how = _How(progress.state.value, progress.started_at, progress.ended_at, progress.exit_code)
    return pb.WorkflowJob(
        job_uuid=progress.job_id or NO_JOB,
        job_name=plan.name,
        status=how.status,
        dependencies=dict.fromkeys(jobs_of(plan.requires)),
        start_time=_timestamp(how.started_at),
        end_time=_timestamp(how.ended_at),
        exit_code=how.exit_code,
        tries=progress.tries,
        most_tries=plan.retries.count + 1,
        next_try=_timestamp(progress.not_before if progress.state is MemberState.WAITING else None),
        group=plan.group if plan.group != plan.name else "",
        requires=to_text(plan.requires),
        message=progress.message,
        outputs=progress.outputs,
    )


class _How(NamedTuple):
    """How it stands."""

    status: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int = 0


def _active(record: JobRecord | None) -> _How:
    """Return what the job says; it may have ended, and its workflow be about to take note."""
    if record is None:
        return _How(JobState.PENDING.value)
    return _How(record.state.value, record.started_at, record.ended_at, published_exit_code(record))


async def change_to_proto(
    change: Change, *, slice_name: str, job_of: JobOf
) -> AsyncGenerator[pb.WatchWorkflowResponse, None]:
    """Yield the messages that tell of the change, none of them long; the first has the workflow."""
    reply = pb.WatchWorkflowResponse(workflow=workflow_to_proto(change.workflow, slice_name=slice_name))
    size = 0
    for member in change.members:
        row = await member_to_proto(member, job_of)
        size += row.ByteSize()
        if reply.jobs and (len(reply.jobs) == PAGE or size > MOST_BYTES):
            yield reply
            reply, size = pb.WatchWorkflowResponse(), row.ByteSize()
        reply.jobs.append(row)
    yield reply


def problems_to_proto(problems: Sequence[Problem]) -> list[pb.WorkflowProblem]:
    """Return what is wrong with a workflow, by its place; beyond the first hundred their number."""
    rows = [
        pb.WorkflowProblem(line=each.mark.line, column=each.mark.column, key=each.key, message=each.text)
        for each in problems[:MOST_PROBLEMS]
    ]
    more = len(problems) - MOST_PROBLEMS
    return [*rows, *([pb.WorkflowProblem(message=f"and {more} more")] if more > 0 else [])]


def planned_to_proto(planned: Planned, *, slice_name: str) -> pb.PlannedJob:
    """Return a job of a workflow that was checked."""
    return pb.PlannedJob(
        name=planned.name,
        step=planned.step,
        requires=planned.requires,
        slice=slice_name,
        explain=explanation_to_proto("", planned.explanation) if planned.explanation else None,
    )


def _timestamp(moment: datetime | None) -> pb.Timestamp | None:
    if moment is None:
        return None
    seconds, rest = divmod(moment - _EPOCH, _SECOND)
    return pb.Timestamp(seconds=seconds, nanos=rest // _MICROSECOND * 1000)
