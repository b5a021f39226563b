"""From ``requires`` and ``when`` to a condition, and whether it can ever hold: unknown jobs, circles."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from joblet_agent.workflow_file.expression import FINISHED, STATUSES, All, Any, Condition, Not, Test, jobs_of
from joblet_agent.workflow_file.graph import find_cycle
from joblet_agent.workflow_file.making import Reference
from joblet_agent.workflow_file.outputs import parse_output
from joblet_agent.workflow_file.raw import RawJob
from joblet_agent.workflow_file.requires import Requirement
from joblet_agent.workflow_file.values import NOTHING_REQUIRED, When, Workflow
from joblet_agent.yaml_file.problems import Problems, shown

_ENDED = STATUSES[FINISHED]
_COMPLETED = STATUSES["COMPLETED"]
_WELL = STATUSES["COMPLETED"] | STATUSES["SKIPPED"]
MAY_REFER = ("command", "args", "workdir", "environment")
"""Keys in which outputs of other jobs may stand. What a job needs of the host is checked before any runs, and
outputs are no secrets."""


def conditions_of(jobs: Mapping[str, RawJob]) -> Iterator[tuple[str, Condition]]:
    """Yield what each job waits for. ``jobs`` has all, by their names in the file.

    A job with ``when`` and nothing that it requires waits for all jobs that are not such themselves.
    """
    others: dict[When, Condition] = {}
    for name, job in jobs.items():
        values = job.values
        when: When = values.get("when", When.SUCCESS)
        requirements: tuple[Requirement, ...] = values.get("requires", ())
        if requirements or when is When.SUCCESS:
            named = [each.job for each in requirements if each.condition is None]
            yield name, _condition(named, when, [each.condition for each in requirements if each.condition])
            continue
        if when not in others:
            others[when] = _condition([each for each, job in jobs.items() if not _is_last(job)], when, [])
        yield name, others[when]


def _condition(named: Sequence[str], when: When, conditions: list[Condition]) -> Condition:
    if when is When.SUCCESS:
        conditions += [Test(each, _COMPLETED) for each in named]
    else:
        conditions += [Test(each, _ENDED) for each in named]
        if when is When.FAILURE:
            conditions.append(Any(tuple(Not(Test(each, _WELL)) for each in named)))
    if not conditions:
        return NOTHING_REQUIRED
    return conditions[0] if len(conditions) == 1 else All(tuple(conditions))


def _is_last(job: RawJob) -> bool:
    return job.values.get("when", When.SUCCESS) is not When.SUCCESS and not job.values.get("requires")


def check_requirements(workflow: Workflow, jobs: Mapping[str, RawJob], key: str, problems: Problems) -> None:
    """Tell of jobs that are not there, of circles, and of outputs of jobs that are not waited for."""
    known = {*workflow.jobs, *workflow.groups}
    for name, job in jobs.items():
        where = f"{key}.{name}"
        requirements: tuple[Requirement, ...] = job.values.get("requires", ())
        for requirement in requirements:
            for each in _named(requirement):
                if each not in known:
                    problems.add(
                        requirement.mark,
                        f"{where}.requires",
                        f"there is no job {shown(each)}{problems.near(each, known)}",
                    )
        if job.values.get("when", When.SUCCESS) is not When.SUCCESS and any(
            each.condition is not None for each in requirements
        ):
            problems.add(
                job.marks["when"],
                f"{where}.when",
                "has a meaning only for jobs that requires names without a status; leave one of them out",
            )
    circle = find_cycle(dependencies(workflow))
    if circle:
        names = [each for each in circle if each in workflow.jobs]
        job = jobs[workflow.jobs[names[0]].group]
        problems.add(
            job.marks.get("requires", job.mark),
            f"{key}.{workflow.jobs[names[0]].group}.requires",
            f"circular dependency: {' -> '.join(names)}",
        )


def dependencies(workflow: Workflow) -> dict[str, list[str]]:
    """Return for each job, and for each group, what it waits for; a group waits for its jobs."""
    found: dict[str, list[str]] = {group: list(names) for group, names in workflow.groups.items()}
    of_group: dict[str, list[str]] = {}
    for name, job in workflow.jobs.items():
        if job.group not in of_group:
            of_group[job.group] = list(dict.fromkeys(jobs_of(job.requires)))
        found[name] = of_group[job.group]
    return found


def _named(requirement: Requirement) -> Iterator[str]:
    if requirement.condition is None:
        yield requirement.job
    else:
        yield from dict.fromkeys(jobs_of(requirement.condition))


def check_references(workflow: Workflow, found: Iterable[Reference], key: str, problems: Problems) -> None:
    """Tell of references to outputs that stand where none can, or of jobs that are not waited for."""
    waited: dict[str, Set[str]] = {}
    for reference in found:
        if reference.job not in waited:
            members = workflow.groups.get(reference.job, (reference.job,))
            waited[reference.job] = {
                each for name in members[:1] for each in jobs_of(workflow.jobs[name].requires)
            }
        why = _why_not(reference, waited[reference.job], workflow, problems)
        if why:
            where = f"{key}.{reference.job}.{reference.at}"
            problems.add(reference.mark, where, f"{shown(f'${{{reference.name}}}')} {why}")


def _why_not(reference: Reference, waited: Set[str], workflow: Workflow, problems: Problems) -> str:
    """Say why the output cannot stand there; empty if it can."""
    output = parse_output(reference.name)
    if output is None:
        return "is no output of a job; write ${jobs.JOB.KEY}, a KEY of letters, digits and _"
    if _section(reference.at) not in MAY_REFER:
        return f"has no place here; outputs can be in {', '.join(MAY_REFER)}"
    job = workflow.jobs.get(output.job)
    if output.job in workflow.groups:
        return f"is of several jobs; name one of them: {', '.join(workflow.groups[output.job][:3])}"
    if job is None:
        return f"is of no job{problems.near(output.job, workflow.jobs)}"
    if not {job.name, job.group} & waited:
        return f"is of a job that is not waited for; write requires: {job.name}"
    return ""


def _section(key: str) -> str:
    return key.partition(".")[0].partition("[")[0]
