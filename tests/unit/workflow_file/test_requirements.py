"""What ``requires`` and ``when`` come to, against the words of the manual; matrices against counting."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.workflow_file import FileInvalid, load
from joblet_agent.workflow_file.expression import STATUSES, End, evaluate
from joblet_agent.workflow_file.requirements import dependencies

WELL = {End.COMPLETED, End.SKIPPED}
NAMES = ("a", "b", "c")
whens = st.sampled_from([None, "success", "always", "failure"])
entries = st.sampled_from(NAMES).flatmap(
    lambda name: st.one_of(st.just(name), st.sampled_from([*STATUSES]).map(lambda status: {name: status}))
)


def loaded(jobs: Mapping[str, Any]) -> Any:
    return load(json.dumps({"jobs": {name: {"command": "x", **job} for name, job in jobs.items()}})).select()


def holds(entry: str | dict[str, str], when: str | None, ends: Mapping[str, End]) -> bool:
    """What the manual says of one entry, once all jobs have ended."""
    if isinstance(entry, dict):
        ((name, status),) = entry.items()
        return status in {"FINISHED", ends[name].value}
    return when in {"always", "failure"} or ends[entry] is End.COMPLETED


@given(st.lists(entries, max_size=4), whens, st.tuples(*[st.sampled_from(End)] * len(NAMES)))
def test_a_job_starts_if_all_that_it_requires_holds(
    requires: list[str | dict[str, str]], when: str | None, found: tuple[End, ...]
) -> None:
    last: dict[str, Any] = {"requires": requires} | ({"when": when} if when else {})
    jobs: dict[str, Any] = {name: {} for name in NAMES} | {"last": last}
    named = [each for each in requires if isinstance(each, str)]
    if when in {"always", "failure"} and len(named) < len(requires):
        with pytest.raises(FileInvalid):
            loaded(jobs)
        return
    if when in {"always", "failure"} and not requires:
        named = list(NAMES)
    ends = dict(zip(NAMES, found, strict=True))
    wanted = all(holds(each, when, ends) for each in requires)
    if when == "failure":
        wanted = wanted and any(ends[each] not in WELL for each in named)
    assert evaluate(loaded(jobs).jobs["last"].requires, ends.get) is wanted


@given(
    st.dictionaries(
        st.sampled_from("xyz"), st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True), min_size=1
    )
)
def test_a_matrix_has_each_combination_once(matrix: dict[str, list[int]]) -> None:
    texts = "".join(f"${{matrix.{name}}}," for name in matrix)
    found = loaded({"job": {"matrix": matrix, "args": [texts]}, "after": {"requires": "job"}})
    told = [found.jobs[name].args[0] for name in found.groups["job"]]
    assert told == ["".join(f"{value}," for value in each) for each in itertools.product(*matrix.values())]
    assert dependencies(found)["after"] == ["job"]
    assert dependencies(found)["job"] == list(found.groups["job"])


keys = st.fixed_dictionaries(
    {}, optional={key: st.text("pq", min_size=1, max_size=2) for key in ("network", "runtime", "workdir")}
)
variables = st.dictionaries(st.sampled_from("ABC"), st.text("pq", max_size=2), max_size=3)


@given(st.lists(st.tuples(keys, variables), min_size=1, max_size=4), st.tuples(keys, variables))
def test_what_is_said_last_counts(
    chain: list[tuple[dict[str, str], dict[str, str]]], defaults: tuple[dict[str, str], dict[str, str]]
) -> None:
    """Each job extends the one before it; maps are taken over name by name."""
    jobs: dict[str, dict[str, Any]] = {
        f"job-{number}": {
            **{name: f"/{text}" if name == "workdir" else text for name, text in own.items()},
            "environment": environment,
            **({"extends": f"job-{number - 1}"} if number else {}),
        }
        for number, (own, environment) in enumerate(chain)
    }
    below = {name: f"/{text}" if name == "workdir" else text for name, text in defaults[0].items()}
    file = {
        "defaults": {"command": "x", **below, "environment": defaults[1]},
        "jobs": jobs,
    }
    last = load(json.dumps(file)).select().jobs[f"job-{len(chain) - 1}"]
    said: dict[str, str] = dict(below)
    environment = dict(defaults[1])
    for job in jobs.values():
        environment.update(job["environment"])
        said.update({name: job[name] for name in ("network", "runtime", "workdir") if name in job})
    assert last.environment == environment
    for name in ("network", "runtime", "workdir"):
        assert getattr(last, name) == said.get(name, "")


@given(
    st.integers(1, 12),
    st.integers(0, 100_000),
    st.floats(1, 10),
    st.integers(0, 100_000),
)
def test_pauses_grow_up_to_the_longest(number: int, delay: int, backoff: float, longest: int) -> None:
    found = load(
        json.dumps(
            {
                "jobs": {
                    "a": {
                        "command": "x",
                        "retries": {
                            "count": 12,
                            "delay": f"{delay}ms",
                            "backoff": backoff,
                            "max_delay": f"{longest}ms",
                        },
                    }
                }
            }
        )
    )
    pause = found.select().jobs["a"].retries.pause(number).total_seconds() * 1000
    wanted = delay * backoff ** (number - 1)
    wanted = min(wanted, longest or 365 * 86_400_000)
    assert pause == pytest.approx(wanted, abs=0.01, rel=1e-9)
