"""rnx workflow stop, cancel, pause, resume, retry, delete."""

import itertools
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import click
import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import ACCESS
from rnx.cli import workflow_group
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure
from tests.unit.rnx.workflows import change, info, job, watching, writing


def answer(method: str, workflow: pb.WorkflowInfo) -> Any:
    return getattr(pb, f"{method}Response")(workflow=workflow)


@pytest.mark.parametrize(
    ("verb", "method", "told"),
    [
        ("cancel", "CancelWorkflow", "Workflow canceled successfully:"),
        ("pause", "PauseWorkflow", "Workflow paused successfully:"),
        ("resume", "ResumeWorkflow", "Workflow resumed successfully:"),
        ("retry", "RetryWorkflow", "Workflow runs again:"),
    ],
)
def test_each_is_one_call_and_says_how_it_stands(
    agent: FakeAgent, rnx: Rnx, verb: str, method: str, told: str
) -> None:
    agent.answers[method] = answer(method, info(total_jobs=3, completed_jobs=1))
    result = rnx("workflow", verb, "1111")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == [
        told,
        f"ID: {UUID}",
        "Status: RUNNING",
        "Progress: 1/3 jobs completed",
    ]
    assert [(name, request.workflow_uuid) for name, request in agent.requests] == [(method, "1111")]


@pytest.mark.parametrize(
    ("verb", "method"),
    [
        ("run", "JobService/RunWorkflow"),
        ("list", "JobService/ListWorkflows"),
        ("status", "JobService/GetWorkflowStatus"),
        ("logs", "JobService/GetJobLogs"),
        ("validate", "AgentService/CheckWorkflow"),
        *(
            (verb, f"AgentService/{verb.title()}Workflow")
            for verb in ("stop", "cancel", "pause", "resume", "retry", "delete")
        ),
    ],
)
def test_the_help_names_the_permission_that_it_takes(verb: str, method: str) -> None:
    command = workflow_group.get_command(click.Context(workflow_group), verb)
    assert command is not None
    assert f"Permission: {ACCESS[method].value}" in (command.help or "")


def test_stop_waits_until_it_has_ended(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["StopWorkflow"] = answer("StopWorkflow", info(ending="stop"))
    watching(
        agent, [change(info(ending="stop"), job("a", "RUNNING", 1)), change(info("STOPPED", ending="stop"))]
    )
    result = rnx("workflow", "stop", "1111")
    assert result.out.splitlines()[:3] == ["Workflow stopped successfully:", f"ID: {UUID}", "Status: STOPPED"]
    assert [each.workflow_uuid for each in agent.asked("WatchWorkflow")] == [UUID]


def test_stop_does_not_wait_for_ever(agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.client.STOP", timedelta(seconds=0.5))
    agent.answers["StopWorkflow"] = answer("StopWorkflow", info())

    def never(*_: Any) -> Iterator[Any]:
        for number in itertools.count():
            yield change(info(total_jobs=number % 1000))

    agent.answers["WatchWorkflow"] = never
    result = rnx("workflow", "stop", "1111")
    assert (result.status, result.out) == (1, "")
    assert result.err.startswith(f"rnx: workflow {UUID} is ending, and has not within 0 s\n")


def test_what_the_agent_refuses_is_told(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["StopWorkflow"] = failure(
        grpc.StatusCode.FAILED_PRECONDITION, "cannot stop workflow", "WORKFLOW_ENDED", "see"
    )
    result = rnx("workflow", "stop", "1111")
    assert (result.status, result.out, result.err) == (1, "", "rnx: cannot stop workflow\nhint: see\n")


def test_retry_of_what_failed_can_be_followed(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RetryWorkflow"] = answer("RetryWorkflow", info())
    writing(agent, {1: b"long ago", 2: b"well\n"})
    before = change(info(total_jobs=2), job("old", "COMPLETED", 1), job("a"))
    ended = info("COMPLETED", total_jobs=2, completed_jobs=2)
    watching(agent, [before, change(ended, job("a", "COMPLETED", 2))])
    result = rnx("workflow", "retry", "--failed", "--attach", "1111")
    assert (result.status, result.out) == (0, "a   | well\n")
    assert "old" not in result.err, "what had ended before is no news"
    assert [each.failed_only for each in agent.asked("RetryWorkflow")] == [True]


def test_delete_says_how_many_jobs_went_with_it(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["DeleteWorkflow"] = pb.DeleteWorkflowResponse(workflow_uuid=UUID, deleted_jobs=4)
    assert rnx("workflow", "delete", "1111").out == (
        f"Workflow deleted successfully:\nID: {UUID}\nDeleted Jobs: 4\n"
    )


def test_looking_at_files_loads_no_grpc(tmp_path: Path) -> None:
    (tmp_path / "w.yml").write_text("jobs: {a: {command: x}}")
    script = (
        "import sys; from rnx.entry import run_program; "
        "status = [run_program(['workflow', word, 'w.yml']) for word in ('validate', 'graph')]; "
        "sys.exit(status != [0, 0] or 'grpc' in sys.modules)"
    )
    checkout = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(checkout)}, cwd=tmp_path, check=False
    )
    assert done.returncode == 0
