"""From the values of a file to workflows: what is inherited, combined, referred to and required. Pure."""

from collections.abc import Mapping
from typing import Any

from joblet_agent.workflow_file.inherit import inherited
from joblet_agent.workflow_file.making import MOST_JOBS, Maker
from joblet_agent.workflow_file.outputs import may_refer
from joblet_agent.workflow_file.raw import RawJob
from joblet_agent.workflow_file.requirements import check_references, check_requirements, conditions_of
from joblet_agent.workflow_file.room import Room
from joblet_agent.workflow_file.values import Workflow, WorkflowJob
from joblet_agent.yaml_file.problems import Mark, Problems, shown

_VARIABLES = ("environment", "secret_environment")


def assembled(
    values: Mapping[str, Any], key: str, marks: Mapping[str, Mark], room: Room, problems: Problems
) -> Workflow:
    """Return the workflow; what is wrong with it is told, and then it is of no use.

    ``values`` are those of keys.WORKFLOW; ``key`` and ``marks`` say where they are in the file. Raises
    TooMuch.
    """
    jobs: Mapping[str, RawJob] = values.get("jobs", {})
    complete = inherited(jobs, values.get("defaults"), f"{key}jobs", room, problems)
    shared = {name: values[name] for name in _VARIABLES if values.get(name)}
    _check_shared(shared, key, marks, problems)
    maker = Maker(f"{key}jobs", shared, room, problems)
    found: dict[str, WorkflowJob] = {}
    groups: dict[str, tuple[str, ...]] = {}
    raw = {name: job for name, job in complete.items() if not name.startswith(".")}
    if not raw:
        problems.add(_first(jobs), f"{key}jobs", "expected at least one job")
    for name, requires in conditions_of(raw):
        job, names = raw[name], []
        for each in maker.jobs_of(name, job, requires, MOST_JOBS - len(found)):
            if each.name in found or (each.name in raw and each.name != name):
                problems.add(job.mark, f"{maker.key}.{name}", f"there are two jobs called {shown(each.name)}")
            found[each.name] = each
            names.append(each.name)
        if "matrix" in job.values:
            groups[name] = tuple(names)
        if len(found) >= MOST_JOBS and name != next(reversed(raw)):
            problems.add(job.mark, f"{key}jobs", f"more than {MOST_JOBS} jobs")
            break
    workflow = Workflow(
        name=values.get("name", ""),
        jobs=found,
        groups=groups,
        description=values.get("description", ""),
        max_parallel=values.get("max_parallel", 0),
        schedule=values.get("schedule", ""),
        key=key,
        marks=marks,
    )
    check_requirements(workflow, raw, maker.key, problems)
    check_references(workflow, maker.references, maker.key, problems)
    return workflow


def _first(jobs: Mapping[str, RawJob]) -> Mark:
    return next((job.mark for job in jobs.values()), Mark())


def _check_shared(
    shared: Mapping[str, Mapping[str, str]], key: str, marks: Mapping[str, Mark], problems: Problems
) -> None:
    for where, variables in shared.items():
        for name, text in variables.items():
            if may_refer(text):
                at = marks.get(where, Mark())
                problems.add(at, f"{key}{where}.{name}", "outputs of jobs have no place here, but in a job")
