"""C7: files that are made to cost more than they are long. Each is refused in words, or is a workflow, soon.

What would not be soon takes minutes, or all memory; the tests would not come to their ends.
"""

import json
from typing import Any

import pytest

from joblet_agent.workflow_file import FileInvalid, load
from joblet_agent.workflow_file.making import MOST_JOBS
from joblet_agent.workflow_file.room import MOST_BYTES

ALL = range(MOST_JOBS)


def of(jobs: dict[str, Any], **keys: Any) -> str:
    return json.dumps({**keys, "jobs": {name: {"command": "x", **job} for name, job in jobs.items()}})


def alone(**keys: Any) -> str:
    return of({"a": keys})


def faults(text: str) -> str:
    with pytest.raises(FileInvalid) as caught:
        load(text).select()
    return "\n".join(caught.value.shown("w.yml"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: &a [x]\n" + "".join(f"b{n}: [*a, *a]\n" for n in range(9)), "aliases (*) are not offered"),
        ("jobs: " + "[" * 500 + "]" * 500, "more than 16 maps and lists inside one another"),
        ("jobs: " + "[" * 100_000, "w.yml:1:"),  # who finds it first, libyaml or we, depends on its version
        ("jobs: " + "{a: " * 100_000, "more than 16 maps and lists inside one another"),
        ("".join(f"{' ' * n}a:\n" for n in range(2000)), "more than 16 maps and lists inside one another"),
        ("#" * (MOST_BYTES + 1), f"the file has more than {MOST_BYTES} characters"),
        (
            of({f"j{n}": {"requires": f"j{(n + 1) % MOST_JOBS}"} for n in ALL}),
            "circular dependency: j0 -> j1",
        ),
        (
            of({f"j{n}": {"extends": f"j{(n + 1) % MOST_JOBS}"} for n in ALL}),
            "extend one another in a circle",
        ),
        (of({f"j{n}": {} for n in range(MOST_JOBS + 1)}), f"more than {MOST_JOBS} jobs"),
        (alone(matrix={f"v{n}": list(range(100)) for n in range(50)}), "combinations; a workflow has"),
        (alone(requires={"expression": "(" * 20_000}), "more than 50 parentheses inside one another"),
        (alone(requires={"expression": "NOT " * 20_000}), "more than 50 parentheses inside one another"),
        (alone(requires={"expression": " OR ".join(["b=FAILED"] * 20_000)}), "there is no job 'b'"),
        (alone(retries=10**4000), "expected a whole number from 0 to 100"),
        (alone(timeout="9" * 5000 + "d"), "expected a duration such as"),
        (alone(retries={"backoff": float("nan")}), "expected a number from 1 to 10"),
        (
            alone(environment={"V0": "x"} | {f"V{n}": f"${{V{n - 1}}}" * 10 for n in range(1, 40)}),
            "longer than",
        ),
        (
            of({f"j{n}": {} for n in ALL}, environment={f"V{n}": "x" * 50 for n in range(1000)}),
            "with what they inherit",
        ),
        (
            of({f"j{n}": {"when": "always"} if n % 2 else {} for n in ALL}),
            "with what they inherit",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) and len(value) < 100 else "file",
)
def test_c7_a_file_that_grows_is_refused_in_words(text: str, words: str) -> None:
    assert words in faults(text)


def test_c7_as_many_faults_as_jobs_cost_no_more_than_they_are() -> None:
    """Words that were perhaps meant are looked for as long as that costs little."""
    few = faults(of({"build": {}, "b": {"requires": "biuld"}}))
    assert "there is no job 'biuld', did you mean build?" in few
    many = of({f"job-{n}": {"comand": "y", "requires": [f"jib-{n}"], "extends": [f"jub-{n}"]} for n in ALL})
    assert f"and {3 * MOST_JOBS - 100} more" in faults(many)


@pytest.mark.parametrize(
    "text",
    [
        of({f"j{n}": {"when": "always"} for n in ALL}),
        of({f"j{n}": {"requires": [f"j{each}" for each in range(n)]} for n in range(400)}),
        alone(args=["${" * 100_000]),
        alone(command="${jobs." * 1),
    ],
    ids=["all last", "each waits for all before", "half a reference", "half an output"],
)
def test_c7_what_only_looks_like_it_is_a_workflow(text: str) -> None:
    assert load(text).select().jobs
