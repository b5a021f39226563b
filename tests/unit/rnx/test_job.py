import json
import time
from typing import Any

import grpc
import pytest
import yaml

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.views.show_time", lambda text, empty="N/A", zone=False: text or empty)


def job(number: int = 1, **more: Any) -> pb.Job:
    return pb.Job(**{"uuid": f"id-{number}", "command": "true", "status": "RUNNING", **more})


def pages(request: Any, _: Any) -> pb.QueryJobsResponse:
    """2,500 jobs, newest first."""
    start = int(request.page_token or 0)
    end = min(start + request.page_size, 2500)
    token = str(end) if end < 2500 else ""
    return pb.QueryJobsResponse(jobs=[job(number) for number in range(start, end)], next_page_token=token)


@pytest.mark.parametrize("form", [["list"], ["job", "list"]])
def test_list_shows_a_table_without_empty_cells(agent: FakeAgent, rnx: Rnx, form: list[str]) -> None:
    jobs = [
        job(1, name="a" * 30, args=["x\ny"], start_time="2026-01-31T10:00:00Z"),
        job(2, status="SCHEDULED", scheduled_time="2026-02-01T10:00:00Z", args=["z" * 100], node_id="n"),
        job(3, status="PENDING", name="\x1b[31mred"),
        job(4, profile="default", start_time="2026-01-31T10:00:00Z"),
        job(5, profile="privileged", start_time="2026-01-31T10:00:00Z"),
    ]
    agent.answers["QueryJobs"] = pb.QueryJobsResponse(jobs=jobs)
    lines = rnx(*form).out.splitlines()
    assert lines[0].split() == ["ID", "NAME", "NODE", "ID", "STATUS", "START", "TIME", "COMMAND"]
    assert set(lines[1]) == {"-"}
    assert lines[2].split() == [
        "id-1",
        "a" * 22 + "...",
        "-",
        "RUNNING",
        "2026-01-31T10:00:00Z",
        "true",
        "x...",
    ]
    assert lines[3].split()[2:5] == ["n", "SCHEDULED", "2026-02-01T10:00:00Z"]
    assert lines[3].endswith("true " + "z" * 72 + "...")
    assert lines[4].split() == ["id-3", "\\x1b[31mred", "-", "PENDING", "N/A", "true"]
    assert lines[5].split()[5:] == ["true"]
    assert lines[6].split()[4:] == ["2026-01-31T10:00:00Z", "[privileged]", "true"]  # no further column


def test_list_json_is_an_array_with_the_given_keys(agent: FakeAgent, rnx: Rnx) -> None:
    full = job(1, args=["x"], name="n", node_id="d", end_time="e", exit_code=-1, signal=9, reason="oom-kill")
    agent.answers["QueryJobs"] = pb.QueryJobsResponse(jobs=[full, job(2)])
    assert json.loads(rnx("--json", "list").out) == [
        {
            "id": "id-1",
            "name": "n",
            "node_id": "d",
            "status": "RUNNING",
            "start_time": "",
            "end_time": "e",
            "command": "true",
            "args": ["x"],
            "exit_code": -1,
            "reason": "oom-kill",
            "signal": 9,
        },
        {"id": "id-2", "status": "RUNNING", "start_time": "", "command": "true"},
    ]


def test_an_empty_list(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["QueryJobs"] = pb.QueryJobsResponse()
    assert rnx("list").out == "No jobs found\n"
    assert json.loads(rnx("list", "--json").out) == []
    assert yaml.safe_load(rnx("list", "-o", "yaml").out) == []


@pytest.mark.parametrize(("limit", "count", "sizes"), [(None, 2500, [1000] * 3), (1200, 1200, [1000, 200])])
def test_list_asks_page_by_page(
    agent: FakeAgent, rnx: Rnx, limit: int | None, count: int, sizes: list[int]
) -> None:
    agent.answers["QueryJobs"] = pages
    words = [f"--limit={limit}"] if limit else []
    found = json.loads(rnx("list", "--json", "--state=running", *words).out)
    assert [each["id"] for each in found] == [f"id-{number}" for number in range(count)]
    assert [request.page_size for request in agent.asked("QueryJobs")] == sizes
    assert {tuple(request.states) for request in agent.asked("QueryJobs")} == {("RUNNING",)}


def test_list_falls_back_to_an_agent_without_pages(agent: FakeAgent, rnx: Rnx) -> None:
    jobs = [job(number, start_time=f"2026-01-0{number}T00:00:00Z") for number in (1, 3, 2)]
    agent.answers["ListJobs"] = pb.Jobs(jobs=[*jobs, job(4, status="FAILED")])
    found = json.loads(rnx("list", "--json", "--state", "RUNNING", "--limit", "2").out)
    assert [each["id"] for each in found] == ["id-3", "id-2"]


FULL = pb.GetJobStatusResponse(
    uuid=UUID,
    name="n",
    command="sh",
    args=["-c", "a\nb"],
    status="FAILED",
    start_time="2026-01-31T10:00:00Z",
    end_time="2026-01-31T10:00:12Z",
    exit_code=-1,
    signal=9,
    reason="oom-kill",
    message="out of memory",
    environment={"TEST_VAR": "v\x1b"},
    secret_environment={"SECRET_VAR": "***"},
    max_cpu=50,
    max_memory=256,
    node_id="node",
    network="none",
    work_dir="/work",
    unit="joblet-job-x.service",
    log_size=7,
)


def test_status_text_has_the_lines_that_scripts_read(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobStatus"] = FULL
    lines = rnx("status", UUID).out.splitlines()
    assert lines[:5] == [
        f"Job ID: {UUID}",
        "Job Name: n",
        "Node ID: node",
        "Command: sh -c a\\nb",
        "Status: FAILED",
    ]
    for wanted in (
        *("Timing:", "  Duration: 12.0s", "Resource Limits:", "  Max CPU: 50%", "  Max Memory: 256 MB"),
        *("Environment Variables:", "  TEST_VAR=v\\x1b", "  SECRET_VAR=*** (secret)", "  Network: none"),
        *("Result:", "  Exit Code: -1", "  Signal: 9", "  Reason: oom-kill", "  Message: out of memory"),
        *("  Unit: joblet-job-x.service", f"  rnx job delete {UUID}"),
    ):
        assert wanted in lines
    assert agent.asked("GetJobStatus")[0].uuid == UUID


def test_status_json_has_every_key_always_and_ours_when_set(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="RUNNING")
    always = {
        *("uuid", "name", "nodeId", "command", "args", "status", "startTime", "endTime", "exitCode"),
        *("scheduledTime", "environment", "secretEnvironment", "network", "volumes", "runtime", "workDir"),
        *("uploads", "dependencies", "workflowUuid"),
    }
    assert set(json.loads(rnx("job", "status", UUID, "--json").out)) == always
    agent.answers["GetJobStatus"] = FULL
    data = json.loads(rnx("--json", "status", UUID).out)
    assert set(data) - always == {"maxCPU", "maxMemory", "reason", "signal", "message", "unit", "logSize"}
    assert data["args"] == ["-c", "a\nb"]
    assert data["environment"] == {"TEST_VAR": "v\x1b"}


def test_stop(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["StopJob"] = pb.StopJobResponse(uuid=UUID, status="STOPPED", exit_code=-1, signal=15)
    assert rnx("stop", "1111").out == f"Job stopped successfully:\nID: {UUID}\nStatus: STOPPED\n"
    assert json.loads(rnx("job", "stop", "--force", "1111", "--json").out) == {
        "uuid": UUID,
        "status": "STOPPED",
        "exitCode": -1,
        "signal": 15,
    }
    assert [(each.uuid, each.force) for each in agent.asked("StopJob")] == [("1111", False), ("1111", True)]


def test_cancel(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["CancelJob"] = pb.CancelJobResponse(uuid=UUID, status="CANCELED")
    assert f"Scheduled job canceled successfully:\nID: {UUID}\nStatus: CANCELED\n" in rnx("cancel", UUID).out
    data = json.loads(rnx("job", "cancel", UUID, "--json").out)
    assert (data["canceled"], data["job_id"], data["status"]) == (True, UUID, "CANCELED")


def test_delete(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["DeleteJob"] = pb.DeleteJobResponse(uuid=UUID, success=True, message="gone")
    assert rnx("delete", UUID).out == f"Job deleted successfully:\nID: {UUID}\nMessage: gone\n"
    assert json.loads(rnx("delete", UUID, "--json").out) == {"uuid": UUID, "success": True, "message": "gone"}
    agent.answers["DeleteJob"] = pb.DeleteJobResponse(uuid=UUID, success=False, message="it runs")
    result = rnx("delete", UUID)
    assert (result.status, result.out, result.err) == (1, "", "rnx: it runs\n")


@pytest.mark.parametrize("form", [["delete-all"], ["job", "delete-all"]])
def test_delete_all(agent: FakeAgent, rnx: Rnx, form: list[str]) -> None:
    agent.answers["DeleteAllJobs"] = pb.DeleteAllJobsResponse(
        success=True, message="swept", deleted_count=3, skipped_count=1
    )
    assert rnx(*form).out == (
        "Jobs deleted successfully:\nDeleted count: 3\nSkipped count: 1 (running/scheduled)\nMessage: swept\n"
    )
    assert json.loads(rnx(*form, "--json").out) == {
        "success": True,
        "message": "swept",
        "deleted_count": 3,
        "skipped_count": 1,
    }


def test_explain(agent: FakeAgent, rnx: Rnx) -> None:
    row = {"name": "MemoryMax", "value": "1G", "origin": "--max-memory", "documentation": "systemd.x(5)"}
    agent.answers["ExplainJob"] = pb.ExplainJobResponse(
        uuid=UUID,
        unit="u.service",
        properties=[pb.UnitProperty(**row)],
        systemd_run="systemd-run -p MemoryMax=1G true",
        notes=["a note"],
    )
    text = rnx("job", "explain", UUID).out
    assert "Unit: u.service\n" in text
    assert "MemoryMax  1G     --max-memory  systemd.x(5)\n" in text
    assert "The same by hand:\nsystemd-run -p MemoryMax=1G true\n\nNote: a note\n" in text
    data = json.loads(rnx("explain", UUID, "--json").out)
    assert data["properties"] == [row]
    assert data["systemd_run"] == "systemd-run -p MemoryMax=1G true"


@pytest.mark.parametrize("command", ["status", "stop", "cancel", "delete", "explain", "log"])
def test_an_error_is_text_on_standard_error_also_with_json(agent: FakeAgent, rnx: Rnx, command: str) -> None:
    missing = failure(
        grpc.StatusCode.NOT_FOUND, "cannot find job x\x1b", "JOB_NOT_FOUND", "rnx list shows all"
    )
    names = {"status": "GetJobStatus", "explain": "ExplainJob", "log": "GetJobLogs"}
    agent.answers[names.get(command, f"{command.capitalize()}Job")] = missing
    result = rnx(command, "x", "--json")
    assert result.status == 1
    assert result.out == ""
    assert result.err == "rnx: cannot find job x\\x1b\nhint: rnx list shows all\n"


def test_an_agent_that_is_not_there(agent: FakeAgent, rnx: Rnx) -> None:
    agent.stop()
    agent.socket.unlink(missing_ok=True)
    result = rnx("list")
    assert result.status == 1
    assert result.err == (
        f"rnx: cannot reach the agent at {agent.address}: there is no such socket\n"
        "hint: is the agent running? systemctl status joblet-agent\n"
    )
    agent.start()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["lst"], "rnx: unknown command: lst\nhint: did you mean list?\n"),
        (["job", "stat"], "rnx: unknown command: stat\nhint: did you mean status?\n"),
        (["help", "lisst"], "rnx: unknown command: lisst\nhint: did you mean list?\n"),
        (["status"], "rnx: Missing argument 'UUID'\n"),
    ],
)
def test_wrong_usage_is_one_specific_line(rnx: Rnx, words: list[str], text: str) -> None:
    result = rnx(*words)
    assert (result.status, result.out, result.err) == (2, "", text)


@pytest.mark.parametrize("words", [["list", "--limit=0"], ["list", "--nope"], ["-o", "xml", "list"]])
def test_wrong_options_are_usage_errors(rnx: Rnx, words: list[str]) -> None:
    result = rnx(*words)
    assert (result.status, result.out) == (2, "")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["job"], ["job", "--help"]])
def test_help_is_printed_and_no_failure(rnx: Rnx, words: list[str]) -> None:
    result = rnx(*words)
    assert result.status == 0
    assert "Commands:" in result.out
    assert "delete-all" in result.out


def test_version_names_the_agent_when_it_answers(agent: FakeAgent, rnx: Rnx) -> None:
    assert rnx("--version").out == "rnx v0.3.0\n"
    agent.answers["GetSystemStatus"] = pb.SystemStatusResponse(
        server_version=pb.ServerVersionInfo(version="v9.9.9")
    )
    assert rnx("-v").out == "rnx v0.3.0\njoblet v9.9.9\n"
    assert json.loads(rnx("--json", "--version").out)["joblet"] == {"version": "v9.9.9"}


def test_list_asks_the_agent_for_what_is_wanted(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["QueryJobs"] = pb.QueryJobsResponse()
    rnx("list", "--schedule=7F3A", "--since=2026-01-31T10:00:00Z", "--name=n", "--state=failed")
    rnx("list", "--since=1h")
    first, second = agent.asked("QueryJobs")
    assert (first.schedule_uuid_prefix, first.name, list(first.states)) == ("7f3a", "n", ["FAILED"])
    assert first.created_since == 1769853600 * 10**9
    assert 3590 < time.time() - second.created_since / 1e9 < 3660


def test_list_filters_for_an_agent_without_pages(agent: FakeAgent, rnx: Rnx) -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    jobs = [
        job(1, created_time=old),
        job(2, created_time=new),
        job(3, created_time=new, schedule_uuid="7f3a"),
    ]
    agent.answers["ListJobs"] = pb.Jobs(jobs=jobs)
    assert rnx("list", "-q", "--since=2026-01-15T00:00:00Z").out.split() == ["id-2", "id-3"]
    assert rnx("list", "-q", "--schedule=7f").out.split() == ["id-3"]


def test_status_shows_the_place_on_the_network(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(
        uuid=UUID,
        status="RUNNING",
        network="backend",
        addresses=["10.10.0.2", "fd12::2"],
        bandwidth=10_000_000,
        ports=[pb.PublishedPort(address="::1", host_port=8080, job_port=80, transport="tcp")],
        volumes=["data:/srv:ro"],
        metrics=pb.JobMetricsEvent(net_recv_bytes=2048, net_sent_bytes=5),
    )
    text = rnx("status", UUID).out
    assert (
        "Network Configuration:\n  Network: backend\n  Addresses: 10.10.0.2, fd12::2\n"
        "  Published Ports: [::1]:8080->80/tcp\n  Bandwidth: 10mbit each way\n\n"
        "Volumes:\n  - data:/srv:ro\n" in text
    )
    assert "  Network Received: 2.0 KiB\n  Network Sent: 5 B\n" in text
    data = json.loads(rnx("--json", "status", UUID).out)
    assert (data["addresses"], data["bandwidth"]) == (["10.10.0.2", "fd12::2"], 10_000_000)
    assert data["ports"] == [{"address": "::1", "hostPort": 8080, "jobPort": 80, "transport": "tcp"}]
