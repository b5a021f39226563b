"""Limits on the wire: MiB, texts and zeros to Resources and back, without decisions."""

from datetime import timedelta
from typing import Any

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.model.node import Node
from joblet_agent.model.resources import NOTHING, Resources
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.units import MIB, format_duration, parse_timeout


def resources_from_proto(request: pb.RunJobRequest) -> Resources:
    """Return the limits that a request asks for. Raises InvalidRequest for a time limit that is none."""
    return Resources(
        max_cpu=request.max_cpu,
        max_memory=request.max_memory * MIB,
        max_io_bps=request.max_io_bps,
        cpu_cores=request.cpu_cores,
        max_tasks=request.max_tasks,
        timeout=_timeout(request.timeout, "cannot run job"),
        nice=request.nice,
        cpu_weight=request.cpu_weight,
        io_weight=request.io_weight,
        work_size=request.work_size,
    )


def changes_from_proto(request: pb.UpdateJobRequest) -> dict[str, Any]:
    """Return the limits that a request changes, by field of Resources."""
    changes: dict[str, Any] = {
        field.name: value for field, value in request.ListFields() if field.name != "uuid"
    }
    if "max_memory" in changes:
        changes["max_memory"] *= MIB
    if "timeout" in changes:
        changes["timeout"] = _timeout(request.timeout, "cannot change job")
    return changes


def limit_fields(resources: Resources) -> dict[str, Any]:
    """Return the fields of a row and of a reply to a run."""
    return {
        "max_cpu": resources.max_cpu,
        "cpu_cores": resources.cpu_cores,
        "max_memory": resources.max_memory // MIB,
        "max_io_bps": resources.max_io_bps,
    }


def all_limit_fields(resources: Resources) -> dict[str, Any]:
    """Return the fields of a status and of Limits."""
    return {
        **limit_fields(resources),
        "max_tasks": resources.max_tasks,
        "timeout": timeout_text(resources.timeout),
        "nice": resources.nice,
        "cpu_weight": resources.cpu_weight,
        "io_weight": resources.io_weight,
        "work_size": resources.work_size,
    }


def timeout_text(timeout: timedelta) -> str:
    """Return the time limit as people write it; empty for none."""
    return format_duration(timeout) if timeout else ""


def node_to_proto(node: Node) -> pb.GetNodeResponse:
    """Return what a node has and allows."""
    return pb.GetNodeResponse(
        host_name=node.host_name,
        online_cpus=node.online_cpus,
        memory=node.memory,
        running_jobs=node.running_jobs,
        waiting_jobs=node.waiting_jobs,
        max_concurrent=node.max_concurrent,
        max_waiting=node.max_waiting,
        slice=node.slice,
        ceilings=[
            pb.UnitProperty(
                name=name,
                value=value,
                origin=f"drop-in of {node.slice}",
                documentation="systemd.resource-control(5)",
            )
            for name, value in node.ceilings.items()
        ],
        defaults=pb.Limits(**all_limit_fields(node.defaults)),
        maxima={role: pb.Limits(**all_limit_fields(most)) for role, most in node.maxima.items()},
        unenforced=node.unenforced,
        workspace_quotas=node.has_workspace_quotas,
    )


def _timeout(text: str, act: str) -> timedelta:
    if not text:
        return NOTHING.timeout
    try:
        return parse_timeout(text)
    except ValueError as error:
        raise InvalidRequest(
            f"{act}: cannot read --timeout={quoted(text)}: {error}", reason="BAD_LIMIT"
        ) from error
