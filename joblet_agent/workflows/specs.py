"""From a job of a workflow file to what a job is asked to be, as a whole and each of its keys alone. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from joblet_agent.model.job import JobSpec
from joblet_agent.model.network import BuiltIn
from joblet_agent.model.resources import Resources
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.units import MIB, parse_timeout
from joblet_agent.volumes.check import parse_mounts
from joblet_agent.workflow_file import Mark, WorkflowJob
from joblet_agent.workflow_file.outputs import with_outputs

PLAIN = JobSpec("true", network=BuiltIn.NONE)
"""A job that asks for nothing."""


def spec_of(job: WorkflowJob) -> JobSpec:
    """Return what the job is asked to be. Raises InvalidRequest for volumes that are none."""
    return JobSpec(
        command=job.command,
        args=job.args,
        name=job.name,
        environment=job.environment,
        network=job.network,
        work_dir=job.workdir,
        resources=_resources(job),
        gpus=int(job.limits.get("gpu_count", 0)),
        volumes=parse_mounts(job.volumes) if job.volumes else (),
        runtime=job.runtime,
    )


def secrets_of(job: WorkflowJob) -> Secrets:
    """Return the job's secrets."""
    if not job.secret_environment:
        return NO_SECRETS
    # The reader has refused outputs in them; what looks so is text.
    return Secrets({name: with_outputs(text, str) for name, text in job.secret_environment.items()})


def parts_of(job: WorkflowJob) -> Iterator[tuple[str, WorkflowJob]]:
    """Yield a job that asks for nothing, then for each key that can be wrong one with that alone."""
    bare = WorkflowJob(
        name=job.name, mark=job.mark, group=job.group, command=PLAIN.command, network=BuiltIn.NONE
    )
    yield "", bare
    if job.network:
        yield "network", replace(bare, network=job.network)
    if job.runtime:
        yield "runtime", replace(bare, runtime=job.runtime)
    yield "command", replace(bare, command=job.command)
    for number, text in enumerate(job.args):
        yield f"args[{number}]", replace(bare, args=(text,))
    yield "workdir", replace(bare, workdir=job.workdir)
    for number, text in enumerate(job.volumes):
        yield f"volumes[{number}]", replace(bare, volumes=(text,))
    for name, value in job.limits.items():
        yield f"resources.{name}", replace(bare, limits={name: value})
    if job.timeout:
        yield "timeout", replace(bare, timeout=job.timeout)
    for name, text in job.environment.items():
        yield f"environment.{name}", replace(bare, environment={name: text})
    for name, text in job.secret_environment.items():
        yield f"secret_environment.{name}", replace(bare, secret_environment={name: text})


def mark_of(job: WorkflowJob, key: str) -> Mark:
    """Return where the key is; for one that is inherited, where the next around it or the job itself is."""
    while key not in job.marks:
        cut = max(key.rfind("."), key.rfind("["))
        if cut < 0:
            return job.mark
        key = key[:cut]
    return job.marks[key]


def _resources(job: WorkflowJob) -> Resources:
    values: dict[str, Any] = {name: value for name, value in job.limits.items() if name != "gpu_count"}
    if "max_memory" in values:
        values["max_memory"] *= MIB
    if job.timeout:
        values["timeout"] = parse_timeout(job.timeout)
    return Resources(**values)
