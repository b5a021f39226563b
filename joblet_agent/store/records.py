"""A job record as a row and back. Pure.

Of a record, what queries ask for is in columns; the rest is one compact JSON object whose keys are the
field names of model/job.py and which leaves out what has its default. So a record of an older agent gets
the defaults of fields that came later, and what a newer one added stays in the record (fields.py). Whoever
gives a key another meaning, or adds a state or a transport, adds a migration that is needed (versions.py).

Version 0.1.0 still drops keys that it does not know: workflow_id, which must survive it, is a column alone.
"""

from dataclasses import asdict, replace
from datetime import timedelta
from ipaddress import IPv4Address, IPv6Address

from joblet_agent.model.gpu import GpuNode, HeldGpus
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, Token
from joblet_agent.model.metrics import FIGURES, Usage
from joblet_agent.model.network import Attachment, PublishedPort, Transport
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.volume import HeldVolume, VolumeMount
from joblet_agent.store.fields import (
    BrokenRecord,
    Fields,
    from_json,
    put_back,
    time_of,
    to_json,
    usec_of,
    without_nothing,
)

Row = tuple[str, str, str, str, str, str, int, int | None, bytes]
"""id, state, name, schedule_id, workflow_id, submission, created_usec, ended_usec, record."""

_MICROSECOND = timedelta(microseconds=1)


def row_of(record: JobRecord) -> Row:
    """Return the record's row."""
    ended = record.ended_at or record.created_at if record.has_ended else None
    return (
        record.id,
        record.state.value,
        record.spec.name,
        record.schedule_id,
        record.workflow_id,
        submission_of(record.started_by, record.token.text) if record.token else "",
        usec_of(record.created_at),
        None if ended is None else usec_of(ended),
        json_of(record),
    )


def submission_of(caller: str, token: str) -> str:
    """Return what no two jobs have in common. A token is one line, whatever a caller's name is."""
    return f"{token}\n{caller}"


def json_of(record: JobRecord) -> bytes:
    """Return what of the record is in no column."""
    fields = _record_fields(record)
    if record.unknown:
        fields.setdefault("resources", {})  # left out where all of it has its default
        put_back(fields, record.unknown)
    return to_json(fields)


def record_of(
    job_id: str, state: str, name: str, created_usec: int, record: bytes, workflow_id: str = ""
) -> JobRecord:
    """Return the record that a row holds; raise BrokenRecord if it holds none."""
    try:
        stored = Fields(from_json(record))
        spec = _spec(stored, name)
        made = JobRecord(
            id=JobId(job_id),
            spec=spec,
            state=JobState(state),
            created_at=time_of(created_usec),
            started_by=stored.take("started_by", str, ""),
            role=stored.take("role", str, ""),
            uid=stored.take("uid", int, 0),
            boot_id=stored.take("boot_id", str, ""),
            invocation_id=stored.take("invocation_id", str, ""),
            started_at=stored.time("started_at"),
            ended_at=stored.time("ended_at"),
            outcome=_outcome(stored),
            stop_requested=stored.take("stop_requested", bool, False),
            main_pid=stored.take("main_pid", int, 0),
            log_truncated=stored.take("log_truncated", bool, False),
            journal_offset=stored.take("journal_offset", int, 0),
            scheduled_at=stored.time("scheduled_at"),
            schedule_id=stored.take("schedule_id", str, ""),
            workflow_id=workflow_id,
            dependencies=stored.texts("dependencies"),
            usage=_usage(stored),
            unapplied_limits=stored.texts("unapplied_limits"),
            token=token_of(stored),
            attachment=_attachment(stored, JobId(job_id), spec),
            volumes=tuple(_held(each) for each in stored.inners("volumes")),
            runtime=_pinned(stored),
            pins=_pins(stored),
            gpus=_held_gpus(stored),
        )
        unknown = stored.unknown()
        return replace(made, unknown=unknown) if unknown else made
    # json and Enum raise ValueError; times out of range OverflowError; deep nesting RecursionError.
    except (ValueError, OverflowError, RecursionError) as error:
        raise BrokenRecord(str(error)) from error


def _record_fields(record: JobRecord) -> dict[str, object]:
    spec = record.spec
    times = {
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "scheduled_at": record.scheduled_at,
    }
    return {
        **{key: usec_of(time) for key, time in times.items() if time is not None},
        **without_nothing(
            command=spec.command,
            args=spec.args,
            environment=dict(spec.environment),
            network=spec.network,
            bandwidth=spec.bandwidth,
            ports=[_port_fields(port) for port in spec.ports],
            work_dir=spec.work_dir,
            work_in_memory=spec.work_in_memory,
            uploads=spec.uploads,
            profile=spec.profile,
            schedule=spec.schedule,
            skip_missed=spec.skip_missed,
            resources=_resource_fields(spec.resources),
            secret_environment=spec.secret_environment,
            secret_files=spec.secret_files,
            mounts=[
                without_nothing(volume=each.volume, target=each.target, is_read_only=each.is_read_only)
                for each in spec.volumes
            ],
            volumes=[
                without_nothing(volume=each.volume, number=each.number, is_device=each.is_device)
                for each in record.volumes
            ],
            runtime=spec.runtime,
            pinned_runtime=_pinned_fields(record.runtime) if record.runtime else None,
            pins=[{"asked": asked, **_pinned_fields(each)} for asked, each in record.pins.items()],
            gpus=spec.gpus,
            held_gpus=_gpu_fields(record.gpus) if record.gpus else None,
            started_by=record.started_by,
            role=record.role,
            uid=record.uid,
            boot_id=record.boot_id,
            invocation_id=record.invocation_id,
            outcome=_outcome_fields(record.outcome) if record.outcome else None,
            stop_requested=record.stop_requested,
            main_pid=record.main_pid,
            log_truncated=record.log_truncated,
            journal_offset=record.journal_offset,
            schedule_id=record.schedule_id,
            dependencies=record.dependencies,
            unapplied_limits=record.unapplied_limits,
            token=token_fields(record.token),
            attachment=_attachment_fields(record.attachment) if record.attachment else None,
        ),
        **({} if record.usage is None else {"usage": without_nothing(**asdict(record.usage))}),
    }


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    return without_nothing(
        state=outcome.state.value,
        reason=outcome.reason.value,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=outcome.message,
    )


def _resource_fields(resources: Resources) -> dict[str, object]:
    return without_nothing(
        max_cpu=resources.max_cpu,
        max_memory=resources.max_memory,
        max_io_bps=resources.max_io_bps,
        cpu_cores=resources.cpu_cores,
        max_tasks=resources.max_tasks,
        timeout_usec=resources.timeout // _MICROSECOND,
        nice=resources.nice,
        cpu_weight=resources.cpu_weight,
        io_weight=resources.io_weight,
        work_size=resources.work_size,
    )


def _attachment_fields(attachment: Attachment) -> dict[str, object]:
    """Return what is not in the record already: the spec has its limit and its ports."""
    return {
        "network": attachment.network,
        "address4": str(attachment.address4),
        "address6": str(attachment.address6),
    }


def _port_fields(port: PublishedPort) -> dict[str, object]:
    return without_nothing(
        host_port=port.host_port,
        job_port=port.job_port,
        transport=port.transport.value,
        address=port.address,
    )


def _spec(stored: Fields, name: str) -> JobSpec:
    return JobSpec(
        command=stored.take("command", str, ""),
        args=stored.texts("args"),
        name=name,
        environment=stored.text_by_text("environment"),
        network=stored.take("network", str, ""),
        bandwidth=stored.take("bandwidth", int, 0),
        ports=tuple(_port(fields) for fields in stored.inners("ports")),
        work_dir=stored.take("work_dir", str, ""),
        # Before there were project quotas, a size meant memory; it was not with the other limits then.
        work_in_memory=stored.take("work_in_memory", bool, stored.take("work_size", int, 0) > 0),
        uploads=stored.texts("uploads"),
        profile=stored.take("profile", str, ""),
        schedule=stored.take("schedule", str, ""),
        skip_missed=stored.take("skip_missed", bool, False),
        resources=_resources(stored),
        secret_environment=stored.texts("secret_environment"),
        secret_files=stored.texts("secret_files"),
        volumes=tuple(_mount(each) for each in stored.inners("mounts")),
        runtime=stored.take("runtime", str, ""),
        gpus=stored.take("gpus", int, 0),
    )


def _mount(stored: Fields) -> VolumeMount:
    return VolumeMount(
        stored.take("volume", str, ""),
        stored.take("target", str, ""),
        stored.take("is_read_only", bool, False),
    )


def _held(stored: Fields) -> HeldVolume:
    return HeldVolume(
        stored.take("volume", str, ""), stored.take("number", int, 0), stored.take("is_device", bool, False)
    )


def _pinned_fields(runtime: PinnedRuntime) -> dict[str, object]:
    identity = {"name": runtime.name, "version": runtime.version, "digest": runtime.digest}
    return {**identity, **without_nothing(environment=dict(runtime.environment))}


def _pinned(stored: Fields) -> PinnedRuntime | None:
    runtime = stored.inner("pinned_runtime")
    return None if runtime is None else _pin(runtime)


def _pins(stored: Fields) -> dict[str, PinnedRuntime]:
    return {each.take("asked", str, ""): _pin(each) for each in stored.inners("pins")}


def _pin(runtime: Fields) -> PinnedRuntime:
    return PinnedRuntime(
        name=runtime.take("name", str, ""),
        version=runtime.take("version", str, ""),
        digest=runtime.take("digest", str, ""),
        environment=runtime.text_by_text("environment"),
    )


def _gpu_fields(gpus: HeldGpus) -> dict[str, object]:
    return without_nothing(
        indices=list(map(str, gpus.indices)),
        nodes=[{"host": node.host, "target": node.target} for node in gpus.nodes],
        libraries=[{"host": host, "name": name} for host, name in gpus.libraries],
    )


def _held_gpus(stored: Fields) -> HeldGpus | None:
    gpus = stored.inner("held_gpus")
    if gpus is None:
        return None
    return HeldGpus(
        indices=tuple(map(int, gpus.texts("indices"))),
        nodes=tuple(
            GpuNode(each.take("host", str, ""), each.take("target", str, "")) for each in gpus.inners("nodes")
        ),
        libraries=tuple(
            (each.take("host", str, ""), each.take("name", str, "")) for each in gpus.inners("libraries")
        ),
    )


def _resources(stored: Fields) -> Resources:
    work_size = stored.take("work_size", int, 0)
    limits = stored.inner("resources")
    if limits is None:
        return replace(NOTHING, work_size=work_size)
    return Resources(
        max_cpu=limits.take("max_cpu", int, 0),
        max_memory=limits.take("max_memory", int, 0),
        max_io_bps=limits.take("max_io_bps", int, 0),
        cpu_cores=limits.take("cpu_cores", str, ""),
        max_tasks=limits.take("max_tasks", int, 0),
        timeout=limits.take("timeout_usec", int, 0) * _MICROSECOND,
        nice=limits.take("nice", int, 0),
        cpu_weight=limits.take("cpu_weight", int, 0),
        io_weight=limits.take("io_weight", int, 0),
        work_size=limits.take("work_size", int, work_size),
    )


def _outcome(stored: Fields) -> Outcome | None:
    outcome = stored.inner("outcome")
    if outcome is None:
        return None
    return Outcome(
        state=JobState(outcome.take("state", str, "")),
        reason=outcome.word("reason", Reason.NONE),
        exit_code=outcome.take("exit_code", int, 0),
        signal=outcome.take("signal", int, 0),
        message=outcome.take("message", str, ""),
    )


def _usage(stored: Fields) -> Usage | None:
    usage = stored.inner("usage")
    if usage is None:
        return None
    figures = {name: usage.take(name, int, 0) for name in FIGURES}
    return Usage(**figures, is_partial=usage.take("is_partial", bool, False))


def token_fields(token: Token | None) -> dict[str, object] | None:
    """Return what is stored of it."""
    return None if token is None else {"text": token.text, "digest": token.digest}


def token_of(stored: Fields) -> Token | None:
    """Return what is stored as ``token``."""
    token = stored.inner("token")
    return Token(token.take("text", str, ""), token.take("digest", str, "")) if token else None


def _port(stored: Fields) -> PublishedPort:
    return PublishedPort(
        host_port=stored.take("host_port", int, 0),
        job_port=stored.take("job_port", int, 0),
        transport=Transport(stored.take("transport", str, "")),
        address=stored.take("address", str, ""),
    )


def _attachment(stored: Fields, job_id: JobId, spec: JobSpec) -> Attachment | None:
    attachment = stored.inner("attachment")
    if attachment is None:
        return None
    return Attachment(
        job_id=job_id,
        network=attachment.take("network", str, ""),
        address4=IPv4Address(attachment.take("address4", str, "")),
        address6=IPv6Address(attachment.take("address6", str, "")),
        bandwidth=spec.bandwidth,
        ports=spec.ports,
    )
