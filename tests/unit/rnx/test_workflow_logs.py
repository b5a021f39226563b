"""rnx workflow logs, and --attach: the output of several jobs in one stream, across restarts of the agent."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from rnx.workflows import following
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure
from tests.unit.rnx.workflows import change, info, job, job_id, lost, status_of, watching, writing

CHECKOUT = Path(__file__).parents[3]
LIMIT = 60
BUILD, TEST = job("build", "COMPLETED", 2), job("test-of-it", "COMPLETED", 1)
DONE = info("COMPLETED", total_jobs=2, completed_jobs=2)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, agent: FakeAgent) -> None:
    (tmp_path / "w.yml").write_text("jobs: {build: {command: x}, test-of-it: {command: y}}")
    agent.answers["RunWorkflow"] = pb.RunWorkflowResponse(workflow_uuid=UUID, status="STARTED")
    agent.answers["GetWorkflowStatus"] = status_of(DONE, BUILD, TEST, job("never", "SKIPPED"))
    writing(agent, {1: b"one\ntwo\n", 2: b"built", 3: b"again\n"})


def test_ended_jobs_come_as_they_were_started_behind_their_names(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("workflow", "logs", "1111")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines() == ["test-of-it | one", "test-of-it | two", "build      | built"]
    assert [each.no_follow for each in agent.asked("GetJobLogs")] == [True, True]
    assert agent.asked("WatchWorkflow") == []


def test_jobs_can_be_named_and_times_and_the_last_lines_asked_for(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("workflow", "logs", "--tail=5", "-t", "1111", "build")
    assert result.out == "build      | 2026-01-31T12:00:00.000Z built\n"
    assert [each.tail_lines for each in agent.asked("GetJobLogs")] == [5]
    result = rnx("workflow", "logs", "1111", "biuld")
    assert (result.status, result.err) == (
        2,
        "rnx: there is no job biuld in the workflow\nhint: did you mean build?\n",
    )


def test_the_name_of_a_matrix_is_all_its_jobs(agent: FakeAgent, rnx: Rnx) -> None:
    jobs = (
        job("m-1", "COMPLETED", 1, group="m"),
        job("m-2", "COMPLETED", 2, group="m"),
        job("b", "FAILED", 3),
    )
    agent.answers["GetWorkflowStatus"] = status_of(DONE, *jobs)
    assert rnx("workflow", "logs", "1111", "m").out == "m-1 | one\nm-1 | two\nm-2 | built\n"


def test_in_json_each_line_is_an_object(rnx: Rnx) -> None:
    lines = [json.loads(line) for line in rnx("workflow", "logs", "1111", "-t", "--json").out.splitlines()]
    assert lines[2] == {
        "job": "build",
        "job_uuid": job_id(2),
        "timestamp": "2026-01-31T12:00:00.000Z",
        "data": "built",
    }


def test_a_job_that_was_deleted_is_told_and_left_out(agent: FakeAgent, rnx: Rnx) -> None:
    def log(request: Any, context: Any) -> Iterator[pb.DataChunk]:
        if request.uuid == job_id(1):
            context.set_trailing_metadata((("joblet-reason", "JOB_NOT_FOUND"),))
            context.abort(grpc.StatusCode.NOT_FOUND, "no job")
        yield pb.DataChunk(payload=b"built")

    agent.answers["GetJobLogs"] = log
    result = rnx("workflow", "logs", "1111")
    assert (result.status, result.out, result.err) == (0, "build      | built\n", "rnx: test-of-it: no job\n")


def test_running_and_new_jobs_are_followed(agent: FakeAgent, rnx: Rnx) -> None:
    build = job("build", "RUNNING", 2)
    agent.answers["GetWorkflowStatus"] = status_of(info(), build, TEST, job("new"))
    watching(
        agent,
        [change(info(), build, TEST, job("new")), change(info(), job("new", "RUNNING", 3)), change(DONE)],
    )
    result = rnx("workflow", "logs", "1111", "-f")
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[:2] == ["test-of-it | one", "test-of-it | two"]
    assert sorted(result.out.splitlines()[2:]) == ["build      | built", "new        | again"]
    assert len(agent.asked("GetJobLogs")) == 3, "what was shown is not asked for again"
    assert rnx("workflow", "logs", "1111", "--no-follow").out.splitlines()[2:] == ["build      | built"]


def test_attached_it_tells_output_states_and_its_end(agent: FakeAgent, rnx: Rnx) -> None:
    again = job("build", "FAILED", 3, exit_code=3, tries=2, most_tries=2, message="gave up\x1b")
    watching(
        agent,
        [
            change(info(), job("build", "RUNNING", 2), job("test-of-it")),
            change(info(), job("build", "WAITING", 2, tries=1, most_tries=2)),
            change(info(), job("build", "RUNNING", 3, tries=2, most_tries=2)),
            change(info(), again),
            change(info("FAILED", total_jobs=2, failed_jobs=1), job("test-of-it", "CANCELED")),
        ],
    )
    result = rnx("workflow", "run", "--attach", "w.yml")
    assert result.status == 1
    assert sorted(result.out.splitlines()) == ["build      | again", "build      | built"]
    lines = result.err.splitlines()
    assert lines[:3] == [
        "Workflow validation passed",
        "Running workflow from: w.yml",
        f"Workflow created with UUID: {UUID}",
    ]
    assert lines[-1] == "rnx: workflow FAILED: 0/2 jobs completed (1 failed)"
    assert sorted(lines[3:-1]) == [
        "rnx: build FAILED (exit code 3, try 2 of 2): gave up\\x1b",
        "rnx: build RUNNING",
        "rnx: build RUNNING (try 2 of 2)",
        "rnx: build WAITING (try 2 of 2 follows)",
        "rnx: test-of-it CANCELED",
    ]


def test_the_status_is_0_only_if_it_has_completed(agent: FakeAgent, rnx: Rnx) -> None:
    for state, status in (("COMPLETED", 0), ("FAILED", 1), ("STOPPED", 1), ("CANCELED", 1)):
        watching(agent, [change(info(state))])
        assert rnx("workflow", "run", "-a", "w.yml").status == status


def test_pauses_and_wishes_are_told(agent: FakeAgent, rnx: Rnx) -> None:
    paused, stopping = info(paused=True), info(ending="stop")
    watching(agent, [change(each) for each in (info(), paused, paused, info(), stopping, info("STOPPED"))])
    assert rnx("workflow", "run", "-a", "w.yml").err.splitlines()[3:] == [
        "rnx: workflow RUNNING (paused)",
        "rnx: workflow RUNNING",
        "rnx: workflow RUNNING (stopping)",
        "rnx: workflow STOPPED: 0/0 jobs completed",
    ]


def test_a_failure_of_ours_is_no_success(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["WatchWorkflow"] = failure(grpc.StatusCode.PERMISSION_DENIED, "not allowed")
    result = rnx("workflow", "run", "-a", "w.yml")
    assert (result.status, result.err.splitlines()[-1]) == (1, "rnx: not allowed")


def test_restarts_of_the_agent_cost_no_line_and_no_change(agent: FakeAgent, rnx: Rnx) -> None:
    content = b"".join(b"%d\n" % number for number in range(3000))
    half = threading.Event()

    def log(request: Any, context: Any) -> Iterator[pb.DataChunk]:
        for start in range(request.offset, len(content), 997):
            yield pb.DataChunk(payload=content[start : start + 997], offset=start)
            if start > 5000 and not half.is_set():
                half.set()
                lost(context)

    agent.answers["GetJobLogs"] = log
    states = [pb.GetJobStatusResponse(status="RUNNING"), pb.GetJobStatusResponse(status="COMPLETED")]
    agent.answers["GetJobStatus"] = lambda *_: states.pop(0)
    running = change(info(), job("build", "RUNNING", 2), job("test-of-it"))
    watching(agent, [running, lost], [lost], [running], [running, change(DONE, job("build", "COMPLETED", 2))])
    result = rnx("workflow", "run", "-a", "w.yml")
    assert result.status == 0
    assert result.out.splitlines() == [f"build      | {number}" for number in range(3000)]
    told = [line for line in result.err.splitlines() if line.startswith("rnx: build")]
    assert told == ["rnx: build RUNNING", "rnx: build COMPLETED"]


def test_more_jobs_than_calls_take_turns(agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "MOST_LOGS", 3)
    jobs = [job(f"j{number}", "COMPLETED", number) for number in range(1, 41)]
    writing(agent, {number: b"%d" % number for number in range(1, 41)})
    watching(agent, [change(DONE, *jobs)])
    lines = rnx("workflow", "run", "-a", "w.yml").out.splitlines()
    assert sorted(lines) == sorted(f"{f'j{number}':3} | {number}" for number in range(1, 41))


def test_a_job_in_the_queue_takes_no_turn(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_LOGS", 1)
    second = threading.Event()

    def log(request: Any, _: Any) -> Iterator[pb.DataChunk]:
        if request.uuid == job_id(2):
            second.set()
        assert second.wait(LIMIT)
        yield pb.DataChunk(payload=request.uuid[7:8].encode())

    def until_asked(_: Any) -> None:
        assert second.wait(LIMIT)

    agent.answers["GetJobLogs"] = log
    build = job("build", "COMPLETED", 1)
    watching(
        agent,
        [
            change(info(), job("build", "PENDING", 1), job("test-of-it", "RUNNING", 2)),
            until_asked,
            change(DONE, build, job("test-of-it", "COMPLETED", 2)),
        ],
    )
    lines = rnx("workflow", "run", "-a", "w.yml").out.splitlines()
    assert lines == ["test-of-it | 2", "build      | 1"]


def test_lines_of_a_terminal_have_the_colour_of_their_job(rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.workflows.lines.uses_colours", lambda: True)
    lines = rnx("workflow", "logs", "1111").out.splitlines()
    assert lines[0] == "\x1b[33mtest-of-it |\x1b[0m one\x1b[0m"
    assert lines[2] == "\x1b[36mbuild      |\x1b[0m built\x1b[0m"


def test_a_line_without_an_end_is_not_kept_for_ever(agent: FakeAgent, rnx: Rnx) -> None:
    writing(agent, {1: b"a" * 200_000 + b"\nb", 2: b""})
    out = rnx("workflow", "logs", "1111").out
    assert out.count("a" * 65_536) == 3
    assert out.endswith("\ntest-of-it | b\n")


def test_ctrl_c_leaves_the_workflow_to_itself_and_says_how_to_go_on(agent: FakeAgent, tmp_path: Path) -> None:
    runs, ends = threading.Event(), threading.Event()

    def watch(_: Any, context: Any) -> Iterator[Any]:
        context.add_callback(ends.set)
        yield change(info(), job("build", "RUNNING", 2))
        runs.set()
        ends.wait(LIMIT)

    agent.answers["WatchWorkflow"] = watch
    with subprocess.Popen(
        [sys.executable, "-m", "rnx", "workflow", "run", "--attach", "w.yml"],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert runs.wait(LIMIT)
        assert process.stdout is not None
        assert process.stdout.readline() == "build | built\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130
    assert err.rstrip().splitlines()[-2:] == [
        f"rnx: workflow {UUID} goes on",
        f"hint: rnx workflow status {UUID}; rnx workflow logs {UUID}; rnx workflow stop {UUID}",
    ]
    assert not agent.asked("StopWorkflow")
