"""Workflows whose agent is restarted or killed: each job runs once, and what waits goes on."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, agent_stopped, command, kill_agent, wait_for_agent
from tests.e2e.host import AGENT
from tests.e2e.workflows import (
    ended,
    forget_all,
    note,
    notes,
    run,
    sh,
    states,
    tries,
    until,
)
from tests.sizes import size

pytestmark = pytest.mark.systemd

KILLS = size(10, 150)
LAYERS = size(8, 60)
LONGEST = size(120, 900)
"""Seconds from the last kill to the end."""


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    yield
    forget_all(client)


def noting(name: str, script: str = "", **keys: object) -> dict[str, object]:
    """Return a job that notes its name, so that it is seen how often it has run."""
    return {**sh(f"{note(name)}; {script}"), "volumes": ["notes"], **keys}


def test_a_restart_of_the_agent_is_not_noticed(client: Client) -> None:
    with notes(client) as noted:
        jobs = {"a": noting("a", "sleep 1"), "b": noting("b", requires="a"), "c": noting("c", requires="b")}
        workflow_id = run(client, jobs)
        until(client, workflow_id, "a")
        command("systemctl", "restart", AGENT)
        wait_for_agent(client)
        workflow, found = ended(client, workflow_id)
        assert noted() == ["a", "b", "c"]
    assert workflow.status == "COMPLETED"
    assert tries(found) == dict.fromkeys("abc", 1)


def test_it_goes_on_when_the_agent_comes_back_after_a_job_has_ended(client: Client) -> None:
    with notes(client) as noted:
        again = {"count": 1}
        jobs = {
            "a": noting("a", "sleep 0.5"),
            "b": noting("b", requires="a"),
            "bad": noting("bad", "sleep 0.5; exit 1", retries=again),
            "tell": noting("tell", requires={"bad": "FAILED"}),
        }
        workflow_id = run(client, jobs)
        for name in ("a", "bad"):
            until(client, workflow_id, name)
        with agent_stopped():
            time.sleep(1)  # what the test is about: nobody is there when they end
        workflow, found = ended(client, workflow_id)
        assert sorted(noted()) == ["a", "b", "bad", "bad", "tell"]
    assert workflow.status == "FAILED"
    assert tries(found) == {"a": 1, "b": 1, "bad": 2, "tell": 1}


@pytest.mark.soak
def test_r3_each_job_runs_once_however_often_the_agent_is_killed(client: Client) -> None:
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    with notes(client) as noted:
        jobs, expected = _layers(rng, LAYERS, 6)
        ids = [run(client, jobs, max_parallel=bound) for bound in (1000, 3)]
        for _ in range(KILLS):
            if rng.random() < 0.7:  # the rest is killed while it starts and recovers
                wait_for_agent(client)
            time.sleep(rng.random() * 0.3)
            kill_agent()
        wait_for_agent(client)
        for workflow_id in ids:
            workflow, found = ended(client, workflow_id, within=LONGEST)
            assert workflow.status == "FAILED"
            assert states(found) == {
                name: "FAILED" if name.startswith("bad") else "COMPLETED" for name in jobs
            }
            assert tries(found) == expected
        assert Counter(noted()) == {name: count * len(ids) for name, count in expected.items()}


def _layers(
    rng: random.Random, layers: int, width: int
) -> tuple[dict[str, dict[str, object]], dict[str, int]]:
    """Return jobs that each wait for some of those before, and how often each has to run."""
    jobs: dict[str, dict[str, object]] = {}
    before: list[str] = []
    for layer in range(layers):
        names = [f"{'bad' if rng.random() < 0.2 else 'good'}-{layer}-{number}" for number in range(width)]
        for name in names:
            is_bad = name.startswith("bad")
            script = f"sleep {rng.random() / 4:.2f}; exit {int(is_bad)}"
            needed = rng.sample(before, min(2, len(before)))
            requires = [{each: "FAILED" if each.startswith("bad") else "COMPLETED"} for each in needed]
            jobs[name] = noting(name, script, requires=requires, **({"retries": 1} if is_bad else {}))
        before = names
    jobs["bad-last"] = noting("bad-last", "exit 1", requires=[{each: "FINISHED"} for each in before])
    return jobs, {name: 2 if "retries" in job else 1 for name, job in jobs.items()}


def test_one_for_later_starts_once_although_the_agent_was_away(client: Client) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    with notes(client) as noted:
        request = pb.RunWorkflowRequest(yaml_content="")
        request.yaml_content = (
            f"schedule: '{due}'\ndefaults: {{command: sh, network: none, volumes: [notes]}}\n"
            f"jobs:\n  a: {{args: [-c, '{note('a')}']}}\n  b: {{args: [-c, '{note('b')}'], requires: a}}\n"
        )
        reply = client.jobs.RunWorkflow(request, timeout=DEADLINE)
        assert reply.status == "SCHEDULED"
        with agent_stopped():
            time.sleep(2)  # it is due meanwhile
        workflow, _ = ended(client, reply.workflow_uuid)
        assert (workflow.status, noted()) == ("COMPLETED", ["a", "b"])
