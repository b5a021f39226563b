"""rnx workflow with the agent behind it: what people see of a file that runs, in both forms."""

import os
import pty
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import AGENT, rnx, rnx_json, said

pytestmark = pytest.mark.systemd

NIGHTLY = """
name: nightly
environment: {STAGE: prod}
secret_environment: {TOKEN: hidden-value}
jobs:
  load:
    command: sh
    args: [./load.sh]
    uploads: {files: [./load.sh], directories: [data]}
    outputs: {files: [out]}
  test:
    command: sh
    args: ["-c", "echo testing ${matrix.db} in $STAGE"]
    matrix: {db: [sqlite, pg]}
    requires: load
  report:
    command: sh
    args: ["-c", "echo rows ${jobs.load.ROWS}; cat inputs/load/out/result; printf end"]
    requires: [{test: COMPLETED}, {load: COMPLETED}]
  alarm: {command: "true", when: failure}
"""
LOAD = """
set -e
echo loading
cat data/deep/a
test -d data/empty
echo ROWS=42 >> $JOBLET_OUTPUT
mkdir out
echo result > out/result
"""
BROKEN = """
jobs:
  good: {command: echo, args: [well]}
  bad: {command: sh, args: ["-c", "test -e /volumes/flags/mended || exit 3; echo mended"], volumes: [flags]}
  after: {command: echo, args: [after], requires: bad}
"""
LONG = """
jobs:
  long:
    command: sh
    args: ["-c", "echo ready; for i in $(seq 1 150); do seq $i 200; sleep 0.02; done; echo end"]
  last: {command: echo, args: [last], requires: long}
"""
UUID = re.compile(r"^Workflow created with UUID: ([0-9a-f-]{36})$", re.MULTILINE)


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    for workflow in rnx_json("workflow", "list", "--active"):
        rnx("workflow", "stop", workflow["uuid"])
    for workflow in rnx_json("workflow", "list"):
        said(0, "workflow", "delete", workflow["uuid"])


def nightly() -> str:
    """Write the file with all it needs into a directory beside, and return its path."""
    Path("flows/data/deep").mkdir(parents=True)
    Path("flows/data/empty").mkdir()
    Path("flows/data/deep/a").write_text("from the directory\n")
    Path("flows/load.sh").write_text(LOAD)
    return written("flows/nightly.yml", NIGHTLY)


def written(path: str, text: str) -> str:
    Path(path).write_text(text)
    return path


def ended(uuid: str) -> Any:
    """Return the workflow once it has ended."""
    return eventually(
        lambda: rnx_json("workflow", "status", uuid),
        lambda status: status["status"] in {"COMPLETED", "FAILED", "STOPPED", "CANCELED"},
    )


def run(*words: str) -> str:
    """Run a workflow and return its id."""
    match = UUID.search(said(0, *words))
    assert match is not None
    return match[1]


def on_terminal(*words: str) -> tuple[int, str]:
    """Return the exit status of a program, and what it writes to its terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        drawn = b""
        with suppress(OSError):  # EIO: nobody has the terminal open any more
            while piece := os.read(ours, 65536):
                drawn += piece
    os.close(ours)
    return process.returncode, drawn.decode()


def states(status: Any) -> dict[str, str]:
    return {job["name"]: job["status"] for job in status["jobs"]}


def test_a_file_is_run_with_its_files_outputs_and_matrix_and_shown_as_published() -> None:
    file = nightly()
    assert said(0, "workflow", "validate", "--server", file).endswith(
        "valid, 5 jobs, and the agent can run it\n"
    )
    lines = said(0, "workflow", "run", file).splitlines()
    assert lines[:3] == [
        "Workflow validation passed",
        f"Running workflow from: {file}",
        "Uploading 2 files",
    ]
    uuid = lines[3].removeprefix("Workflow created with UUID: ")
    status = ended(uuid)
    assert (status["status"], status["completed_jobs"], status["total_jobs"]) == ("COMPLETED", 4, 5)
    assert states(status) == {
        **dict.fromkeys(("load", "test-sqlite", "test-pg", "report"), "COMPLETED"),
        "alarm": "SKIPPED",
    }
    assert status["jobs"][0]["outputs"] == {"ROWS": "42"}
    assert status["created_at"]["seconds"] <= status["completed_at"]["seconds"]
    text = said(0, "workflow", "status", uuid[:8])
    assert "Status: COMPLETED\nProgress: 4/5 jobs completed\n" in text
    rows = [line.split() for line in text.splitlines()]
    table = rows[rows.index(["JOB", "ID", "JOB", "NAME", "STATUS", "EXIT", "CODE", "DEPENDENCIES"]) :]
    assert [row[1:] for row in table if "COMPLETED" in row][-1] == [
        "report",
        "COMPLETED",
        "0",
        "test,",
        "load",
    ]
    assert ["0", "alarm", "SKIPPED", "-", *["load,", "test,", "report"]] in table
    detail = said(0, "workflow", "status", "--detail", uuid)
    assert "YAML Content:\n" in detail
    assert "hidden-value" not in detail
    graph = said(0, "workflow", "graph", uuid[:8]).splitlines()
    assert "└── report  COMPLETED  after test=COMPLETED AND load=COMPLETED" in graph
    assert '"test-pg" -> "report";' in said(0, "workflow", "graph", uuid, "--dot")
    logs = said(0, "workflow", "logs", uuid).splitlines()
    assert logs[:2] == ["load        | loading", "load        | from the directory"]
    assert sorted(logs[2:4]) == ["test-pg     | testing pg in prod", "test-sqlite | testing sqlite in prod"]
    assert logs[4:] == ["report      | rows 42", "report      | result", "report      | end"]
    assert said(0, "workflow", "logs", "--tail=1", uuid, "test").count("testing") == 2


def test_the_first_form_prints_what_was_published() -> None:
    file = nightly()
    lines = said(0, "run", f"--workflow={file}:load").splitlines()
    assert lines[:3] == [
        "Workflow validation completed successfully",
        f"Starting workflow from: {file}:load",
        "Found 2 files to upload",
    ]
    uuid = lines[3].removeprefix("Workflow created with UUID: ")
    ended(uuid)
    header, _, row = (line.split() for line in said(0, "list", "--workflow").splitlines())
    assert header == ["UUID", "WORKFLOW", "STATUS", "PROGRESS"]
    assert row == [uuid, "nightly.yml", "COMPLETED", "1/1"]
    for words in (["status", "--workflow", uuid], ["status", "-w", uuid[:8]], ["status", uuid]):
        assert said(0, *words).startswith(f"Workflow UUID: {uuid}\nWorkflow: nightly.yml\n")
    job = rnx_json("workflow", "status", uuid)["jobs"][0]["id"]
    assert f"Workflow UUID: {uuid}" in said(0, "status", job)


def test_a_dry_run_shows_steps_and_units_and_starts_nothing() -> None:
    text = said(0, "workflow", "run", "--dry-run", nightly())
    assert "valid, 5 jobs; nothing is started\nslice joblet-jobs-*.slice\n" in text
    for line in (
        "step 1",
        "└── load",
        "├── test-sqlite  after load=COMPLETED",
        "    unit joblet-job-*.service",
    ):
        assert f"\n{line}\n" in text
    told = rnx_json("workflow", "run", "--dry-run", "flows/nightly.yml")
    assert {job["name"]: job["step"] for job in told["jobs"]} == {
        **{"load": 1, "test-sqlite": 2, "test-pg": 2, "report": 3},
        "alarm": 4,
    }
    assert all(job["systemd_run"].startswith("systemd-run ") for job in told["jobs"])
    assert rnx_json("workflow", "list") == []
    assert "hidden-value" not in text


def test_what_the_agent_lacks_is_told_all_at_once_before_anything_is_sent() -> None:
    file = written(
        "w.yml", "jobs:\n  a: {command: x, volumes: [none-such]}\n  b: {command: x, network: nowhere}\n"
    )
    assert said(0, "workflow", "validate", file) == "w.yml: valid, 2 jobs\n"
    lines = said(1, "workflow", "run", file).splitlines()
    assert lines[0] == "rnx: workflow validation failed"
    assert [re.sub(r":.*", "", line.removeprefix("w.yml:")) for line in lines[1:]] == ["2", "3"]
    assert "none-such" in lines[1]
    assert "nowhere" in lines[2]
    done = rnx("workflow", "validate", "--server", file)
    assert (done.returncode, done.stdout.decode().splitlines()) == (1, lines[1:])
    circle = written("c.yml", "jobs: {a: {command: x, requires: b}, b: {command: x, requires: a}}")
    assert "circular dependency: a -> b -> a" in said(1, "run", f"--workflow={circle}")
    assert rnx_json("workflow", "list") == []


def test_attached_its_status_says_whether_it_completed_and_a_retry_runs_what_failed() -> None:
    said(0, "volume", "create", "flags", "--size=16MB")
    try:
        done = rnx("workflow", "run", "--attach", written("w.yml", BROKEN))
        assert (done.returncode, done.stdout) == (1, b"good  | well\n")
        errors = done.stderr.decode().splitlines()
        assert "rnx: bad FAILED (exit code 3): exited with status 3" in errors
        assert errors[-1] == "rnx: workflow FAILED: 1/3 jobs completed (1 failed)"
        assert any(line.startswith("rnx: after CANCELED") for line in errors)
        uuid = rnx_json("workflow", "list")[0]["uuid"]
        assert "Progress: 1/3 jobs completed (1 failed)" in said(0, "workflow", "status", uuid)
        assert rnx("run", "--attach", "--volume=flags", "touch", "/volumes/flags/mended").returncode == 0
        done = rnx("workflow", "retry", "--failed", "--attach", uuid)
        assert (done.returncode, sorted(done.stdout.splitlines())) == (
            0,
            [b"after | after", b"bad   | mended"],
        )
        assert "good" not in done.stderr.decode()
        status = rnx_json("workflow", "status", uuid)
        assert (status["status"], set(states(status).values())) == ("COMPLETED", {"COMPLETED"})
        assert "retry" in said(1, "workflow", "retry", "--failed", uuid)
        said(0, "workflow", "delete", uuid)
        assert "no workflow" in said(1, "workflow", "status", uuid)
    finally:
        said(0, "volume", "remove", "flags")


def test_what_follows_goes_on_across_restarts_and_kills_of_the_agent(client: Client) -> None:
    wanted = [
        b"long | ready",
        *(b"long | %d" % n for i in range(1, 151) for n in range(i, 201)),
        b"long | end",
    ]
    words = ["rnx", "workflow", "run", "--attach", written("w.yml", LONG)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(13) == b"long | ready\n"
            kill_agent()
            wait_for_agent(client)
            command("systemctl", "restart", AGENT)
            wait_for_agent(client)
            kill_agent()
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    lines = output.splitlines()
    assert [line for line in lines if line.startswith(b"long")] == wanted[1:]
    assert [line for line in lines if not line.startswith(b"long")] == [b"last | last"]
    assert (process.returncode, errors.splitlines()[-1]) == (
        0,
        b"rnx: workflow COMPLETED: 2/2 jobs completed",
    )
    wait_for_agent(client)


def test_ctrl_c_leaves_it_running_and_stop_waits_for_its_end() -> None:
    file = written(
        "w.yml",
        "jobs: {a: {command: sh, args: ['-c', 'echo ready; sleep 1000']}, b: {command: x, requires: a}}",
    )
    words = ["rnx", "workflow", "run", "--attach", file]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "a | ready\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    uuid = rnx_json("workflow", "list")[0]["uuid"]
    assert (process.returncode, f"rnx: workflow {uuid} goes on" in errors) == (130, True)
    assert said(0, "workflow", "pause", uuid).splitlines()[0] == "Workflow paused successfully:"
    assert "Status: RUNNING (paused)" in said(0, "workflow", "status", uuid)
    said(0, "workflow", "resume", uuid)
    assert said(0, "workflow", "stop", uuid).splitlines()[:3] == [
        "Workflow stopped successfully:",
        f"ID: {uuid}",
        "Status: STOPPED",
    ]
    status = rnx_json("workflow", "status", uuid)
    assert states(status) == {"a": "STOPPED", "b": "CANCELED"}
    assert "ended" in said(1, "workflow", "stop", uuid)


def test_a_canceled_one_lets_run_what_runs() -> None:
    file = written("w.yml", "jobs: {a: {command: sleep, args: ['1']}, b: {command: x, requires: a}}")
    uuid = run("workflow", "run", file)
    eventually(lambda: states(rnx_json("workflow", "status", uuid)), lambda found: found["a"] == "RUNNING")
    said(0, "workflow", "cancel", uuid)
    status = ended(uuid)
    assert (status["status"], states(status)) == ("CANCELED", {"a": "COMPLETED", "b": "CANCELED"})


def test_watched_on_a_terminal_it_is_drawn_until_it_ends() -> None:
    file = written("w.yml", "jobs: {a: {command: sleep, args: ['1']}, b: {command: 'true', requires: a}}")
    uuid = run("workflow", "run", file)
    status, drawn = on_terminal("rnx", "workflow", "status", "--watch", uuid)
    assert status == 0
    first, *_, last = drawn.split("\x1b[H")[1:]
    assert "0/2 jobs completed" in first
    assert "2/2 jobs completed" in last
    plain = said(0, "workflow", "status", "--watch", uuid)
    assert plain.startswith(f"Workflow UUID: {uuid}\n")


def test_a_token_makes_one_workflow_however_often_it_is_run() -> None:
    file = written("w.yml", "jobs: {a: {command: 'true'}}")
    first = run("workflow", "run", "--token=once", file)
    assert run("workflow", "run", "--token=once", file) == first
    assert len(rnx_json("workflow", "list")) == 1


def test_more_files_than_a_message_should_have_come_before_it() -> None:
    Path("many").mkdir()
    for number in range(1500):
        Path(f"many/{number}").write_text(str(number))
    Path("large").write_bytes(bytes(6 << 20))
    Path("empty").mkdir()
    named = ", ".join(f"many/{number}" for number in range(1200))
    script = "ls many | wc -l; stat -c %s large; ls -d empty"
    jobs = [
        f"{{command: sh, args: ['-c', '{script}'], uploads: {{files: [large], directories: [many, empty]}}}}",
        f"{{command: sh, args: ['-c', 'ls many | wc -l'], uploads: {{files: [{named}]}}}}",
    ]
    file = written("w.yml", f"jobs:\n  a: {jobs[0]}\n  b: {jobs[1]}\n")
    done = rnx("workflow", "run", "--attach", file)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [b"a | 1500", b"a | 6291456", b"a | empty", b"b | 1200"]
