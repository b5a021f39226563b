"""What callers are told of workflows, and what a repeated or interrupted call comes to."""

import json
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, ENDED, Client, eventually, kill_agent, persist, wait_for_agent
from tests.e2e.host import STATE, refusal
from tests.e2e.test_audit import audited, results

pytestmark = pytest.mark.systemd

CHAIN = """\
jobs:
  first: {command: sh, args: ["-c", "echo KEY=value > $JOBLET_OUTPUT"]}
  second: {command: "true", requires: [{first: COMPLETED}]}
"""
WAITING = "jobs: {wait: {command: sleep, args: ['1000']}, later: {command: 'true', requires: [wait]}}"


def run(client: Client, text: str, **fields: Any) -> str:
    reply = client.jobs.RunWorkflow(pb.RunWorkflowRequest(yaml_content=text, **fields), timeout=DEADLINE)
    return str(reply.workflow_uuid)


def status_of(client: Client, workflow_id: str) -> pb.GetWorkflowStatusResponse:
    request = pb.GetWorkflowStatusRequest(workflow_uuid=workflow_id)
    reply: pb.GetWorkflowStatusResponse = persist(
        lambda: client.jobs.GetWorkflowStatus(request, timeout=DEADLINE)
    )
    return reply


def ended(client: Client, workflow_id: str) -> pb.GetWorkflowStatusResponse:
    return eventually(
        lambda: status_of(client, workflow_id), lambda status: status.workflow.status in ENDED, within=60
    )


@contextmanager
def waiting(client: Client, **fields: Any) -> Iterator[str]:
    """A workflow whose first job runs, stopped in the end if it has not ended."""
    workflow_id = run(client, WAITING, **fields)
    eventually(lambda: status_of(client, workflow_id).jobs[0].status, lambda status: status == "RUNNING")
    yield workflow_id
    if status_of(client, workflow_id).workflow.status not in ENDED:
        client.agent.StopWorkflow(pb.StopWorkflowRequest(workflow_uuid=workflow_id), timeout=DEADLINE)
        ended(client, workflow_id)


def test_a_watch_tells_all_jobs_then_what_changes_and_ends_with_the_workflow(client: Client) -> None:
    with waiting(client) as workflow_id:
        call = client.agent.WatchWorkflow(pb.WatchWorkflowRequest(workflow_uuid=workflow_id[:13]), timeout=60)
        first = next(call)
        assert (first.workflow.uuid, first.workflow.status) == (workflow_id, "RUNNING")
        assert [(job.job_name, job.status) for job in first.jobs] == [
            ("wait", "RUNNING"),
            ("later", "WAITING"),
        ]
        client.agent.StopWorkflow(pb.StopWorkflowRequest(workflow_uuid=workflow_id), timeout=DEADLINE)
        rest = list(call)
    told = {job.job_name: job.status for reply in rest for job in reply.jobs}
    assert told == {"wait": "STOPPED", "later": "CANCELED"}
    assert rest[-1].workflow.status == "STOPPED"
    again = list(client.agent.WatchWorkflow(pb.WatchWorkflowRequest(workflow_uuid=workflow_id), timeout=60))
    assert [job.status for reply in again for job in reply.jobs] == ["STOPPED", "CANCELED"]


def test_jobs_know_their_workflow_and_the_workflow_its_jobs(client: Client) -> None:
    workflow_id = run(client, CHAIN, workflow="chain.yml")
    status = ended(client, workflow_id)
    first, second = status.jobs
    assert (status.workflow.status, status.workflow.workflow) == ("COMPLETED", "chain.yml")
    assert (dict(first.outputs), second.requires) == ({"KEY": "value"}, "first=COMPLETED")
    page = client.agent.QueryJobs(pb.QueryJobsRequest(workflow_uuid=workflow_id), timeout=DEADLINE)
    assert {(job.uuid, job.name, job.workflow_uuid) for job in page.jobs} == {
        (first.job_uuid, "first", workflow_id),
        (second.job_uuid, "second", workflow_id),
    }
    record = client.status(second.job_uuid)
    assert (record.workflow_uuid, list(record.dependencies)) == (workflow_id, ["first"])
    unit = client.agent.ExplainJob(pb.ExplainJobRequest(uuid=second.job_uuid), timeout=DEADLINE)
    assert status.workflow.slice in {each.value for each in unit.properties if each.name == "Slice"}


def test_a_check_tells_what_is_wrong_or_how_it_would_run_and_leaves_nothing(client: Client) -> None:
    before = _known(client)
    wrong = "jobs: {a: {command: x, requires: [b]}, c: {comand: x}}"
    reply = client.agent.CheckWorkflow(pb.CheckWorkflowRequest(yaml_content=wrong), timeout=DEADLINE)
    assert len(reply.problems) >= 2
    assert all(problem.line == 1 and problem.column for problem in reply.problems)
    assert "command" in " ".join(problem.message for problem in reply.problems)
    assert not reply.jobs

    request = pb.CheckWorkflowRequest(yaml_content=CHAIN, explain=True)
    reply = client.agent.CheckWorkflow(request, timeout=DEADLINE)
    assert not reply.problems
    assert [(job.name, job.step, job.requires) for job in reply.jobs] == [
        ("first", 1, ""),
        ("second", 2, "first=COMPLETED"),
    ]
    assert {job.slice for job in reply.jobs} == {"joblet-jobs-*.slice"}
    assert all(job.explain.properties for job in reply.jobs)
    assert _known(client) == before


def _known(client: Client) -> tuple[set[str], set[str]]:
    listed = client.jobs.ListWorkflows(pb.ListWorkflowsRequest(include_completed=True), timeout=DEADLINE)
    return {each.uuid for each in listed.workflows}, {path.name for path in (STATE / "workflows").iterdir()}


def test_c9_a_workflow_that_is_submitted_again_through_kills_runs_once(client: Client) -> None:
    text = "secret_environment: {KEY: s3cr3t}\n" + CHAIN
    tokens = [f"test {uuid.uuid4()}" for _ in range(4)]
    before, _ = _known(client)

    def submit(token: str) -> str:
        own = Client()
        try:
            return persist(lambda: run(own, text, token=token))
        finally:
            own.close()

    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(submit, token) for token in tokens]
        while not all(call.done() for call in calls):
            wait_for_agent(client)
            kill_agent()
        ids = {call.result() for call in calls}
    wait_for_agent(client)
    assert [submit(token) in ids for token in tokens] == [True] * 4
    assert (len(ids), _known(client)[0] - before) == (4, ids)
    for workflow_id in ids:
        status = ended(client, workflow_id)
        assert (status.workflow.status, [job.tries for job in status.jobs]) == ("COMPLETED", [1, 1])
    other = pb.RunWorkflowRequest(yaml_content=WAITING, token=tokens[0])
    assert refusal(lambda: client.jobs.RunWorkflow(other, timeout=30)) == ("INVALID_ARGUMENT", "TOKEN_REUSED")


def test_what_is_done_to_a_workflow_is_in_the_trail_and_no_secret_is(client: Client) -> None:
    since, secret = time.time_ns() // 1000, uuid.uuid4().hex
    text = f"secret_environment: {{KEY: {secret}}}\n" + WAITING
    workflow_id = run(client, text, workflow="nightly.yml")
    for verb in ("Pause", "Resume", "Stop"):
        request = getattr(pb, f"{verb}WorkflowRequest")(workflow_uuid=workflow_id[:13])
        getattr(client.agent, f"{verb}Workflow")(request, timeout=DEADLINE)
    assert secret not in str(ended(client, workflow_id))
    client.agent.DeleteWorkflow(pb.DeleteWorkflowRequest(workflow_uuid=workflow_id), timeout=DEADLINE)
    records = audited(since, f"JOBLET_WORKFLOW_ID={workflow_id}")
    assert results(records) == [
        ("JobService/RunWorkflow", "done", None),
        ("AgentService/PauseWorkflow", "done", None),
        ("AgentService/ResumeWorkflow", "done", None),
        ("AgentService/StopWorkflow", "done", None),
        ("AgentService/DeleteWorkflow", "done", None),
    ]
    assert records[0]["JOBLET_NAME"] == "nightly.yml"
    assert secret not in json.dumps(audited(since))


def test_a_workflow_that_starts_later_says_so_and_is_recorded_when_it_does(client: Client) -> None:
    since = time.time_ns() // 1000
    soon = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    request = pb.RunWorkflowRequest(yaml_content=f"schedule: '{soon}'\n" + CHAIN)
    reply = client.jobs.RunWorkflow(request, timeout=DEADLINE)
    assert (reply.status, reply.scheduled_time[:19], reply.total_jobs) == ("SCHEDULED", soon[:19], 2)
    assert ended(client, reply.workflow_uuid).workflow.status == "COMPLETED"
    records = audited(since, f"JOBLET_WORKFLOW_ID={reply.workflow_uuid}")
    assert results(records) == [("JobService/RunWorkflow", "done", None), ("timer", "done", None)]


def test_a_calendar_makes_a_schedule_which_tells_of_its_workflows(client: Client) -> None:
    request = pb.RunWorkflowRequest(
        yaml_content="name: often\nschedule: '*:*:0/2'\n" + CHAIN, workflow="often.yml"
    )
    made = client.jobs.RunWorkflow(request, timeout=DEADLINE)
    assert (made.workflow_uuid, made.status) == ("", "SCHEDULED")
    wanted = pb.GetScheduleRequest(uuid=made.schedule_uuid)
    try:
        shown = eventually(
            lambda: client.agent.GetSchedule(wanted, timeout=DEADLINE), lambda shown: len(shown.workflows) > 1
        )
    finally:
        removal = pb.RemoveScheduleRequest(uuid=made.schedule_uuid)
        client.agent.RemoveSchedule(removal, timeout=DEADLINE)
    schedule = shown.schedule
    assert (schedule.of_workflows, schedule.name, list(schedule.args)) == (True, "often", ["often.yml"])
    assert schedule.last_workflow_uuid == shown.workflows[0].uuid
    assert {each.schedule_uuid for each in shown.workflows} == {made.schedule_uuid}
    for each in shown.workflows:
        assert ended(client, each.uuid).workflow.status == "COMPLETED"
