"""rnx workflow run, rnx run --workflow: what is sent, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

FILE = """
jobs:
  load: {command: python3, args: [load.py], uploads: {files: [load.py, sub/x], directories: [data]}}
  test: {command: pytest, requires: load, uploads: {files: [load.py]}}
workflows:
  other: {jobs: {one: {command: "true"}}}
  nightly: {schedule: daily, jobs: {one: {command: "true"}}}
"""
OUT = [
    "Workflow validation passed",
    "Running workflow from: jobs/w.yml",
    "Uploading 4 files",
    f"Workflow created with UUID: {UUID}",
    f"Look at it: rnx workflow status {UUID}",
]


@pytest.fixture(autouse=True)
def files(tmp_path: Path, agent: FakeAgent) -> None:
    (tmp_path / "jobs/data/empty").mkdir(parents=True)
    (tmp_path / "jobs/data/deep").mkdir()
    (tmp_path / "jobs/data/deep/a").write_bytes(b"\xff")
    (tmp_path / "jobs/data/b").write_bytes(b"")
    (tmp_path / "jobs/load.py").write_bytes(b"beside the file")
    (tmp_path / "jobs/load.py").chmod(0o755)
    (tmp_path / "load.py").write_bytes(b"somewhere else")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/x").write_bytes(b"as it is written")
    (tmp_path / "sub/x").chmod(0o640)
    (tmp_path / "jobs/w.yml").write_text(FILE, encoding="utf-8")
    agent.answers["RunWorkflow"] = pb.RunWorkflowResponse(workflow_uuid=UUID, status="STARTED", total_jobs=2)


def test_text_and_files_are_sent_at_once_and_the_published_lines_are_printed(
    agent: FakeAgent, rnx: Rnx
) -> None:
    result = rnx("workflow", "run", "jobs/w.yml", "--token=t")
    assert (result.status, result.out.splitlines(), result.err) == (0, OUT, "")
    (request,) = agent.asked("RunWorkflow")
    assert (request.workflow, request.yaml_content, request.token) == ("w.yml", FILE, "t")
    assert (request.total_jobs, list(request.job_order), request.name) == (2, ["load", "test"], "")
    sent = {each.path: (each.content, each.mode, each.is_directory) for each in request.workflow_files}
    directory = (b"", Path("jobs/data").stat().st_mode & 0o777, True)
    assert sent == {
        "load.py": (b"beside the file", 0o755, False),
        "sub/x": (b"as it is written", 0o640, False),
        "data": directory,
        "data/b": (b"", Path("jobs/data/b").stat().st_mode & 0o777, False),
        "data/deep": directory,
        "data/deep/a": (b"\xff", Path("jobs/data/deep/a").stat().st_mode & 0o777, False),
        "data/empty": directory,
    }


def test_the_first_form_has_words_of_its_own(agent: FakeAgent, rnx: Rnx) -> None:
    for words in (["--workflow=jobs/w.yml"], ["--workflow", "jobs/w.yml"]):
        assert rnx("run", *words).out.splitlines() == [
            "Workflow validation completed successfully",
            "Starting workflow from: jobs/w.yml",
            "Found 4 files to upload",
            f"Workflow created with UUID: {UUID}",
            f"Look at it: rnx status --workflow {UUID}",
        ]
    assert rnx("run", "-q", "--workflow=jobs/w.yml:other").out == f"{UUID}\n"
    assert agent.asked("RunWorkflow")[-1].name == "other"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--env=A=b", "--workflow=jobs/w.yml"], "cannot use --env together with --workflow"),
        (["--workflow=jobs/w.yml", "true"], "cannot run true together with --workflow"),
        (["--attach", "-q", "--workflow=jobs/w.yml"], "cannot use --attach together with --quiet"),
    ],
)
def test_what_is_said_of_one_job_is_refused(agent: FakeAgent, rnx: Rnx, words: list[str], told: str) -> None:
    result = rnx("run", *words)
    assert (result.out, told in result.err, agent.requests) == ("", True, [])


def test_the_environment_of_rnx_run_is_not_about_workflows(rnx: Rnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RNX_RUN_NETWORK", "backend")
    assert rnx("run", "--workflow=jobs/w.yml:other").status == 0


def test_a_name_picks_a_workflow_or_a_job_and_a_schedule_is_told(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunWorkflow"] = pb.RunWorkflowResponse(
        schedule_uuid=UUID, scheduled_time="2026-02-01T00:00:00Z"
    )
    assert rnx("workflow", "run", "jobs/w.yml:nightly").out.splitlines()[2:] == [
        f"Schedule created with UUID: {UUID}",
        "Scheduled Time: 2026-02-01T00:00:00Z",
        f"Look at it: rnx schedule show {UUID}",
    ]
    result = rnx("workflow", "run", "--attach", "jobs/w.yml:nightly")
    assert (result.status, "cannot use --attach with a workflow that recurs (daily)" in result.err) == (
        2,
        True,
    )
    rnx("workflow", "run", "jobs/w.yml:load")
    assert [each.name for each in agent.asked("RunWorkflow")] == ["nightly", "load"]


def test_large_files_go_before_it(agent: FakeAgent, rnx: Rnx) -> None:
    Path("jobs/load.py").write_bytes(bytes(5 * 2**20))
    agent.answers["UploadFiles"] = pb.UploadReply(upload_id="up")
    assert rnx("workflow", "run", "jobs/w.yml").status == 0
    (request,) = agent.asked("RunWorkflow")
    assert (request.upload_id, list(request.workflow_files)) == ("up", [])
    (chunks,) = agent.asked("UploadFiles")
    assert sum(len(each.content) for each in chunks if each.entry.path in ("", "load.py")) >= 5 * 2**20


def test_json_is_the_answer_alone(rnx: Rnx) -> None:
    for form in (
        ["--json", "workflow", "run"],
        ["workflow", "run", "--json"],
        ["run", "--json", "--workflow"],
    ):
        result = rnx(*form, "jobs/w.yml")
        assert (json.loads(result.out), result.err) == (
            {"workflow_uuid": UUID, "status": "STARTED", "total_jobs": 2, "files_uploaded": 4},
            "",
        )


def test_a_wrong_file_is_not_sent_and_all_is_told(agent: FakeAgent, rnx: Rnx) -> None:
    Path("jobs/w.yml").write_text("jobs:\n  a: {command: x, requires: b}\n  b: {command: y, requires: a}\n")
    result = rnx("workflow", "run", "jobs/w.yml")
    assert (result.status, result.out, agent.requests) == (1, "", [])
    assert result.err == (
        "rnx: workflow validation failed: "
        "jobs/w.yml:2:19: jobs.a.requires: circular dependency: a -> b -> a\n"
    )
    Path("jobs/w.yml").write_text("jobs:\n  a: {command: x, requires: c}\n  b: {comand: y}\n")
    assert rnx("workflow", "run", "jobs/w.yml").err.splitlines() == [
        "rnx: workflow validation failed",
        "jobs/w.yml:2:29: jobs.a.requires: there is no job 'c'",
        "jobs/w.yml:3:6: jobs.b: command is missing",
        "jobs/w.yml:3:7: jobs.b.'comand': unknown key, did you mean command?",
    ]


def test_what_the_agent_lacks_is_told_with_its_places(agent: FakeAgent, rnx: Rnx) -> None:
    problem = pb.WorkflowProblem(
        line=3, column=9, key="jobs.load.volumes", message="missing volumes: [\x1bx]"
    )
    agent.answers["RunWorkflow"] = failure(
        grpc.StatusCode.INVALID_ARGUMENT, "workflow validation failed: and so on", "WORKFLOW_INVALID"
    )
    agent.answers["CheckWorkflow"] = pb.CheckWorkflowResponse(problems=[problem, problem])
    told = "jobs/w.yml:3:9: jobs.load.volumes: missing volumes: [\\x1bx]"
    assert rnx("workflow", "run", "jobs/w.yml").err.splitlines() == [
        "rnx: workflow validation failed",
        told,
        told,
    ]
    result = rnx("workflow", "validate", "--server", "jobs/w.yml")
    assert (result.status, result.out.splitlines()) == (1, [told, told])
    request = agent.asked("CheckWorkflow")[-1]
    assert list(request.file_paths) == [
        "load.py",
        "sub/x",
        "data",
        "data/b",
        "data/deep",
        "data/deep/a",
        "data/empty",
    ]
    assert (request.yaml_content, request.explain) == (FILE, False)


def test_large_files_are_not_sent_in_vain(agent: FakeAgent, rnx: Rnx) -> None:
    Path("jobs/load.py").write_bytes(bytes(5 * 2**20))
    agent.answers["CheckWorkflow"] = pb.CheckWorkflowResponse(problems=[pb.WorkflowProblem(message="no")])
    result = rnx("workflow", "run", "jobs/w.yml")
    assert (result.status, result.out) == (1, "")
    assert result.err == "rnx: workflow validation failed: jobs/w.yml: no\n"
    assert [name for name, _ in agent.requests] == ["CheckWorkflow"]


def test_validate_asks_the_agent_only_if_so_told(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["CheckWorkflow"] = pb.CheckWorkflowResponse()
    assert rnx("workflow", "validate", "jobs/w.yml").out == "jobs/w.yml: valid, 2 jobs\n"
    assert agent.requests == []
    assert rnx("workflow", "validate", "--server", "jobs/w.yml").out == (
        "jobs/w.yml: valid, 2 jobs, and the agent can run it\n"
    )


def planned(name: str, step: int, requires: str = "") -> pb.PlannedJob:
    unit, slice_ = "joblet-job-11111111-2222-4333-8444-555555555555", "joblet-jobs-0123456789abcdef.slice"
    properties = [
        pb.UnitProperty(name="Description", value="Joblet job", origin="--name"),
        pb.UnitProperty(name="Slice", value=slice_, origin="jobs of a workflow are in one slice"),
        pb.UnitProperty(name="MemoryMax", value="1G", origin="--max-memory", documentation="d"),
        pb.UnitProperty(name="NoNewPrivileges", value="yes", origin="every job"),
    ]
    explained = pb.ExplainJobResponse(
        unit=f"{unit}.service",
        properties=properties,
        systemd_run=f"systemd-run --unit={unit} --slice={slice_}",
        notes=["n"],
    )
    return pb.PlannedJob(
        name=name, step=step, requires=requires, slice="joblet-jobs-*.slice", explain=explained
    )


def test_a_dry_run_shows_the_steps_and_the_units_and_starts_nothing(agent: FakeAgent, rnx: Rnx) -> None:
    jobs = [planned("load", 1), planned("a", 2, "load=COMPLETED"), planned("b", 2)]
    agent.answers["CheckWorkflow"] = pb.CheckWorkflowResponse(jobs=jobs)
    assert rnx("workflow", "run", "--dry-run", "jobs/w.yml").out.splitlines() == [
        "jobs/w.yml: valid, 3 jobs; nothing is started",
        "slice joblet-jobs-*.slice",
        "",
        "step 1",
        "└── load",
        "    unit joblet-job-*.service",
        "    with MemoryMax=1G",
        "    systemd-run --unit=joblet-job-* --slice=joblet-jobs-*.slice",
        "",
        "step 2",
        "├── a  after load=COMPLETED",
        "│   unit joblet-job-*.service",
        "│   with MemoryMax=1G",
        "│   systemd-run --unit=joblet-job-* --slice=joblet-jobs-*.slice",
        "└── b",
        "    unit joblet-job-*.service",
        "    with MemoryMax=1G",
        "    systemd-run --unit=joblet-job-* --slice=joblet-jobs-*.slice",
    ]
    told = json.loads(rnx("workflow", "run", "--dry-run", "jobs/w.yml", "-o", "json").out)
    assert told["jobs"][1] == {
        "name": "a",
        "step": 2,
        "requires": "load=COMPLETED",
        "unit": "joblet-job-11111111-2222-4333-8444-555555555555.service",
        "slice": "joblet-jobs-*.slice",
        "properties": [
            *told["jobs"][1]["properties"][:2],
            {"name": "MemoryMax", "value": "1G", "origin": "--max-memory", "documentation": "d"},
            {"name": "NoNewPrivileges", "value": "yes", "origin": "every job", "documentation": ""},
        ],
        "systemd_run": told["jobs"][1]["systemd_run"],
        "notes": ["n"],
    }
    assert [request.explain for request in agent.asked("CheckWorkflow")] == [True, True]
    assert agent.asked("RunWorkflow") == []


def test_with_a_token_it_is_sent_again_when_the_agent_comes_back(agent: FakeAgent, rnx: Rnx) -> None:
    answers: list[Any] = [
        failure(grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        pb.RunWorkflowResponse(workflow_uuid=UUID),
    ]
    agent.answers["RunWorkflow"] = lambda *_: answers.pop(0)
    assert rnx("workflow", "run", "-q", "--token=t", "jobs/w.yml").out == f"{UUID}\n"
    assert [each.token for each in agent.asked("RunWorkflow")] == ["t", "t"]
