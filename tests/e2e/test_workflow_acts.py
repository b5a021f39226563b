"""Workflows that are stopped, canceled, paused, run again, refused; and who may."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.certificates import make, make_ca
from tests.e2e.agent import DEADLINE, Client, command, eventually
from tests.e2e.host import refusal
from tests.e2e.network import channel, listening
from tests.e2e.workflows import (
    delete,
    ended,
    forget_all,
    members,
    note,
    notes,
    run,
    sh,
    states,
    status,
    text_of,
    tries,
    until,
)

pytestmark = pytest.mark.systemd

LONG = sh("exec sleep 1000")


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    yield
    forget_all(client)


def stop(client: Client, workflow_id: str) -> pb.WorkflowInfo:
    request = pb.StopWorkflowRequest(workflow_uuid=workflow_id)
    workflow: pb.WorkflowInfo = client.agent.StopWorkflow(request, timeout=DEADLINE).workflow
    return workflow


def retry(client: Client, workflow_id: str, *, failed_only: bool) -> pb.WorkflowInfo:
    request = pb.RetryWorkflowRequest(workflow_uuid=workflow_id, failed_only=failed_only)
    workflow: pb.WorkflowInfo = client.agent.RetryWorkflow(request, timeout=DEADLINE).workflow
    return workflow


def test_to_stop_it_ends_what_runs_and_cancels_what_waits(client: Client) -> None:
    jobs = {"a": LONG, "b": LONG, "c": {"requires": "a"}, "tidy": {"when": "always"}, "done": {}}
    workflow_id = run(client, jobs)
    for name, state in (("a", "RUNNING"), ("b", "RUNNING"), ("done", "COMPLETED")):
        until(client, workflow_id, name, state)
    assert stop(client, workflow_id).ending == "stop"
    workflow, found = ended(client, workflow_id)
    assert workflow.status == "STOPPED"
    assert states(found) == {
        **dict.fromkeys("ab", "STOPPED"),
        "c": "CANCELED",
        "tidy": "CANCELED",
        "done": "COMPLETED",
    }
    again = refusal(lambda: stop(client, workflow_id))
    assert again == ("FAILED_PRECONDITION", "WORKFLOW_ENDED")


def test_to_cancel_it_lets_go_on_what_runs(client: Client) -> None:
    with notes(client) as noted:
        going_on = sh(f"sleep 0.5; {note('end')}", volumes=["notes"])
        workflow_id = run(client, {"a": going_on, "b": {"requires": "a"}})
        until(client, workflow_id, "a")
        request = pb.CancelWorkflowRequest(workflow_uuid=workflow_id)
        answer = client.agent.CancelWorkflow(request, timeout=DEADLINE).workflow
        assert (answer.status, answer.ending) == ("RUNNING", "cancel")
        workflow, found = ended(client, workflow_id)
        assert noted() == ["end"]
    assert workflow.status == "CANCELED"
    assert states(found) == {"a": "COMPLETED", "b": "CANCELED"}


def test_while_it_is_paused_nothing_goes_on_and_nothing_starts(client: Client) -> None:
    with notes(client) as noted:
        ticks = sh(f"while sleep 0.05; do {note('tick')}; test -e end && break; done", volumes=["notes"])
        jobs = {"a": ticks, "b": sh("sleep 0.3"), "c": {"requires": "b"}}
        workflow_id = run(client, jobs)
        eventually(noted, lambda words: len(words) > 1)
        request = pb.PauseWorkflowRequest(workflow_uuid=workflow_id)
        assert client.agent.PauseWorkflow(request, timeout=DEADLINE).workflow.paused
        assert refusal(lambda: client.agent.PauseWorkflow(request))[1] == "WORKFLOW_PAUSED"
        job_id = until(client, workflow_id, "a").job_uuid
        eventually(lambda: client.status(job_id).paused, bool)
        words = noted()
        with pytest.raises(AssertionError, match="not within"):
            eventually(noted, lambda now: now != words, within=0.5)
        assert members(client, workflow_id)["c"].status == "WAITING"
        resume = pb.ResumeWorkflowRequest(workflow_uuid=workflow_id)
        assert not client.agent.ResumeWorkflow(resume, timeout=DEADLINE).workflow.paused
        assert refusal(lambda: client.agent.ResumeWorkflow(resume))[1] == "WORKFLOW_NOT_PAUSED"
        eventually(noted, lambda now: len(now) > len(words))
        until(client, workflow_id, "c", "COMPLETED")
        stop(client, workflow_id)
        _, found = ended(client, workflow_id)
    assert states(found) == {"a": "STOPPED", "b": "COMPLETED", "c": "COMPLETED"}


def test_only_what_has_not_completed_is_run_again(client: Client) -> None:
    with notes(client) as noted:
        once = sh(f"{note('a')}", volumes=["notes"])
        first_fails = sh(f"grep -q b /volumes/notes/notes; s=$?; {note('b')}; exit $s", volumes=["notes"])
        jobs = {"a": once, "b": {**first_fails, "requires": "a"}, "c": {"requires": "b"}}
        workflow_id = run(client, jobs)
        workflow, found = ended(client, workflow_id)
        assert (workflow.status, states(found)["c"]) == ("FAILED", "CANCELED")
        assert retry(client, workflow_id, failed_only=True).uuid == workflow_id
        workflow, found = ended(client, workflow_id)
        assert (workflow.status, noted()) == ("COMPLETED", ["a", "b", "b"])
        assert set(states(found).values()) == {"COMPLETED"}
        nothing = refusal(lambda: retry(client, workflow_id, failed_only=True))
        assert nothing == ("FAILED_PRECONDITION", "NOTHING_TO_RETRY")
        retry(client, workflow_id, failed_only=False)
        workflow, _ = ended(client, workflow_id)
        assert (workflow.status, noted()) == ("COMPLETED", ["a", "b", "b", "a", "b"])


def test_what_goes_on_is_neither_deleted_nor_run_again(client: Client) -> None:
    workflow_id = run(client, {"a": LONG})
    until(client, workflow_id, "a")
    for act in (lambda: delete(client, workflow_id), lambda: retry(client, workflow_id, failed_only=False)):
        assert refusal(act) == ("FAILED_PRECONDITION", "WORKFLOW_NOT_ENDED")
    job_id = members(client, workflow_id)["a"].job_uuid
    stop(client, workflow_id)
    ended(client, workflow_id)
    assert client.ended(job_id).status == "STOPPED"


def test_the_same_request_twice_makes_one_workflow(client: Client) -> None:
    request = pb.RunWorkflowRequest(yaml_content=text_of({"a": {}}), token=uuid.uuid4().hex)
    ids = {client.jobs.RunWorkflow(request, timeout=DEADLINE).workflow_uuid for _ in range(2)}
    (workflow_id,) = ids
    assert ended(client, workflow_id)[0].status == "COMPLETED"
    other = pb.RunWorkflowRequest(yaml_content=text_of({"b": {}}), token=request.token)
    assert refusal(lambda: client.jobs.RunWorkflow(other))[0] == "INVALID_ARGUMENT"


WRONG_IN_ITSELF = """\
jobs:
  a: {command: x, requires: b, retires: 1}
  b: {command: x, requires: [a, {c: COMPLETED}]}
"""
WRONG_HERE = """\
jobs:
  a: {command: x, volumes: [no-such-volume], network: no-such-network, uploads: {files: [no-such-file]}}
  b: {command: x, resources: {max_memory: 1000T}, requires: a}
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            WRONG_IN_ITSELF,
            ("unknown key, did you mean retries?", "there is no job 'c'", "circular dependency: "),
        ),
        (WRONG_HERE, ("no-such-volume", "no-such-network", "no-such-file", "max_memory")),
    ],
    ids=["in itself", "on this host"],
)
def test_all_that_is_wrong_is_told_and_nothing_starts(
    client: Client, text: str, words: tuple[str, ...]
) -> None:
    check = pb.CheckWorkflowRequest(yaml_content=text)
    found = client.agent.CheckWorkflow(check, timeout=DEADLINE).problems
    told = "\n".join(f"{each.line}: {each.key}: {each.message}" for each in found)
    for each in words:
        assert each in told, told
    assert {each.line for each in found} == {2, 3}
    with pytest.raises(grpc.RpcError) as caught:
        client.jobs.RunWorkflow(pb.RunWorkflowRequest(yaml_content=text), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "workflow validation failed: " in str(caught.value.details())
    listed = client.jobs.ListWorkflows(pb.ListWorkflowsRequest(include_completed=True), timeout=DEADLINE)
    assert not listed.workflows


def test_a_secret_is_in_the_job_and_nowhere_else(client: Client) -> None:
    word = uuid.uuid4().hex
    jobs = {"a": sh('test "$KEY" = ' + f'"$(echo {word[:16]})"{word[16:]}', secret_environment={"KEY": word})}
    workflow_id = run(client, jobs)
    workflow, found = ended(client, workflow_id)
    assert workflow.status == "COMPLETED"
    assert word not in status(client, workflow_id).workflow.yaml_content
    assert "***" in status(client, workflow_id).workflow.yaml_content
    # They go with the end, so there is nothing that the jobs could be run again with.
    again = refusal(lambda: retry(client, workflow_id, failed_only=False))
    assert again == ("FAILED_PRECONDITION", "SECRETS_GONE")
    held = command("grep", "-rl", word, "/var/lib/joblet", "/run/joblet", "/run/log", "/var/log", check=False)
    assert held.stdout == ""
    assert tries(found) == {"a": 1}


def test_a6_the_workflows_of_another_operator_are_not_there() -> None:
    ca = make_ca()
    with listening(ca, "jobs:\n  visibility: own\n"), ExitStack() as stack:
        own = uuid.uuid4().hex[:8]
        people: list[tuple[Any, Any]] = []
        for name in ("eve", "bob"):
            made = stack.enter_context(channel(make(f"{name}-{own}", "operator", ca=ca), ca))
            people.append((stubs.JobServiceStub(made), stubs.AgentServiceStub(made)))  # type: ignore[no-untyped-call]
        (eve_jobs, eve), (bob_jobs, bob) = people
        request = pb.RunWorkflowRequest(yaml_content=text_of({"a": LONG, "b": {"requires": "a"}}))
        theirs = bob_jobs.RunWorkflow(request, timeout=DEADLINE, wait_for_ready=True).workflow_uuid
        calls: list[tuple[Any, Any]] = [
            (eve_jobs.GetWorkflowStatus, pb.GetWorkflowStatusRequest),
            (eve_jobs.GetWorkflowJobs, pb.GetWorkflowJobsRequest),
            (eve.StopWorkflow, pb.StopWorkflowRequest),
            (eve.CancelWorkflow, pb.CancelWorkflowRequest),
            (eve.PauseWorkflow, pb.PauseWorkflowRequest),
            (eve.ResumeWorkflow, pb.ResumeWorkflowRequest),
            (eve.RetryWorkflow, pb.RetryWorkflowRequest),
            (eve.DeleteWorkflow, pb.DeleteWorkflowRequest),
        ]
        for given in (theirs, theirs[:8]):
            for call, kind in calls:
                assert refusal(lambda c=call, k=kind, g=given: c(k(workflow_uuid=g)))[0] == "NOT_FOUND"  # type: ignore[misc]
            watch = eve.WatchWorkflow(pb.WatchWorkflowRequest(workflow_uuid=given))
            assert refusal(lambda w=watch: next(w))[0] == "NOT_FOUND"  # type: ignore[misc]
        every = pb.ListWorkflowsRequest(include_completed=True)
        assert not eve_jobs.ListWorkflows(every, timeout=DEADLINE).workflows
        assert [each.uuid for each in bob_jobs.ListWorkflows(every, timeout=DEADLINE).workflows] == [theirs]
        bob.StopWorkflow(pb.StopWorkflowRequest(workflow_uuid=theirs), timeout=DEADLINE)
        watched = list(bob.WatchWorkflow(pb.WatchWorkflowRequest(workflow_uuid=theirs), timeout=DEADLINE))
        assert watched[-1].workflow.status == "STOPPED"
