"""rnx on Windows and macOS: what their Python lacks and refuses is gone, and an agent answers over TLS."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.certificates import Pair, bundle, make, make_ca, make_server
from tests.unit.rnx.fake_agent import UUID, FakeAgent

CHECKOUT = Path(__file__).parents[3]
SYSTEMS = ("win32", "darwin")
CA = make_ca()
EVE = make("eve", "operator", ca=CA)

Foreign = Callable[..., subprocess.CompletedProcess[bytes]]


class TlsAgent(FakeAgent):
    """Listens on the network, as agents do for others."""

    place = ""

    def _listen(self, server: grpc.Server) -> None:
        own: Pair = make_server(CA)
        pairs = [(own.key, own.pem)]
        credentials = grpc.ssl_server_credentials(pairs, CA.pem, require_client_auth=True)
        self.place = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[TlsAgent]:
    fake = TlsAgent(tmp_path / "unused")
    fake.start()
    (tmp_path / "eve.yml").touch(mode=0o600)
    (tmp_path / "eve.yml").write_text(bundle(EVE, CA, fake.place))
    yield fake
    fake.stop()


@pytest.fixture(params=SYSTEMS)
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Foreign:
    def run(*words: str, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
        script = Path(__file__).parent / "foreign.py"
        return subprocess.run(
            [sys.executable, str(script), request.param, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "HOME": str(tmp_path), **env},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )

    run.system = request.param  # type: ignore[attr-defined]
    return run


def test_help_needs_nothing_of_the_system(foreign: Foreign) -> None:
    done = foreign("--help")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"exec" in done.stdout


def test_without_a_configuration_it_says_that_there_are_no_agents_on_this_system(foreign: Foreign) -> None:
    done = foreign("list")
    assert done.returncode == 1
    assert b"there is no configuration file, and on this system there are no agents" in done.stderr


def test_configurations_are_imported_changed_and_checked(
    foreign: Foreign, agent: TlsAgent, tmp_path: Path
) -> None:
    agent.answers["GetNode"] = pb.GetNodeResponse(version="1", caller_name="eve", caller_role="operator")
    own = tmp_path / ".rnx" / "rnx-config.yml"
    for words in ("config import eve.yml", "config import eve.yml --name=second", "nodes remove default"):
        done = foreign(*words.split())
        assert done.returncode == 0, done
    assert [line for line in own.read_text().splitlines() if line.startswith("  s")] == ["  second:"]
    assert own.stat().st_mode & 0o777 == 0o600
    tested = foreign("nodes", "test", "--json", "second")
    assert (tested.returncode, b"operator" in tested.stdout) == (0, True), tested


def test_lists_are_utf_8_whatever_the_code_page_is(foreign: Foreign, agent: TlsAgent) -> None:
    job = pb.Job(uuid=UUID, name="größe →", status="RUNNING", command="sleep")
    agent.answers["QueryJobs"] = pb.QueryJobsResponse(jobs=[job])
    done = foreign("--config=eve.yml", "list", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, b""), done
    assert "größe →" in done.stdout.decode("utf-8")
    done = foreign("--config=eve.yml", "list", "--json", PYTHONIOENCODING="cp1252")
    assert json.loads(done.stdout)[0]["name"] == "größe →"


def test_a_job_is_run_with_files_and_followed_to_its_end(
    foreign: Foreign, agent: TlsAgent, tmp_path: Path
) -> None:
    (tmp_path / "input.bin").write_bytes(b"\r\n\xff\n")
    agent.answers["RunJob"] = pb.RunJobResponse(job_uuid=UUID, status="RUNNING")
    agent.answers["GetJobLogs"] = pb.DataChunk(payload=b"a\r\nb\n\xff")
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(
        uuid=UUID, status="FAILED", exit_code=7, reason="exit-code"
    )
    done = foreign("--config=eve.yml", "run", "--attach", "--upload=input.bin", "cat", "input.bin")
    assert (done.returncode, done.stdout, done.stderr) == (7, b"a\r\nb\n\xff", b"")
    (request,) = agent.asked("RunJob")
    assert [(each.path, each.content) for each in request.uploads] == [("input.bin", b"\r\n\xff\n")]


def test_a_workflow_is_run_with_files_and_followed_to_its_end(
    foreign: Foreign, agent: TlsAgent, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "input.bin").write_bytes(b"\r\n\xff\n")
    (tmp_path / "w.yml").write_text("jobs: {a: {command: x, uploads: {directories: [data]}}}")
    agent.answers["RunWorkflow"] = pb.RunWorkflowResponse(workflow_uuid=UUID, status="STARTED")
    agent.answers["GetJobLogs"] = pb.DataChunk(payload=b"a\r\nb")
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="FAILED")
    agent.answers["WatchWorkflow"] = pb.WatchWorkflowResponse(
        workflow=pb.WorkflowInfo(uuid=UUID, status="FAILED"),
        jobs=[pb.WorkflowJob(job_name="a", job_uuid=UUID, status="FAILED", exit_code=7)],
    )
    done = foreign("--config=eve.yml", "workflow", "run", "--attach", "w.yml")
    assert (done.returncode, done.stdout) == (1, b"a | a\r\na | b\n"), done
    assert b"rnx: a FAILED (exit code 7)" in done.stderr
    (request,) = agent.asked("RunWorkflow")
    assert [(each.path, each.content) for each in request.workflow_files] == [
        ("data", b""),
        ("data/input.bin", b"\r\n\xff\n"),
    ]


def test_a_command_in_a_job_gets_standard_input_whole(foreign: Foreign, agent: TlsAgent) -> None:
    def echo(requests: Iterator[Any], _: object) -> Iterator[Any]:
        next(requests)
        for request in requests:
            if request.HasField("stdin_end"):
                break
            yield pb.ExecInJobResponse(stdout=request.stdin)
        yield pb.ExecInJobResponse(end=pb.ExecEnd(exit_code=3, reason="exit-code"))

    agent.answers["ExecInJob"] = echo
    text = b"\r\n\x00\xff" * 100_000
    done = foreign("--config=eve.yml", "exec", UUID, "cat", stdin=text)
    assert (done.returncode, done.stdout == text, done.stderr) == (3, True, b"")


def test_what_cannot_connect_is_explained(foreign: Foreign, tmp_path: Path) -> None:
    (tmp_path / "eve.yml").touch(mode=0o600)
    (tmp_path / "eve.yml").write_text(bundle(EVE, CA, "127.0.0.1:1", key=CA.key))
    done = foreign("--config=eve.yml", "list")
    assert b"the key of the configuration is not the key of its client certificate" in done.stderr


def test_modes_say_who_can_read_the_key_on_macos_and_nothing_on_windows(
    foreign: Foreign, agent: TlsAgent, tmp_path: Path
) -> None:
    agent.answers["QueryJobs"] = pb.QueryJobsResponse()
    (tmp_path / "eve.yml").chmod(0o644)
    done = foreign("--config=eve.yml", "list")
    warned = b"other users can read the private key" in done.stderr
    assert (done.returncode, warned) == (0, foreign.system == "darwin")  # type: ignore[attr-defined]


def test_windows_takes_no_configuration_from_the_working_directory(
    foreign: Foreign, agent: TlsAgent, tmp_path: Path
) -> None:
    agent.answers["QueryJobs"] = pb.QueryJobsResponse()
    (tmp_path / "eve.yml").rename(tmp_path / "rnx-config.yml")
    assert foreign("list").returncode == (0 if foreign.system == "darwin" else 1)  # type: ignore[attr-defined]
