"""``${jobs.NAME.KEY}`` in what a member runs: the outputs of members that have ended. Pure.

Command, arguments, directory and variables may have them. What a job needs of the host (network, volumes) and
its secrets may not: these are checked, and stored, before the workflow starts.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import check_spec, quoted
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.workflow_file.outputs import OutputName, may_refer, with_outputs

_SAMPLE = "x"


def resolved(template: JobRecord, outputs: Mapping[str, Mapping[str, str]]) -> JobRecord:
    """Return what the job begins with; ``outputs`` has, by members' names, those of the ones that have ended.

    Raises InvalidRequest for an output that there is not, and if the outcome can never run.
    """

    def value(wanted: OutputName) -> str:
        found = outputs.get(wanted.job, {}).get(wanted.key)
        if found is None:
            raise InvalidRequest(
                f"cannot run job: {wanted} has no value: job {quoted(wanted.job)} has not written "
                f"{wanted.key} to $JOBLET_OUTPUT",
                reason="OUTPUT_MISSING",
                hint=f"let it write a line: echo {wanted.key}=VALUE >> $JOBLET_OUTPUT",
            )
        return found

    if not any(map(may_refer, _texts(template.spec))):
        return template
    spec = _with(template.spec, value)
    check_spec(spec)
    return replace(template, spec=spec)


def sampled(spec: JobSpec) -> JobSpec:
    """Return the spec with something in place of each output, to check the rest of it beforehand."""
    if not any(map(may_refer, _texts(spec))):
        return spec
    found = _with(spec, lambda _wanted: _SAMPLE)
    # A directory that begins with an output is absolute or not: nobody knows yet.
    return replace(found, work_dir=f"/{found.work_dir}") if spec.work_dir.startswith("${") else found


def as_written(spec: JobSpec, written: JobSpec) -> JobSpec:
    """Return the spec with the texts of the other one in which outputs may be."""
    return replace(
        spec,
        command=written.command,
        args=written.args,
        work_dir=written.work_dir,
        environment=written.environment,
    )


def _texts(spec: JobSpec) -> Iterator[str]:
    yield spec.command
    yield from spec.args
    yield spec.work_dir
    yield from spec.environment.values()


def _with(spec: JobSpec, value: Callable[[OutputName], str]) -> JobSpec:
    return replace(
        spec,
        command=with_outputs(spec.command, value),
        args=tuple(with_outputs(text, value) for text in spec.args),
        work_dir=with_outputs(spec.work_dir, value),
        environment={name: with_outputs(text, value) for name, text in spec.environment.items()},
    )
