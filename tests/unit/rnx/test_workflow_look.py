"""rnx workflow list, status, graph; the first form's list and status."""

import json
import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure
from tests.unit.rnx.workflows import NOON, at, change, info, job, job_id, lost, status_of, watching

RUNNING = info(
    total_jobs=4, completed_jobs=1, failed_jobs=1, running_jobs=1, started_at=at(1), name="nightly\x1b",
    slice="joblet-jobs-1.slice", yaml_content="jobs:\n  \x1b[2J: x\n",
)  # fmt: skip
JOBS = (
    job("load", "COMPLETED", 1, outputs={"ROWS": "7\x1b"}),
    job(
        "test", "FAILED", 2, exit_code=3, dependencies=["load"], tries=2, most_tries=3, message="gave up\x1b"
    ),
    job("report", "RUNNING", 3, dependencies=["load", "test"], requires="load=COMPLETED AND test=FAILED"),
    job("tell", dependencies=["report"]),
)
GONE = failure(grpc.StatusCode.NOT_FOUND, "no job with id 1111", "JOB_NOT_FOUND", "see: rnx list")


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")


@pytest.fixture(autouse=True)
def answers(agent: FakeAgent) -> None:
    agent.answers["GetWorkflowStatus"] = status_of(RUNNING, *JOBS)
    ended = info("COMPLETED", uuid=job_id(9), workflow="", total_jobs=1, completed_jobs=1, completed_at=at(5))
    agent.answers["ListWorkflows"] = pb.ListWorkflowsResponse(workflows=[RUNNING, ended])


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_the_list_has_the_published_columns_first(agent: FakeAgent, rnx: Rnx) -> None:
    header, _, *found = rows(rnx("workflow", "list").out)
    assert header == ["UUID", "STATUS", "PROGRESS", "CREATED", "NAME"]
    assert [row[:3] for row in found] == [[UUID, "RUNNING", "1/4"], [job_id(9), "COMPLETED", "1/1"]]
    assert [row[-1] for row in found] == ["nightly\\x1b", "-"]
    assert rnx("workflow", "list", "-q").out == f"{UUID}\n{job_id(9)}\n"
    rnx("workflow", "list", "--active")
    assert [each.include_completed for each in agent.asked("ListWorkflows")] == [True, True, False]


def test_the_list_of_the_first_form(agent: FakeAgent, rnx: Rnx) -> None:
    header, _, *found = rows(rnx("list", "--workflow").out)
    assert header == ["UUID", "WORKFLOW", "STATUS", "PROGRESS"]
    assert found == [[UUID, "w.yml", "RUNNING", "1/4"], [job_id(9), "-", "COMPLETED", "1/1"]]
    assert json.loads(rnx("list", "--workflow", "--json").out)[1] == {
        "uuid": job_id(9),
        "workflow": "",
        "status": "COMPLETED",
        "total_jobs": 1,
        "completed_jobs": 1,
        "failed_jobs": 0,
        "created_at": "2026-01-31T12:00:00Z",
        "completed_at": "2026-01-31T12:00:05Z",
    }
    assert rnx("list", "--workflow", "--state=FAILED").status == 2
    agent.answers["ListWorkflows"] = pb.ListWorkflowsResponse()
    assert rnx("list", "--workflow").out == "No workflows found\n"
    assert json.loads(rnx("workflow", "list", "--json").out) == []


def test_the_status_has_the_published_parts(rnx: Rnx) -> None:
    lines = rnx("workflow", "status", "1111").out.splitlines()
    assert lines[:8] == [
        f"Workflow UUID: {UUID}",
        "Workflow: nightly\\x1b",
        "",
        "Status: RUNNING",
        "Progress: 1/4 jobs completed (1 failed)",
        "",
        "Timing:",
        "  Created: 2026-01-31 12:00:00 UTC",
    ]
    table = lines[lines.index("Jobs in Workflow:") + 1 :]
    assert table[0] == f"{'JOB ID':38}{'JOB NAME':20}{'STATUS':12}{'EXIT CODE':10}DEPENDENCIES"
    assert table[1] == "-" * 100
    started = [line for line in table if line.startswith("  Started: ")]
    assert [line.split()[1] for line in started] == ["12:00:01", "12:00:02", "12:00:03"]
    assert "  Started: 12:00:02  Duration: 1.0s  Try: 2 of 3" in table
    assert "  Message: gave up\\x1b" in table
    assert f"{job_id(1):38}{'load':20}{'COMPLETED':12}{'0':10}-" in table
    assert f"{job_id(2):38}{'test':20}{'FAILED':12}{'3':10}load" in table
    assert f"{job_id(3):38}{'report':20}{'RUNNING':12}{'-':10}load, test" in table
    assert f"{'0':38}{'tell':20}{'WAITING':12}{'-':10}report" in table
    assert lines[-5:] == [f"  rnx workflow {word} {UUID}" for word in
                          ("logs", "status --watch", "pause", "cancel", "stop")]  # fmt: skip


def test_details_are_the_file_and_the_outputs(rnx: Rnx) -> None:
    text = rnx("workflow", "status", "-d", "1111").out
    for line in (
        "YAML Content:\n  jobs:\n    \\x1b[2J: x",
        "  Slice: joblet-jobs-1.slice",
        "  Output: ROWS=7\\x1b",
        "  Waits For: load=COMPLETED AND test=FAILED",
    ):
        assert line in text
    assert "\x1b" not in text


def test_a_pause_and_an_ending_stand_behind_the_state(agent: FakeAgent, rnx: Rnx) -> None:
    for more, shown in (({"paused": True}, "RUNNING (paused)"), ({"ending": "stop"}, "RUNNING (stopping)")):
        agent.answers["GetWorkflowStatus"] = status_of(info(**more))
        assert f"Status: {shown}\n" in rnx("workflow", "status", "1111").out
    agent.answers["GetWorkflowStatus"] = status_of(info("STOPPED", ending="stop"))
    assert "Status: STOPPED\n" in rnx("workflow", "status", "1111").out


def test_times_that_are_none_are_left_out(agent: FakeAgent, rnx: Rnx) -> None:
    never = pb.Timestamp(seconds=253_402_300_799, nanos=2**31 - 1)
    before = pb.Timestamp(seconds=-(2**63), nanos=-1)
    workflow = info(created_at=never, started_at=before)
    agent.answers["GetWorkflowStatus"] = status_of(workflow, job("a", "COMPLETED", 1, end_time=never))
    agent.answers["ListWorkflows"] = pb.ListWorkflowsResponse(workflows=[workflow])
    for words in (["workflow", "status", "1111"], ["workflow", "list"], ["workflow", "list", "--json"]):
        assert rnx(*words).status == 0


def test_json_of_the_status(rnx: Rnx) -> None:
    told = json.loads(rnx("workflow", "status", "1111", "--json").out)
    assert list(told)[:7] == [
        "uuid", "status", "total_jobs", "completed_jobs", "failed_jobs", "created_at", "started_at",
    ]  # fmt: skip
    assert told["created_at"] == {"seconds": NOON, "nanos": 0}
    assert "yaml_content" not in told
    assert told["jobs"][0] == {
        "id": job_id(1),
        "name": "load",
        "status": "COMPLETED",
        "exit_code": 0,
        "start_time": {"seconds": NOON + 1, "nanos": 0},
        "end_time": {"seconds": NOON + 2, "nanos": 0},
        "tries": 1,
        "outputs": {"ROWS": "7\x1b"},
    }
    assert told["jobs"][3] == {"id": "0", "name": "tell", "status": "WAITING", "dependencies": ["report"]}
    assert json.loads(rnx("workflow", "status", "-d", "1111", "--json").out)["yaml_content"]


def test_the_first_form_names_the_file_and_takes_ids_of_workflows_for_those_of_jobs(
    agent: FakeAgent, rnx: Rnx
) -> None:
    for words in (["--workflow", UUID], ["-w", UUID]):
        assert rnx("status", *words).out.startswith(f"Workflow UUID: {UUID}\nWorkflow: w.yml\n")
    assert agent.asked("GetJobStatus") == []
    agent.answers["GetJobStatus"] = GONE
    assert rnx("status", "1111").out.startswith(f"Workflow UUID: {UUID}\nWorkflow: w.yml\n")
    assert json.loads(rnx("status", "1111", "--json").out)["workflow"] == "w.yml"


@pytest.mark.parametrize(
    "answer", [failure(grpc.StatusCode.NOT_FOUND, "no workflow", "WORKFLOW_NOT_FOUND"), None]
)
def test_what_is_neither_is_no_job(agent: FakeAgent, rnx: Rnx, answer: Any) -> None:
    agent.answers["GetJobStatus"] = GONE
    del agent.answers["GetWorkflowStatus"]
    if answer:
        agent.answers["GetWorkflowStatus"] = answer
    result = rnx("status", "1111")
    assert (result.status, result.err) == (1, "rnx: no job with id 1111\nhint: see: rnx list\n")


def test_a_watch_that_no_terminal_shows_tells_each_change_once(agent: FakeAgent, rnx: Rnx) -> None:
    ended = info("FAILED", total_jobs=4, completed_jobs=2, failed_jobs=1)
    report = job("report", "COMPLETED", 3)
    watching(
        agent,
        [change(RUNNING, *JOBS), lost],
        [change(RUNNING, *JOBS[:2], report, JOBS[3]), lost],
        [change(ended, *JOBS[:2], report, job("tell", "CANCELED", message="not\x1b"))],
    )
    first, _, changes = rnx("workflow", "status", "--watch", "1111").out.partition(
        "\n\n" + "Available Actions:"
    )
    assert first.startswith(f"Workflow UUID: {UUID}")
    told = [line.split(" ", 1)[1] for line in changes.split("\n\n")[1].splitlines()]
    assert told == [
        "report COMPLETED",
        "Status: RUNNING Progress: 1/4 jobs completed (1 failed)",
        "tell CANCELED not\\x1b",
        "Status: FAILED Progress: 2/4 jobs completed (1 failed)",
    ]
    assert [each.workflow_uuid for each in agent.asked("WatchWorkflow")] == ["1111", UUID, UUID]


def test_a_watch_in_json_is_an_object_a_line(agent: FakeAgent, rnx: Rnx) -> None:
    watching(agent, [change(RUNNING, *JOBS), change(info("COMPLETED"), job("tell", "COMPLETED", 4))])
    lines = [json.loads(line) for line in rnx("workflow", "status", "-w", "1111", "--json").out.splitlines()]
    assert [[each["name"] for each in line["jobs"]] for line in lines] == [
        ["load", "test", "report", "tell"],
        ["tell"],
    ]


def test_on_a_terminal_it_is_drawn_again_and_what_matters_has_room(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [job(f"done-{number}", "COMPLETED", number) for number in range(1, 40)]
    watching(agent, [change(RUNNING, *many, *JOBS), change(info("COMPLETED", total_jobs=43), JOBS[0])])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("rnx.workflows.live.get_terminal_size", lambda: os.terminal_size((80, 24)))
    *_, last = rnx("workflow", "status", "--watch", "1111").out.split("\x1b[H")
    lines = last.replace("\x1b[K", "").splitlines()
    assert len(lines) <= 24
    assert "COMPLETED" in lines[1]
    for name in ("test", "report", "tell"):
        assert any(f" {name} " in line for line in lines), lines
    assert lines[-1].startswith("and ")


def test_a_graph_of_a_workflow_shows_how_its_jobs_stand(agent: FakeAgent, rnx: Rnx) -> None:
    several = (
        job("m-1", "COMPLETED", 5, group="m"),
        job("m-2", "FAILED", 6, group="m"),
        job("z", dependencies=["m"]),
    )
    agent.answers["GetWorkflowStatus"] = status_of(RUNNING, *JOBS, *several)
    assert rnx("workflow", "graph", "1111").out.splitlines() == [
        "step 1",
        "├── load  COMPLETED",
        "├── m-1  COMPLETED",
        "└── m-2  FAILED",
        "step 2",
        "├── test  FAILED",
        "└── z  WAITING",
        "step 3",
        "└── report  RUNNING  after load=COMPLETED AND test=FAILED",
        "step 4",
        "└── tell  WAITING",
    ]
    dot = rnx("workflow", "graph", UUID, "--dot").out
    assert '"test" [label="test\\nFAILED", style=filled, fillcolor="lightcoral"];' in dot
    assert '"m-2" -> "z";' in dot
    assert json.loads(rnx("workflow", "graph", UUID, "--json").out)["steps"][0] == ["load", "m-1", "m-2"]


def test_an_agent_whose_jobs_wait_for_each_other_hangs_nothing(agent: FakeAgent, rnx: Rnx) -> None:
    circle = (job("a", dependencies=["b", "nobody"]), job("b", dependencies=["a"]))
    agent.answers["GetWorkflowStatus"] = status_of(RUNNING, *circle)
    assert rnx("workflow", "graph", "1111").out.splitlines() == ["step 1", "├── a  WAITING", "└── b  WAITING"]


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("words", [["1111", "--svg"], ["--svg", "1111"], ["1111", "--svg", "-"]])
def test_svg_is_drawn_by_graphviz(
    rnx: Rnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    program(tmp_path / "dot", 'echo "$@"; exec /bin/cat')
    monkeypatch.setenv("PATH", str(tmp_path))
    result = rnx("workflow", "graph", *words)
    assert (result.status, result.out.splitlines()[:2]) == (0, ["-Tsvg", "digraph workflow {"])


def test_svg_goes_into_a_file_and_failures_are_told(
    rnx: Rnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    result = rnx("workflow", "graph", "1111", "--svg", "w.svg")
    assert (result.status, result.err) == (
        1,
        "rnx: cannot draw SVG: there is no dot(1) here\n"
        "hint: install graphviz, or print DOT (--dot) and draw it where graphviz is\n",
    )
    program(tmp_path / "dot", "echo '<svg/>'")
    assert (rnx("workflow", "graph", "1111", "--svg", "w.svg").out, Path("w.svg").read_text()) == (
        "",
        "<svg/>\n",
    )
    assert "cannot write none/w.svg" in rnx("workflow", "graph", "1111", "--svg=none/w.svg").err
    program(tmp_path / "dot", "echo broken >&2; exit 1")
    assert rnx("workflow", "graph", "1111", "--svg").err == "rnx: cannot draw SVG: dot failed: broken\n"
    assert rnx("workflow", "graph", "1111", "--svg", "--dot").status == 2
    assert rnx("workflow", "graph").status == 2


def test_many_jobs_come_in_several_messages_and_are_one_beginning(agent: FakeAgent, rnx: Rnx) -> None:
    pages = [change(RUNNING, *JOBS[:3]), pb.WatchWorkflowResponse(jobs=JOBS[3:])]
    ended = [
        change(info("COMPLETED", total_jobs=4), JOBS[0]),
        pb.WatchWorkflowResponse(jobs=[job("tell", "SKIPPED")]),
    ]
    watching(agent, [*pages, *ended])
    lines = [json.loads(line) for line in rnx("workflow", "status", "-w", "1111", "--json").out.splitlines()]
    told = [(line["status"], [each["name"] for each in line["jobs"]]) for line in lines]
    assert told == [
        ("RUNNING", ["load", "test", "report", "tell"]),
        ("COMPLETED", []),
        ("COMPLETED", ["tell"]),
    ]
