"""From the jobs of a workflow file to the plans of its members: who gets what of whom. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from joblet_agent.model.workflow import MemberPlan
from joblet_agent.workflow_file import When, Workflow, WorkflowJob
from joblet_agent.workflow_file.expression import Condition, jobs_of
from joblet_agent.workflow_file.graph import in_waves
from joblet_agent.workflow_file.outputs import may_refer, outputs_in


def plans_of(workflow: Workflow) -> list[MemberPlan]:
    """Return the plans, in the order of the file."""
    inputs = _Inputs(workflow)
    of_each = [inputs.of(job) for job in workflow.jobs.values()]
    wanted = {name for names in of_each for name in names}
    for job in workflow.jobs.values():
        wanted |= sources(job)
    return [
        MemberPlan(
            number=number,
            name=job.name,
            group=job.group,
            requires=job.requires,
            is_for_failure=job.when is When.FAILURE,
            retries=job.retries,
            max_wait=job.max_wait,
            upload_files=job.upload_files,
            upload_directories=job.upload_directories,
            output_files=job.output_files,
            has_outputs=job.name in wanted,
            inputs=names,
        )
        for number, (job, names) in enumerate(zip(workflow.jobs.values(), of_each, strict=True))
    ]


def waited_for(requires: Condition) -> tuple[str, ...]:
    """Return the names in a condition, each once: of members and of groups."""
    return tuple(dict.fromkeys(jobs_of(requires)))


def steps(plans: Sequence[MemberPlan], groups: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return for each member the step in which it can start, from 1."""
    needed: dict[str, Sequence[str]] = {**groups, **{plan.name: waited_for(plan.requires) for plan in plans}}
    found: dict[str, int] = {}
    for wave in in_waves(needed):
        for name in wave:
            before = max((found[each] for each in needed[name]), default=0)
            found[name] = before if name in groups else before + 1
    return {plan.name: found[plan.name] for plan in plans}


def sources(job: WorkflowJob) -> set[str]:
    """Return the names of the jobs whose outputs its texts refer to."""
    texts = (job.command, *job.args, job.workdir, *job.environment.values())
    return {output.job for text in texts if may_refer(text) for output in outputs_in(text)}


class _Inputs:
    """Whose output files a job gets. Jobs that wait for the same share the answer, which may be long."""

    def __init__(self, workflow: Workflow) -> None:
        self._workflow = workflow
        self._by_names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._by_group: dict[str, tuple[str, ...]] = {}

    def of(self, job: WorkflowJob) -> tuple[str, ...]:
        if job.group not in self._by_group:
            names = waited_for(job.requires)
            if names not in self._by_names:
                self._by_names[names] = tuple(self._with_files(names))
            self._by_group[job.group] = self._by_names[names]
        return self._by_group[job.group]

    def _with_files(self, names: Sequence[str]) -> Iterator[str]:
        members = (each for name in names for each in self._workflow.groups.get(name, (name,)))
        for name in dict.fromkeys(members):
            if self._workflow.jobs[name].output_files:
                yield name
