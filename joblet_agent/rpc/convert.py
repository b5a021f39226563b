"""Proto messages to model values and back, without logic."""

from datetime import UTC, datetime, timedelta

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.ids import is_id_prefix
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import (
    Explanation,
    JobFilter,
    JobRecord,
    JobSpec,
    JobState,
    LogQuery,
    Outcome,
)
from joblet_agent.model.metrics import Usage
from joblet_agent.model.secrets import Secrets
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.limits import all_limit_fields, limit_fields, resources_from_proto, timeout_text
from joblet_agent.rpc.offered import refuse_options

DEFAULT_WORK_DIR = "/work"
HIDDEN = "***"
PID_ISOLATION = "namespace"
"""Every job has a PID namespace (units/joblet-launch)."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_ENDED = Outcome(JobState.RUNNING)


def spec_from_proto(request: pb.RunJobRequest) -> JobSpec:
    """Return what the request asks for. Raises NotOffered for options that would have to be ignored."""
    refuse_options(request)
    return JobSpec(
        command=request.command,
        args=tuple(request.args),
        name=request.name,
        environment=dict(request.environment),
        network=request.network,
        work_dir=request.work_dir,
        resources=resources_from_proto(request),
        work_size=request.work_size,
        profile=request.profile,
        schedule=request.schedule,
        skip_missed=request.skip_missed,
    )


def uploads_from_proto(request: pb.RunJobRequest) -> Uploads:
    """Return the files that come with the job."""
    files = tuple(
        NewFile(
            path=each.path,
            mode=each.mode,
            is_directory=each.is_directory,
            size=len(each.content),
            content=each.content,
        )
        for each in request.uploads
    )
    return Uploads(files=files, staged_id=request.upload_id)


def secrets_from_proto(request: pb.RunJobRequest) -> Secrets:
    """Return the secrets of the request."""
    return Secrets(dict(request.secret_environment), dict(request.secret_files))


def log_query_from_proto(request: pb.GetJobLogsRequest) -> LogQuery:
    """Return which part of the log is wanted."""
    tail_lines = {0: None, -1: 0}.get(request.tail_lines, request.tail_lines)
    return LogQuery(
        offset=request.offset,
        since=_EPOCH + timedelta(microseconds=request.since_time // 1000) if request.since_time else None,
        tail_lines=tail_lines,
        grep=request.grep,
        follow=not request.no_follow,
        timestamps=request.timestamps,
    )


def filter_from_proto(request: pb.QueryJobsRequest) -> JobFilter:
    """Return which jobs are wanted. Raises InvalidRequest for what no job can match."""
    prefix = request.uuid_prefix.lower()
    if prefix and not is_id_prefix(prefix):
        raise InvalidRequest(
            f"cannot list jobs: no job id begins with {quoted(prefix)}",
            reason="INVALID_JOB_ID",
            hint="ids are UUIDs; any number of their first characters will do",
        )
    return JobFilter(
        states=frozenset(_state(word) for word in request.states), id_prefix=prefix, name=request.name
    )


def _state(word: str) -> JobState:
    try:
        return JobState(word)
    except ValueError:
        raise InvalidRequest(
            f"cannot list jobs: {quoted(word)} is no state of a job",
            reason="UNKNOWN_STATE",
            hint="states are " + ", ".join(JobState),
        ) from None


def started_to_proto(record: JobRecord, *, queue_position: int) -> pb.RunJobResponse:
    """Return the answer to RunJob, with every field that earlier clients read."""
    return pb.RunJobResponse(
        job_uuid=record.id,
        status=record.state.value,
        command=record.spec.command,
        args=record.spec.args,
        start_time=rfc3339(record.started_at),
        end_time=rfc3339(record.ended_at),
        exit_code=published_exit_code(record),
        scheduled_time=rfc3339(record.scheduled_at),
        queue_position=queue_position,
        **limit_fields(record.spec.resources),
    )


def stopped_to_proto(record: JobRecord) -> pb.StopJobResponse:
    """Return the answer to StopJob."""
    outcome = record.outcome or _NOT_ENDED
    return pb.StopJobResponse(
        uuid=record.id,
        status=record.state.value,
        end_time=rfc3339(record.ended_at),
        exit_code=published_exit_code(record),
        reason=outcome.reason.value,
        signal=outcome.signal,
    )


def job_to_proto(record: JobRecord, *, queue_position: int) -> pb.Job:
    """Return one row of a list."""
    outcome = record.outcome or _NOT_ENDED
    return pb.Job(
        uuid=record.id,
        name=record.spec.name,
        command=record.spec.command,
        args=record.spec.args,
        status=record.state.value,
        start_time=rfc3339(record.started_at),
        end_time=rfc3339(record.ended_at),
        exit_code=published_exit_code(record),
        scheduled_time=rfc3339(record.scheduled_at),
        environment=record.spec.environment,
        secret_environment=dict.fromkeys(record.spec.secret_environment, HIDDEN),
        reason=outcome.reason.value,
        signal=outcome.signal,
        queue_position=queue_position,
        created_time=rfc3339(record.created_at, timespec="microseconds"),
        profile=record.spec.profile,
        schedule_uuid=record.schedule_id,
        max_tasks=record.spec.resources.max_tasks,
        timeout=timeout_text(record.spec.resources.timeout),
        **limit_fields(record.spec.resources),
        paused=record.paused,
    )


def status_to_proto(
    record: JobRecord,
    *,
    unit: str,
    log_size: int,
    queue_position: int,
    has_files: bool = False,
    work_bytes: int = 0,
) -> pb.GetJobStatusResponse:
    """Return the full record of one job."""
    outcome = record.outcome or _NOT_ENDED
    return pb.GetJobStatusResponse(
        uuid=record.id,
        name=record.spec.name,
        command=record.spec.command,
        args=record.spec.args,
        status=record.state.value,
        start_time=rfc3339(record.started_at),
        end_time=rfc3339(record.ended_at),
        exit_code=published_exit_code(record),
        scheduled_time=rfc3339(record.scheduled_at),
        environment=record.spec.environment,
        secret_environment=dict.fromkeys(record.spec.secret_environment, HIDDEN),
        network=record.spec.network,
        work_dir=record.spec.work_dir or DEFAULT_WORK_DIR,
        uploads=record.spec.uploads,
        work_size=record.spec.work_size,
        has_files=has_files,
        work_bytes=work_bytes,
        reason=outcome.reason.value,
        signal=outcome.signal,
        message=outcome.message,
        unit=unit,
        log_size=log_size,
        log_truncated=record.log_truncated,
        pid_isolation=PID_ISOLATION,
        queue_position=queue_position,
        created_time=rfc3339(record.created_at, timespec="microseconds"),
        main_pid=record.main_pid,
        started_by=record.started_by,
        profile=record.spec.profile,
        schedule_uuid=record.schedule_id,
        schedule=record.spec.schedule,
        secret_files=record.spec.secret_files,
        usage=usage_to_proto(record.usage),
        paused=record.paused,
        **all_limit_fields(record.spec.resources),
    )


def usage_to_proto(usage: Usage | None) -> pb.JobUsage | None:
    """Return the final figures; None stays None."""
    if usage is None:
        return None
    return pb.JobUsage(
        cpu_usec=usage.cpu_usec,
        memory_peak=usage.memory_peak,
        disk_read_bytes=usage.read_bytes,
        disk_write_bytes=usage.write_bytes,
        disk_read_ops=usage.read_ops,
        disk_write_ops=usage.write_ops,
        net_recv_bytes=usage.recv_bytes,
        net_sent_bytes=usage.sent_bytes,
        cpu_stalled_usec=usage.cpu_stalled_usec,
        memory_stalled_usec=usage.memory_stalled_usec,
        io_stalled_usec=usage.io_stalled_usec,
        partial=usage.is_partial,
    )


def explanation_to_proto(job_id: str, explanation: Explanation) -> pb.ExplainJobResponse:
    """Return the unit of a job, told to a person."""
    properties = [
        pb.UnitProperty(
            name=known.name, value=known.value, origin=known.origin, documentation=known.documentation
        )
        for known in explanation.properties
    ]
    return pb.ExplainJobResponse(
        uuid=job_id,
        unit=explanation.unit,
        properties=properties,
        systemd_run=explanation.systemd_run,
        notes=explanation.notes,
    )


def published_exit_code(record: JobRecord) -> int:
    """Return the exit status as published: -1 after a signal or when nothing ran, 0 before the end."""
    return published_code(record.outcome)


def published_code(outcome: Outcome | None) -> int:
    """Return the exit status as published of a job that ended so, or has not."""
    if outcome is None:
        return 0
    return -1 if outcome.signal else outcome.exit_code


def rfc3339(moment: datetime | None, *, timespec: str = "seconds") -> str:
    """Return the time in UTC with ``Z``; empty for none. What ``timespec`` leaves out is cut, not rounded."""
    if moment is None:
        return ""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=timespec) + "Z"
