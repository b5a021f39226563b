"""Proto messages to model values and back, without logic."""

from collections.abc import Iterable
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
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.secrets import Secrets
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.limits import all_limit_fields, limit_fields, resources_from_proto, timeout_text
from joblet_agent.rpc.offered import refuse_options
from joblet_agent.rpc.ports import addresses_to_proto, bandwidth_from_proto, port_from_proto, port_to_proto
from joblet_agent.volumes.check import parse_mounts

DEFAULT_WORK_DIR = "/work"
HIDDEN = "***"
PID_ISOLATION = "namespace"
"""Every job has a PID namespace (units/joblet-launch)."""

_ID_LENGTH = 36
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
        bandwidth=bandwidth_from_proto(request.bandwidth, "cannot run job"),
        ports=tuple(map(port_from_proto, request.ports)),
        work_dir=request.work_dir,
        resources=resources_from_proto(request),
        profile=request.profile,
        schedule=request.schedule,
        skip_missed=request.skip_missed,
        volumes=parse_mounts(request.volumes),
        runtime=request.runtime,
        gpus=request.gpu_count,
    )


def uploads_from_proto(sent: Iterable[pb.FileUpload], upload_id: str) -> Uploads:
    """Return the files that come with a request, or came before it."""
    files = tuple(
        NewFile(
            path=each.path,
            mode=each.mode,
            is_directory=each.is_directory,
            size=len(each.content),
            content=each.content,
        )
        for each in sent
    )
    return Uploads(files=files, staged_id=upload_id)


def secrets_from_proto(request: pb.RunJobRequest) -> Secrets:
    """Return the secrets of the request."""
    return Secrets(dict(request.secret_environment), dict(request.secret_files))


def log_query_from_proto(request: pb.GetJobLogsRequest) -> LogQuery:
    """Return which part of the log is wanted."""
    tail_lines = {0: None, -1: 0}.get(request.tail_lines, request.tail_lines)
    return LogQuery(
        offset=request.offset,
        since=_since(request.since_time),
        tail_lines=tail_lines,
        grep=request.grep,
        follow=not request.no_follow,
        timestamps=request.timestamps,
    )


def filter_from_proto(request: pb.QueryJobsRequest) -> JobFilter:
    """Return which jobs are wanted. Raises InvalidRequest for what no job can match."""
    return JobFilter(
        states=frozenset(_state(word) for word in request.states),
        id_prefix=_id_prefix(request.uuid_prefix, "job"),
        name=request.name,
        schedule_prefix=_id_prefix(request.schedule_uuid_prefix, "schedule"),
        created_since=_since(request.created_since),
        workflow_id=_whole_id(request.workflow_uuid, "workflow"),
    )


def _id_prefix(given: str, noun: str) -> str:
    prefix = given.lower()
    if prefix and not is_id_prefix(prefix):
        raise InvalidRequest(
            f"cannot list jobs: no {noun} id begins with {quoted(prefix)}",
            reason=f"INVALID_{noun.upper()}_ID",
            hint="ids are UUIDs; any number of their first characters will do",
        )
    return prefix


def _whole_id(given: str, noun: str) -> str:
    whole = _id_prefix(given, noun)
    if whole and len(whole) < _ID_LENGTH:
        raise InvalidRequest(
            f"cannot list jobs: {quoted(given)} is no {noun} id, but the beginning of one",
            reason=f"INVALID_{noun.upper()}_ID",
            hint=f"here the id of a {noun} must be whole",
        )
    return whole


def _since(unix_ns: int) -> datetime | None:
    """Return the time; one before 1970 is before everything."""
    return _EPOCH + timedelta(microseconds=unix_ns // 1000) if unix_ns > 0 else None


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
        workflow_uuid=record.workflow_id,
        dependencies=record.dependencies,
        runtime=record.spec.runtime,
        pinned_runtime=runtime_to_proto(record.runtime),
        gpu_count=record.spec.gpus,
        gpu_indices=record.gpus.indices if record.gpus else (),
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
    metrics: pb.JobMetricsEvent | None = None,
    trouble: str = "",
) -> pb.GetJobStatusResponse:
    """Return the full record of one job; ``trouble`` is what is wrong with one that goes on all the same."""
    outcome = record.outcome or Outcome(JobState.RUNNING, message=trouble)
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
        addresses=addresses_to_proto(record.attachment),
        bandwidth=record.spec.bandwidth,
        ports=map(port_to_proto, record.spec.ports),
        volumes=map(str, record.spec.volumes),
        runtime=record.spec.runtime,
        pinned_runtime=runtime_to_proto(record.runtime),
        gpu_count=record.spec.gpus,
        gpu_indices=record.gpus.indices if record.gpus else (),
        work_dir=record.spec.work_dir or DEFAULT_WORK_DIR,
        uploads=record.spec.uploads,
        work_in_memory=record.spec.work_in_memory,
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
        workflow_uuid=record.workflow_id,
        dependencies=record.dependencies,
        schedule=record.spec.schedule,
        secret_files=record.spec.secret_files,
        usage=usage_to_proto(record),
        metrics=metrics,
        paused=record.paused,
        **all_limit_fields(record.spec.resources),
    )


def runtime_to_proto(runtime: PinnedRuntime | None) -> pb.JobRuntime | None:
    """Return which runtime a job has; None if it has none."""
    if runtime is None:
        return None
    return pb.JobRuntime(name=runtime.name, version=runtime.version, digest=runtime.digest)


def usage_to_proto(record: JobRecord) -> pb.JobUsage | None:
    """Return the final figures; None if there are none."""
    usage = record.usage
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
        net_uncounted=record.spec.network == BuiltIn.HOST,
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
