"""Workflows on a real systemd: what starts when, and what comes of it."""

from collections.abc import Iterator
from itertools import pairwise

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, command
from tests.e2e.host import shown, unit_of
from tests.e2e.workflows import (
    delete,
    ended,
    forget_all,
    members,
    note,
    notes,
    run,
    sh,
    slice_of,
    states,
    status,
    tries,
    until,
)

pytestmark = pytest.mark.systemd

MANY = 200


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    yield
    forget_all(client)


def began(job: pb.WorkflowJob) -> int:
    return int(job.start_time.seconds * 10**9 + job.start_time.nanos)


def over(job: pb.WorkflowJob) -> int:
    return int(job.end_time.seconds * 10**9 + job.end_time.nanos)


def test_jobs_of_a_diamond_start_when_what_they_wait_for_has_ended(client: Client) -> None:
    nap = "sleep 0.2"
    jobs = {
        "d": sh(nap, requires=["b", "c"]),
        "a": sh(nap),
        "b": sh(nap, requires="a"),
        "c": sh(nap, requires=[{"a": "COMPLETED"}]),
    }
    workflow_id = run(client, jobs, name="a diamond", description="four jobs")
    workflow, found = ended(client, workflow_id)
    assert (workflow.status, workflow.name, workflow.description) == ("COMPLETED", "a diamond", "four jobs")
    assert (workflow.total_jobs, workflow.completed_jobs, workflow.failed_jobs) == (4, 4, 0)
    assert list(found) == ["d", "a", "b", "c"]
    assert {name: list(job.dependencies) for name, job in found.items()} == {
        "a": [],
        "b": ["a"],
        "c": ["a"],
        "d": ["b", "c"],
    }
    a, b, c, d = (found[name] for name in "abcd")
    for before, after in ((a, b), (a, c), (b, d), (c, d)):
        assert over(before) <= began(after)
    assert max(began(b), began(c)) < min(over(b), over(c)), "b and c have not run at the same time"
    job = client.status(d.job_uuid)
    assert (job.name, list(job.dependencies)) == ("d", ["b", "c"])


def test_two_hundred_jobs_start_after_one_and_one_after_them(client: Client) -> None:
    jobs = {"first": sh("sleep 0.1")} | {f"job-{n}": {"requires": "first"} for n in range(MANY)}
    last = {"last": {"requires": [f"job-{n}" for n in range(MANY)]}}
    workflow, found = ended(client, run(client, jobs | last), within=60)
    assert (workflow.status, workflow.completed_jobs) == ("COMPLETED", MANY + 2)
    many = [job for name, job in found.items() if name.startswith("job-")]
    assert over(found["first"]) <= min(map(began, many))
    assert max(map(over, many)) <= began(found["last"])
    assert len({job.job_uuid for job in found.values()}) == MANY + 2


def test_a_failing_branch_ends_what_waits_for_it_and_nothing_else(client: Client) -> None:
    jobs = {
        "a": {},
        "bad": sh("exit 3", requires="a"),
        "good": {"requires": "a"},
        "never": {"requires": "bad"},
        "nor": {"requires": "never"},
        "then": {"requires": {"bad": "FAILED"}},
        "tell": {"when": "failure"},
        "tidy": {"when": "always"},
        "unless": {"requires": "good", "when": "failure"},
        "either": {"requires": {"expression": "bad=COMPLETED OR (good=COMPLETED AND NOT never=COMPLETED)"}},
    }
    workflow, found = ended(client, run(client, jobs))
    assert workflow.status == "FAILED"
    assert states(found) == {
        **dict.fromkeys(("a", "good", "then", "tell", "tidy", "either"), "COMPLETED"),
        "bad": "FAILED",
        **dict.fromkeys(("never", "nor"), "CANCELED"),
        "unless": "SKIPPED",
    }
    assert (found["bad"].exit_code, found["never"].job_uuid) == (3, "0")
    counts = (workflow.completed_jobs, workflow.failed_jobs, workflow.canceled_jobs, workflow.skipped_jobs)
    assert counts == (6, 1, 2, 1)


def test_a_job_that_fails_is_run_again_after_growing_pauses(client: Client) -> None:
    again = {"count": 3, "delay": "200ms", "backoff": 2}
    jobs = {
        "bad": sh(f"{note('$(date +%s%N)')}; exit 4", retries=again, volumes=["notes"]),
        "good": {"retries": again},
        "next": {"requires": "good"},
        "then": {"requires": {"bad": "FAILED"}},
    }
    with notes(client) as noted:
        workflow, found = ended(client, run(client, jobs))
        times = noted()
    assert workflow.status == "FAILED"
    assert tries(found) == {"bad": 4, "good": 1, "next": 1, "then": 1}
    assert (found["bad"].status, found["bad"].exit_code, found["bad"].most_tries) == ("FAILED", 4, 4)
    pauses = [(after - before) / 1e9 for before, after in pairwise(map(int, times))]
    assert all(pause >= least for pause, least in zip(pauses, (0.2, 0.4, 0.8), strict=True)), pauses


def test_each_combination_of_a_matrix_is_a_job_and_the_group_waits_for_all(client: Client) -> None:
    jobs = {
        "test": sh("test ${matrix.py}-${matrix.db} != 2-b", matrix={"py": [1, 2], "db": ["a", "b"]}),
        "all": {"requires": "test"},
        "one": {"requires": "test-1-a"},
        "any": {"requires": {"test": "FINISHED"}},
    }
    workflow, found = ended(client, run(client, jobs))
    assert workflow.status == "FAILED"
    assert states(found) == {
        **dict.fromkeys(("test-1-a", "test-1-b", "test-2-a", "one", "any"), "COMPLETED"),
        "test-2-b": "FAILED",
        "all": "CANCELED",
    }
    assert {job.group for name, job in found.items() if name.startswith("test")} == {"test"}


def test_no_more_jobs_run_at_once_than_the_workflow_allows(client: Client) -> None:
    jobs = {f"job-{n}": sh("sleep 0.15") for n in range(6)}
    workflow, found = ended(client, run(client, jobs, max_parallel=2))
    assert workflow.status == "COMPLETED"
    for job in found.values():
        beside = [each for each in found.values() if began(each) <= began(job) < over(each)]
        assert len(beside) <= 2


def test_what_a_job_leaves_is_there_for_those_that_wait_for_it(client: Client) -> None:
    leave = 'echo rows=42 >> "$JOBLET_OUTPUT"; echo "text=a b" >> "$JOBLET_OUTPUT"; mkdir d; echo kept > d/f'
    jobs = {
        "load": sh(leave, outputs={"files": ["d/f"]}),
        "use": sh(
            'echo "$ROWS ${jobs.load.text}"; cat inputs/load/d/f',
            requires="load",
            environment={"ROWS": "${jobs.load.rows}"},
        ),
    }
    workflow, found = ended(client, run(client, jobs))
    assert workflow.status == "COMPLETED", found
    assert dict(found["load"].outputs) == {"rows": "42", "text": "a b"}
    assert client.log(found["use"].job_uuid) == b"42 a b\nkept\n"


def test_workflows_with_equal_names_of_jobs_do_not_meet(client: Client) -> None:
    well = run(client, {"a": sh("sleep 0.3; echo one"), "b": {"requires": "a"}})
    badly = run(client, {"a": sh("echo two; exit 1"), "b": {"requires": "a"}})
    first, found = ended(client, well)
    second, others = ended(client, badly)
    assert (first.status, states(found)) == ("COMPLETED", {"a": "COMPLETED", "b": "COMPLETED"})
    assert (second.status, states(others)) == ("FAILED", {"a": "FAILED", "b": "CANCELED"})
    logs = [client.log(each["a"].job_uuid) for each in (found, others)]
    assert logs == [b"one\n", b"two\n"]
    reply = client.jobs.GetWorkflowJobs(pb.GetWorkflowJobsRequest(workflow_uuid=badly), timeout=DEADLINE)
    assert [job.job_uuid for job in reply.jobs] == [job.job_uuid for job in others.values()]


def test_its_jobs_are_in_a_slice_that_tells_what_it_is(client: Client) -> None:
    workflow_id = run(client, {"a": sh("exec sleep 1000"), "b": {"requires": "a"}}, name="nightly")
    job = until(client, workflow_id, "a")
    slice_name = slice_of(workflow_id)
    assert status(client, workflow_id).workflow.slice == slice_name
    assert shown(unit_of(job.job_uuid))["Slice"] == slice_name
    assert shown(slice_name)["Slice"] == "joblet-jobs.slice"
    told = command("systemctl", "status", "--no-pager", slice_name).stdout
    assert "nightly" in told.splitlines()[0]
    assert unit_of(job.job_uuid) in told
    client.jobs.StopJob(pb.StopJobRequest(uuid=job.job_uuid), timeout=DEADLINE)
    workflow, found = ended(client, workflow_id)
    assert states(found) == {"a": "STOPPED", "b": "CANCELED"}
    assert workflow.stopped_jobs == 1


def test_deleting_it_deletes_its_jobs(client: Client) -> None:
    again = {"count": 1}
    workflow_id = run(client, {"a": sh("exit 1", retries=again), "b": {"requires": {"a": "FAILED"}}})
    ended(client, workflow_id)
    ids = [job.job_uuid for job in members(client, workflow_id).values()]
    assert delete(client, workflow_id) == 3
    listed = {job.uuid for job in client.jobs.ListJobs(pb.EmptyRequest(), timeout=DEADLINE).jobs}
    assert not listed & set(ids)
