"""Workflows of any shape, and how their jobs end."""

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import strategies as st

from joblet_agent.workflow_file.expression import All, Any, Condition, End, Not, Test
from joblet_agent.workflow_file.values import NOTHING_REQUIRED
from tests.unit.workflows.reference import Job

_MOST_JOBS = 8
_ENDS = st.sampled_from([End.COMPLETED, End.COMPLETED, End.FAILED, End.STOPPED, End.CANCELED])


@dataclass(frozen=True)
class Generated:
    """A workflow; a group is the matrix of all jobs with that word in ``group``."""

    jobs: tuple[Job, ...]
    max_parallel: int

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Names of the members of each matrix."""
        found: dict[str, tuple[str, ...]] = {}
        for job in self.jobs:
            if job.group:
                found[job.group] = (*found.get(job.group, ()), job.name)
        return found


def _conditions(names: Sequence[str]) -> st.SearchStrategy[Condition]:
    if not names:
        return st.just(NOTHING_REQUIRED)
    tests = st.builds(
        Test, st.sampled_from(names), st.sets(st.sampled_from(End), min_size=1).map(frozenset)
    ) | st.sampled_from(names).map(lambda name: Test(name, frozenset({End.COMPLETED})))
    several = st.lists(tests, max_size=3).map(tuple)
    return st.recursive(
        tests | several.map(All),
        lambda inner: (
            st.builds(Not, inner)
            | st.lists(inner, min_size=1, max_size=3).map(lambda found: All(tuple(found)))
            | st.lists(inner, max_size=3).map(lambda found: Any(tuple(found)))
        ),
        max_leaves=5,
    )


def _tries(count: int) -> st.SearchStrategy[tuple[End, ...]]:
    return st.lists(_ENDS, min_size=count, max_size=count).map(tuple)


@st.composite
def workflows(draw: st.DrawFn) -> Generated:
    """Jobs that wait for ones before them, and for groups of these."""
    jobs: list[Job] = []
    names: list[str] = []
    while len(jobs) < draw(st.integers(1, _MOST_JOBS)):
        number = len(jobs)
        size = draw(st.sampled_from([0, 0, 0, 2, 3]))
        requires = draw(_conditions(names))
        is_for_failure = draw(st.booleans())
        count = draw(st.integers(1, 3))
        group = f"group-{number}" if size else ""
        made = [f"{group}-{each}" for each in range(size)] or [f"job-{number}"]
        jobs += [Job(name, requires, group, is_for_failure, draw(_tries(count))) for name in made]
        names += [*made, group] if group else made
    order = draw(st.permutations(jobs))
    return Generated(tuple(order), draw(st.integers(0, 3)))
