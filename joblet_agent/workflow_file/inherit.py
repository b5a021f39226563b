"""What a job takes over: from the jobs that it extends, and from ``defaults``."""

from collections.abc import Mapping, Sequence
from typing import Any

from joblet_agent.workflow_file.graph import find_cycle
from joblet_agent.workflow_file.raw import RawJob
from joblet_agent.workflow_file.room import Room
from joblet_agent.yaml_file.problems import Mark, Problems, shown

_MERGED = frozenset({"environment", "secret_environment", "resources", "uploads", "matrix", "outputs"})
"""Keys that are maps: taken over name by name. The others are taken over as a whole."""


def inherited(
    jobs: Mapping[str, RawJob], defaults: RawJob | None, key: str, room: Room, problems: Problems
) -> dict[str, RawJob]:
    """Return the jobs complete. ``key`` names the map that they are in. Raises TooMuch."""
    extends = {name: _known(name, job, jobs, key, problems) for name, job in jobs.items()}
    circle = find_cycle(extends)
    if circle:
        where = jobs[circle[0]]
        problems.add(
            where.marks.get("extends", where.mark),
            f"{key}.{circle[0]}.extends",
            f"jobs extend one another in a circle: {' -> '.join(circle)}",
        )
        extends = dict.fromkeys(jobs, ())
    complete: dict[str, RawJob] = {}
    for first in jobs:
        pending = [first]
        while pending:
            name = pending[-1]
            missing = [each for each in extends[name] if each not in complete]
            if missing:
                pending += missing
                continue
            pending.pop()
            if name not in complete:
                complete[name] = _over([complete[each] for each in extends[name]], jobs[name], room)
    if defaults is None:
        return complete
    return {name: _over([defaults], job, room) for name, job in complete.items()}


def _over(below: Sequence[RawJob], job: RawJob, room: Room) -> RawJob:
    """Lay the job over what is below it; of that, later ones over earlier ones."""
    if not below:
        return job
    values: Mapping[str, Any] = {}
    marks: dict[str, Mark] = {}
    for layer in (*below, job):
        values = laid_over(values, layer.values)
        marks |= layer.marks
        room.take(len(marks) + sum(len(values[name]) for name in _MERGED & values.keys()))
    return RawJob(job.mark, values, marks)


def _known(
    name: str, job: RawJob, jobs: Mapping[str, RawJob], key: str, problems: Problems
) -> tuple[str, ...]:
    named: tuple[str, ...] = job.values.get("extends", ())
    for each in named:
        if each not in jobs:
            problems.add(
                job.marks["extends"],
                f"{key}.{name}.extends",
                f"there is no job {shown(each)}{problems.near(each, jobs)}",
            )
    return tuple(each for each in named if each in jobs)


def laid_over(below: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the values of a job over those below it."""
    if not below:
        return own
    values = {**below, **own}
    for name in _MERGED & below.keys() & own.keys():
        if isinstance(below[name], dict) and isinstance(own[name], dict):
            values[name] = {**below[name], **own[name]}
    for mine, other in (("environment", "secret_environment"), ("secret_environment", "environment")):
        # Each variable stays where the job has it: secret or not, whatever was said below.
        if own.get(mine) and below.get(other):
            theirs = own.get(other, {})
            values[other] = {
                name: value
                for name, value in values[other].items()
                if name not in own[mine] or name in theirs
            }
    return values
