"""The picture of a workflow, of its file or as it stands: a tree for a terminal, and DOT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from joblet_agent.workflow_file import Workflow
from joblet_agent.workflow_file.expression import to_text
from joblet_agent.workflow_file.graph import find_cycle, in_waves
from joblet_agent.workflow_file.requirements import dependencies
from rnx.dotlang import escaped
from rnx.output import clean, status_word

_LABEL = 60
_NEEDS = 100
_FILLS = {
    "RUNNING": "khaki",
    "COMPLETED": "palegreen",
    "FAILED": "lightcoral",
    "STOPPED": "plum",
    "CANCELED": "plum",
    "SKIPPED": "lightgrey",
}


@dataclass(frozen=True, slots=True)
class Node:
    """A job in the picture."""

    label: str = ""
    """What it runs."""
    needs: str = ""
    """What it waits for, as an expression."""
    state: str = ""
    """Empty for a file."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Jobs, and which of them each waits for."""

    nodes: Mapping[str, Node]
    sources: Mapping[str, Sequence[str]]
    """Of each job and each group the jobs and groups that it waits for; a group waits for its jobs."""
    groups: Mapping[str, Sequence[str]]

    def steps(self) -> list[list[str]]:
        """Return the jobs in the order in which they can start; each step waits for ones before it only."""
        step_of: dict[str, int] = {}
        for wave in in_waves(self.sources):
            for name in wave:
                before = max((step_of[source] for source in self.sources[name]), default=0)
                step_of[name] = before + (name in self.nodes)  # a group takes no step of its own
        steps: dict[int, list[str]] = {}
        for name in self.nodes:
            steps.setdefault(step_of[name], []).append(name)
        return [steps[number] for number in sorted(steps)]


def picture_of_file(workflow: Workflow) -> Picture:
    """Return the picture of a file."""
    nodes = {
        name: Node(" ".join((job.command, *job.args))[:_LABEL], to_text(job.requires))
        for name, job in workflow.jobs.items()
    }
    return Picture(nodes, dependencies(workflow), workflow.groups)


def picture_of_jobs(jobs: Sequence[Any]) -> Picture:
    """Return the picture of a workflow as it stands, of its jobs (WorkflowJob).

    An agent may say what it likes: jobs that it does not tell of are left out, all lines if they go round.
    """
    nodes = {job.job_name: Node("", job.requires, job.status) for job in jobs}
    groups: dict[str, list[str]] = {}
    for job in jobs:
        if job.group and job.group not in nodes:
            groups.setdefault(job.group, []).append(job.job_name)
    known = {*nodes, *groups}
    sources: dict[str, list[str]] = dict(groups)
    sources |= {job.job_name: [name for name in job.dependencies if name in known] for job in jobs}
    if find_cycle(sources):
        sources = {name: [] for name in sources}
    return Picture(nodes, sources, groups)


def tree(picture: Picture) -> str:
    """Return a heading for each step, and its jobs: how they are, and what each waits for."""
    lines = []
    for number, step in enumerate(picture.steps(), 1):
        lines.append(f"step {number}")
        for place, name in enumerate(step):
            node = picture.nodes[name]
            state = f"  {status_word(node.state)}" if node.state else ""
            needs = f"  after {short_needs(node.needs)}" if node.needs else ""
            corner = "└──" if place == len(step) - 1 else "├──"
            lines.append(f"{corner} {clean(name)}{state}{needs}")
    return "\n".join(lines)


def short_needs(expression: str) -> str:
    """Return what is waited for, as far as there is room for it in a tree."""
    shown = clean(expression)
    return shown if len(shown) <= _NEEDS else f"{shown[: _NEEDS - 3]}..."


def dot(picture: Picture) -> str:
    """Return the picture in the language of graphviz; edges point from a job to those that wait for it."""
    lines = ["digraph workflow {", "  rankdir=LR;", "  node [shape=box];"]
    for name, node in picture.nodes.items():
        label = "\\n".join(escaped(text) for text in (name, node.label, node.state) if text)
        fill = _FILLS.get(node.state)
        colour = f', style=filled, fillcolor="{fill}"' if fill else ""
        lines.append(f'  "{escaped(name)}" [label="{label}"{colour}];')
        waited = [each for group in picture.sources[name] for each in picture.groups.get(group, (group,))]
        lines += [f'  "{escaped(source)}" -> "{escaped(name)}";' for source in waited]
    return "\n".join([*lines, "}"])
