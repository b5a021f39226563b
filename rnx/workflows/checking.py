"""What the agent says about a workflow file: whether it would run it, and how."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from joblet_agent.yaml_file.problems import Mark, Problem
from rnx.client import STOP, Client, pb
from rnx.output import clean
from rnx.uploads import Upload
from rnx.workflows.files import Source, WorkflowInvalid
from rnx.workflows.picture import short_needs

_OF_JOB = re.compile(r"joblet-job-([0-9a-f-]{36})\.service")


def ask_agent(client: Client, source: Source, uploads: Sequence[Upload], *, explain: bool = False) -> Any:
    """Return the CheckWorkflowResponse for a workflow that the agent would run; raise WorkflowInvalid."""
    request = pb.CheckWorkflowRequest(
        yaml_content=source.text,
        name=source.name,
        file_paths=[each.path for each in uploads],
        explain=explain,
    )
    # 10,000 jobs, each with its unit, take a busy agent most of a minute.
    reply = client.call(client.agent.CheckWorkflow, request, STOP)
    if reply.problems:
        problems = [
            Problem(Mark(each.line, each.column), clean(each.key), clean(each.message))
            for each in reply.problems
        ]
        raise WorkflowInvalid(source.path, problems)
    return reply


def plan_data(source: Source, reply: Any) -> dict[str, object]:
    """Return the object of ``workflow run --dry-run --json``."""
    return {
        "valid": True,
        "total_jobs": len(reply.jobs),
        "schedule": source.workflow.schedule,
        "jobs": [
            {
                "name": job.name,
                "step": job.step,
                "requires": job.requires,
                "unit": job.explain.unit,
                "slice": job.slice,
                "properties": [
                    {name: getattr(each, name) for name in ("name", "value", "origin", "documentation")}
                    for each in job.explain.properties
                ],
                "systemd_run": job.explain.systemd_run,
                "notes": list(job.explain.notes),
            }
            for job in reply.jobs
        ],
    }


def plan_text(source: Source, reply: Any) -> str:
    """Return the steps, with the unit of each job and what the file says of it."""
    steps: dict[int, list[Any]] = {}
    for job in reply.jobs:
        steps.setdefault(job.step, []).append(job)
    jobs = "1 job" if len(reply.jobs) == 1 else f"{len(reply.jobs)} jobs"
    when = f"; it would start: {clean(source.workflow.schedule)}" if source.workflow.schedule else ""
    lines = [f"{clean(str(source.path))}: valid, {jobs}; nothing is started{when}"]
    lines += [f"slice {clean(each)}" for each in dict.fromkeys(job.slice for job in reply.jobs) if each]
    for number in sorted(steps):
        lines += ["", f"step {number}"]
        for place, job in enumerate(steps[number], 1):
            lines += _job_lines(job, is_last=place == len(steps[number]))
    return "\n".join(lines)


def _job_lines(job: Any, *, is_last: bool) -> Iterator[str]:
    """Yield what is known of a job; keys of the file are told of as the flags of ``rnx run``."""
    needs = f"  after {short_needs(job.requires)}" if job.requires else ""
    yield f"{'└──' if is_last else '├──'} {clean(job.name)}{needs}"
    margin = "    " if is_last else "│   "
    unit, line = job.explain.unit, job.explain.systemd_run
    own = [
        each for each in job.explain.properties if each.origin.startswith("--") and each.origin != "--name"
    ]
    if match := _OF_JOB.fullmatch(unit):  # its id is made when it is started, and so is its slice's
        unit, line = (text.replace(match[1], "*") for text in (unit, line))
    for each in job.explain.properties:
        if each.name == "Slice" and job.slice:
            line = line.replace(each.value, job.slice)
    yield f"{margin}unit {clean(unit)}"
    if own:
        yield f"{margin}with {', '.join(clean(f'{each.name}={each.value}') for each in own)}"
    if line:
        yield f"{margin}{clean(line)}"
