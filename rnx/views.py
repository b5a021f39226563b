"""Jobs for the eye and for programs: wire messages to tables, texts and JSON objects.

The keys of the objects are an interface (the tables of the specification); our own come after the given ones
and only when they say something.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from rnx.limits import LIMIT_FIELDS, limit_data, limits_text
from rnx.output import Column, clean, status_word, table
from rnx.times import parse_wire, show_duration, show_time
from rnx.traffic import port_data, show_bandwidth, show_port

COMMAND_WIDTH = 80
_NOT_ENDED = frozenset({"PENDING", "RUNNING", "SCHEDULED", "INITIALIZING", "STOPPING"})


def list_data(job: Any) -> dict[str, object]:
    """Return one element of ``list --json``."""
    data: dict[str, object] = {
        "id": job.uuid,
        "name": job.name,
        "node_id": job.node_id,
        "status": job.status,
        "start_time": job.start_time,
        "end_time": job.end_time,
        "command": job.command,
        "args": list(job.args),
        "exit_code": job.exit_code,
        "max_cpu": job.max_cpu,
        "max_memory": job.max_memory,
        "max_iobps": job.max_io_bps,
        "cpu_cores": job.cpu_cores,
        "scheduled_time": job.scheduled_time,
        "timeout": job.timeout,
        "max_tasks": job.max_tasks,
        "reason": job.reason,
        "signal": job.signal,
        "queue_position": job.queue_position,
        "profile": job.profile,
        "created_time": job.created_time,
        "paused": job.paused,
        "schedule_uuid": job.schedule_uuid,
        "workflow_uuid": job.workflow_uuid,
    }
    always = ("id", "status", "start_time", "command")
    return {key: value for key, value in data.items() if value or key in always}


def list_table(jobs: Sequence[Any]) -> str:
    """Return the table of ``list``; no cell is empty, because scripts count words."""
    if not jobs:
        return "No jobs found"
    columns = (
        Column("ID", 38),
        Column("NAME", 25),
        Column("NODE ID", 38),
        Column("STATUS", paint=status_word),
        Column("START TIME"),
        Column("COMMAND"),
    )
    return table(columns, [_row(job) for job in jobs])


def _row(job: Any) -> list[str]:
    due = job.scheduled_time if job.status == "SCHEDULED" else job.start_time
    return [job.uuid, job.name, job.node_id, _state(job), show_time(due), _marked(job)]


def _marked(job: Any) -> str:
    """Return the command, behind the profile of a job that is kept apart otherwise than usual.

    No column of its own: scripts count those in front of the command.
    """
    command = short_command(job.command, job.args)
    return command if job.profile in ("", "default") else f"[{clean(job.profile)}] {command}"


def _state(job: Any) -> str:
    """Return the state first: scripts take one word."""
    return f"{job.status} (paused)" if job.paused else str(job.status)


def short_command(command: str, args: Sequence[str]) -> str:
    """Return the first line of a command, cut to the width of a table."""
    first, newline, _ = " ".join([command, *args]).partition("\n")
    shown = clean(first)
    if len(shown) > COMMAND_WIDTH:
        return shown[: COMMAND_WIDTH - 3] + "..."
    return shown + "..." if newline else shown


def status_data(status: Any) -> dict[str, object]:
    """Return the object of ``status --json``."""
    data: dict[str, object] = {
        "uuid": status.uuid,
        "name": status.name,
        "nodeId": status.node_id,
        "command": status.command,
        "args": list(status.args),
        "status": status.status,
        "startTime": status.start_time,
        "endTime": status.end_time,
        "exitCode": status.exit_code,
        "scheduledTime": status.scheduled_time,
        "environment": dict(status.environment),
        "secretEnvironment": dict(status.secret_environment),
        "network": status.network,
        "volumes": list(status.volumes),
        "runtime": status.runtime,
        "workDir": status.work_dir,
        "uploads": list(status.uploads),
        "dependencies": list(status.dependencies),
        "workflowUuid": status.workflow_uuid,
    }
    data |= {key: value for key, value in _when_set(status).items() if value}
    if status.HasField("usage"):
        from rnx.usage import usage_data  # noqa: PLC0415 - it needs this module

        data["usage"] = usage_data(status.usage)
    if status.HasField("metrics"):
        from rnx.usage import use_data  # noqa: PLC0415 - it needs this module

        data["metrics"] = use_data(status.metrics)
    return data


def _when_set(status: Any) -> dict[str, object]:
    return {
        **limit_data({name: getattr(status, name) for name in LIMIT_FIELDS}),
        "reason": status.reason,
        "signal": status.signal,
        "message": status.message,
        "unit": status.unit,
        "logSize": status.log_size,
        "logTruncated": status.log_truncated,
        "pidIsolation": status.pid_isolation,
        "queuePosition": status.queue_position,
        "createdTime": status.created_time,
        "mainPid": status.main_pid,
        "startedBy": status.started_by,
        "profile": status.profile,
        "workInMemory": status.work_in_memory,
        "hasFiles": status.has_files,
        "workBytes": status.work_bytes,
        "paused": status.paused,
        "scheduleUuid": status.schedule_uuid,
        "schedule": status.schedule,
        "secretFiles": list(status.secret_files),
        "addresses": list(status.addresses),
        "bandwidth": status.bandwidth,
        "ports": [_port_data(port) for port in status.ports],
        "pinnedRuntime": pinned_runtime_data(status.pinned_runtime),
    }


def pinned_runtime_data(runtime: Any) -> dict[str, object]:
    """Return which runtime a job has; empty if it has none."""
    if not runtime.digest:
        return {}
    return {"name": runtime.name, "version": runtime.version, "digest": runtime.digest}


def _port_data(port: Any) -> dict[str, object]:
    keys = {"host_port": "hostPort", "job_port": "jobPort"}
    return {keys.get(key, key): value for key, value in port_data(port).items()}


def status_text(status: Any, now: datetime | None = None) -> str:
    """Return the text of ``status``: sections with a title, each only when it has content."""
    now = now or datetime.now(UTC)
    sections = {
        "": _head(status),
        "Scheduling Information:": _schedule(status, now),
        "Timing:": _timing(status, now),
        "Resource Limits:": _limits(status),
        "Runtime Environment:": _runtime(status),
        "Network Configuration:": _network(status),
        "Volumes:": [f"- {clean(name)}" for name in status.volumes],
        "Working Directory:": _work(status),
        "Uploaded Files:": [f"- {clean(path)}" for path in status.uploads],
        "Workflow Information:": _workflow(status),
        "Environment Variables:": _environment(status),
        "Resource Usage:": _usage(status),
        "Secret Files:": [f"- {clean(name)}" for name in status.secret_files],
        "Host:": _fields({"Unit": status.unit, "Main PID": status.main_pid, "Profile": status.profile}),
        "Output:": _output(status),
        "Result:": _result(status),
        "Available Actions:": _actions(status),
    }
    blocks = [
        "\n".join([title, *(f"  {line}" for line in lines)] if title else lines)
        for title, lines in sections.items()
        if lines
    ]
    return "\n\n".join(blocks)


def _fields(fields: Mapping[str, object]) -> list[str]:
    return [f"{name}: {clean(str(value))}" for name, value in fields.items() if value]


def _head(status: Any) -> list[str]:
    identity = {"Job ID": status.uuid, "Job Name": status.name, "Node ID": status.node_id}
    command = " ".join([status.command, *status.args])
    lines = [*_fields(identity), *_fields({"Command": command}), f"Status: {status_word(_state(status))}"]
    if status.queue_position:
        lines.append(f"Queue Position: {status.queue_position}")
    return lines


def _network(status: Any) -> list[str]:
    return _fields(
        {
            "Network": status.network,
            "Addresses": ", ".join(status.addresses),
            "Published Ports": ", ".join(show_port(port) for port in status.ports),
            "Bandwidth": status.bandwidth and f"{show_bandwidth(status.bandwidth)} each way",
        }
    )


def _runtime(status: Any) -> list[str]:
    pinned = status.pinned_runtime
    return _fields(
        {
            "Runtime": status.runtime,
            "Version": pinned.name and f"{pinned.name}@{pinned.version}",
            "Digest": pinned.digest and f"sha256:{pinned.digest}",
        }
    )


def _schedule(status: Any, now: datetime) -> list[str]:
    due = parse_wire(status.scheduled_time)
    if due is None:
        return []
    lines = [f"Scheduled Time: {show_time(status.scheduled_time, zone=True)}"]
    if status.status == "SCHEDULED":
        lines.append(f"Time Until Execution: {show_duration(due - now)}")
    return [*lines, *_fields({"Schedule": status.schedule_uuid, "Schedule Input": status.schedule})]


def _timing(status: Any, now: datetime) -> list[str]:
    start, end = parse_wire(status.start_time), parse_wire(status.end_time)
    lines = [f"Created: {show_time(status.start_time, empty='Not available', zone=True)}"]
    if end is not None:
        lines.append(f"Ended: {show_time(status.end_time, zone=True)}")
    if start is not None and (end is not None or status.status == "RUNNING"):
        name = "Duration" if end else "Running For"
        lines.append(f"{name}: {show_duration(max((end or now) - start, timedelta(0)))}")
    return lines


def _limits(status: Any) -> list[str]:
    indices = ", ".join(str(index) for index in status.gpu_indices)
    gpus = f"{len(status.gpu_indices)} allocated (indices: {indices})" if indices else ""
    limits = {name: getattr(status, name) for name in LIMIT_FIELDS}
    return [
        *map(clean, limits_text(limits)),
        *_fields(
            {
                "GPUs": gpus or (status.gpu_count and f"{status.gpu_count} requested"),
                "GPU Memory": status.gpu_memory_mb and f"{status.gpu_memory_mb} MB",
            }
        ),
    ]


def _workflow(status: Any) -> list[str]:
    dependencies = [f"- {clean(name)}" for name in status.dependencies]
    return [
        *_fields({"Workflow UUID": status.workflow_uuid}),
        *(["Dependencies:", *dependencies] if dependencies else []),
    ]


def _environment(status: Any) -> list[str]:
    plain = [f"{clean(name)}={clean(value)}" for name, value in sorted(status.environment.items())]
    return plain + [f"{clean(name)}=*** (secret)" for name in sorted(status.secret_environment)]


def _output(status: Any) -> list[str]:
    cut = ["Cut: yes, it was larger than the agent's limit"] if status.log_truncated else []
    return [*_fields({"Bytes": status.log_size}), *cut]


def _usage(status: Any) -> list[str]:
    if not status.HasField("usage") and not status.HasField("metrics"):
        return []
    from rnx.usage import usage_lines, use_lines  # noqa: PLC0415 - they need this module

    return usage_lines(status.usage) if status.HasField("usage") else use_lines(status.metrics)


def _result(status: Any) -> list[str]:
    if status.status in _NOT_ENDED:
        return []
    words = {"Signal": status.signal, "Reason": status.reason, "Message": status.message}
    return [f"Exit Code: {status.exit_code}", *_fields(words)]


def _work(status: Any) -> list[str]:
    kept = f"{status.work_bytes} bytes" if status.work_bytes else "yes"
    return _fields(
        {
            "Work Dir": status.work_dir,
            "Kept In": "memory; its files are gone when the job ends" if status.work_in_memory else "",
            "Kept Files": kept if status.has_files and status.status not in _NOT_ENDED else "",
        }
    )


def _actions(status: Any) -> list[str]:
    log = f"rnx job log {status.uuid}"
    if status.status in ("SCHEDULED", "PENDING"):
        return [f"rnx job cancel {status.uuid}"]
    if status.status in _NOT_ENDED:
        resume = [f"rnx job resume {status.uuid}"] if status.paused else []
        return [log, *resume, f"rnx job stop {status.uuid}"]
    files = [f"rnx job files {status.uuid}"] if status.has_files else []
    return [log, *files, f"rnx job delete {status.uuid}"]
