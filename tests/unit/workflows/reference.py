"""What becomes of a workflow, said in the simplest way: look at every job again after each end.

Shares with the agent the values of conditions, and nothing that decides: conditions are read by Python's
own operators once all that they ask about has ended, and by trying everything before that.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from joblet_agent.workflow_file.expression import All, Any, Condition, End, Not, Test
from joblet_agent.workflow_file.values import NOTHING_REQUIRED

WORST_LAST = (End.COMPLETED, End.SKIPPED, End.CANCELED, End.STOPPED, End.FAILED)
"""By rising harm."""


@dataclass(frozen=True)
class Job:
    """A job as the reference needs to know it."""

    name: str
    requires: Condition = NOTHING_REQUIRED
    group: str = ""
    """That of its matrix; empty for a job without one."""
    is_for_failure: bool = False
    tries: tuple[End, ...] = (End.COMPLETED,)
    """How each of its tries would end; the last one has no retry."""


@dataclass
class Run:
    """A run to its end, with all that happened in it."""

    ends: dict[str, End] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    running: list[str] = field(default_factory=list)
    most_at_once: int = 0
    order: list[tuple[str, str]] = field(default_factory=list)
    """``start NAME`` and ``end NAME`` as they happened."""

    @property
    def state(self) -> End:
        """The workflow's."""
        worst = _worst(self.ends.values())
        return End.COMPLETED if worst is End.SKIPPED else worst


def run(
    jobs: Sequence[Job], max_parallel: int = 0, pick: Callable[[Sequence[str]], str] = lambda names: names[0]
) -> Run:
    """Run the workflow; ``pick`` says which of the running jobs ends next."""
    made = Run(tries={job.name: 0 for job in jobs})
    while len(made.ends) < len(jobs):
        while _reconsider(jobs, made, max_parallel):
            pass
        if made.running:
            name = pick(made.running)
            _end(next(job for job in jobs if job.name == name), made)
        else:
            assert len(made.ends) == len(jobs), "nothing can go on"
    return made


def _reconsider(jobs: Sequence[Job], made: Run, max_parallel: int) -> bool:
    """Let the first job for which something is decided have it; return whether there was one."""
    for job in jobs:
        if job.name in made.ends or job.name in made.running:
            continue
        verdict = decided(job.requires, jobs, made.ends)
        if verdict is False:
            made.ends[job.name] = End.SKIPPED if job.is_for_failure else End.CANCELED
            return True
        if verdict and not (max_parallel and len(made.running) >= max_parallel):
            made.running.append(job.name)
            made.tries[job.name] += 1
            made.most_at_once = max(made.most_at_once, len(made.running))
            made.order.append(("start", job.name))
            return True
    return False


def _end(job: Job, made: Run) -> None:
    made.running.remove(job.name)
    made.order.append(("end", job.name))
    end = job.tries[made.tries[job.name] - 1]
    if end is End.FAILED and made.tries[job.name] < len(job.tries):
        return  # it waits, and what it requires still holds
    made.ends[job.name] = end


def decided(condition: Condition, jobs: Sequence[Job], ends: Mapping[str, End]) -> bool | None:
    """Return what the condition is whatever the jobs do that have not ended; None while that differs."""
    names = sorted(set(_names(condition)))
    choices = [_possible(name, jobs, ends) for name in names]
    found = {_holds(condition, dict(zip(names, each, strict=True))) for each in itertools.product(*choices)}
    return found.pop() if len(found) == 1 else None


def _possible(name: str, jobs: Sequence[Job], ends: Mapping[str, End]) -> Sequence[End]:
    members = [job.name for job in jobs if name in {job.name, job.group}]
    if all(member in ends for member in members):
        return [_worst(ends[member] for member in members)]
    return WORST_LAST


def _worst(ends: Iterable[End]) -> End:
    return max(ends, key=WORST_LAST.index)


def _names(condition: Condition) -> list[str]:
    match condition:
        case Test(job):
            return [job]
        case Not(inner):
            return _names(inner)
        case All(several) | Any(several):
            return [name for each in several for name in _names(each)]


def _holds(condition: Condition, ends: Mapping[str, End]) -> bool:
    match condition:
        case Test(job, wanted):
            return ends[job] in wanted
        case Not(inner):
            return not _holds(inner, ends)
        case All(several):
            return all(_holds(each, ends) for each in several)
        case Any(several):
            return any(_holds(each, ends) for each in several)
