import json
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure


@pytest.fixture(autouse=True)
def accepts(agent: FakeAgent) -> None:
    agent.answers["RunJob"] = lambda request, _: pb.RunJobResponse(
        job_uuid=UUID,
        status="RUNNING",
        command=request.command,
        args=request.args,
        start_time="2026-01-31T10:00:00Z",
        scheduled_time=request.schedule,
    )


@pytest.mark.parametrize("form", [["run"], ["job", "run"], ["--node=local", "job", "run"]])
def test_both_forms_print_what_scripts_read(rnx: Rnx, form: list[str]) -> None:
    result = rnx(*form, "echo", "Hello, Joblet!")
    assert result.status == 0
    assert result.out == (
        f"Job started:\nID: {UUID}\nCommand: echo Hello, Joblet!\nStatus: RUNNING\n"
        "StartTime: 2026-01-31T10:00:00Z\n"
    )
    assert result.err == ""


def test_detach_prints_only_the_id(rnx: Rnx) -> None:
    assert rnx("run", "-d", "true").out == f"{UUID}\n"


@pytest.mark.parametrize("words", [["--json", "run"], ["run", "--json"], ["run", "-o", "json", "--detach"]])
def test_json_is_one_object_with_the_given_keys(rnx: Rnx, words: list[str]) -> None:
    assert json.loads(rnx(*words, "-e=A=1", "true", "x").out) == {
        "job_uuid": UUID,
        "command": "true",
        "args": ["x"],
        "status": "RUNNING",
        "start_time": "2026-01-31T10:00:00Z",
        "env_vars": 1,
    }


def test_json_after_the_command_belongs_to_the_job(agent: FakeAgent, rnx: Rnx) -> None:
    assert rnx("run", "tool", "--json", "-h", "--").out.startswith("Job started:")
    assert list(agent.asked("RunJob")[0].args) == ["--json", "-h", "--"]


def test_every_flag_reaches_the_agent(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx(
        *("run", "--name=n", "--env=A=1", "-e", "A=2", "-s=S=secret", "--workdir=/w", "--network", "none"),
        *("--volume=v1", "--volume=v2", "--runtime=python:3.11", "--max-cpu=50", "--max-memory=256"),
        *("--max-iobps=9", "--cpu-cores=0-3", "--gpu=2", "--gpu-memory=8gb", "--timeout=1h30m"),
        *("--schedule=2026-01-31T10:00:00Z", "--profile=strict", "cmd", "arg"),
    )
    assert result.status == 0
    assert agent.asked("RunJob") == [
        pb.RunJobRequest(
            name="n",
            command="cmd",
            args=["arg"],
            environment={"A": "2"},
            secret_environment={"S": "secret"},
            work_dir="/w",
            network="none",
            profile="strict",
            volumes=["v1", "v2"],
            runtime="python:3.11",
            max_cpu=50,
            max_memory=256,
            max_io_bps=9,
            cpu_cores="0-3",
            gpu_count=2,
            gpu_memory_mb=8192,
            timeout="1h30m",
            schedule=agent.asked("RunJob")[0].schedule,
        )
    ]
    assert "secret" not in result.out + result.err
    assert "Schedule Input: 2026-01-31T10:00:00Z\nScheduled Time: 2026-01-31T" in result.out
    assert "Environment: 1 variables set\nSecret Environment: 1 variables set\n" in result.out


def test_a_network_with_its_ports_and_rate_reaches_the_agent(
    agent: FakeAgent, rnx: Rnx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RNX_RUN_BANDWIDTH", "500kbit")
    words = ("--network=backend", "--publish=8080:80", "--publish", "[::1]:53:5353/udp", "--schedule=daily")
    assert rnx("run", *words, "--volume=data:/srv:ro", "true").status == 0
    (request,) = agent.asked("RunJob")
    assert list(request.ports) == [
        pb.PublishedPort(host_port=8080, job_port=80, transport="tcp"),
        pb.PublishedPort(address="::1", host_port=53, job_port=5353, transport="udp"),
    ]
    assert (request.network, request.bandwidth) == ("backend", 500_000)
    assert list(request.volumes) == ["data:/srv:ro"]
    assert rnx("run", "--bandwidth=10mbit", "true").status == 0
    assert agent.asked("RunJob")[1].bandwidth == 10_000_000


def test_files_travel_with_the_request(agent: FakeAgent, rnx: Rnx, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/deep.txt").write_text("deep")
    (tmp_path / "one.sh").write_text("one")
    (tmp_path / "one.sh").chmod(0o755)
    result = rnx("--json", "run", f"--upload={tmp_path}/one.sh", f"--upload-dir={tmp_path}/tree", "true")
    assert json.loads(result.out)["files_uploaded"] == 2
    assert "Uploading 2 files (0.00 MB)..." in result.err
    sent = {each.path: (each.content, each.is_directory) for each in agent.asked("RunJob")[0].uploads}
    assert sent == {"one.sh": (b"one", False), "sub": (b"", True), "sub/deep.txt": (b"deep", False)}
    assert agent.asked("RunJob")[0].uploads[0].mode == 0o755


def test_hostile_arguments_arrive_exactly(agent: FakeAgent, rnx: Rnx) -> None:
    words = ["$HOME", "%n", "a\nb", "'\"", "ünï", "", " ", "x" * 100_000, "\x1b[2J"]
    result = rnx("run", "printf", *words)
    assert list(agent.asked("RunJob")[0].args) == words
    assert "\x1b" not in result.out


def test_a_mebibyte_of_arguments_passes(agent: FakeAgent, rnx: Rnx) -> None:
    words = ["x" * 1023] * 1024
    assert rnx("run", "-d", "true", *words).status == 0
    assert len(agent.asked("RunJob")[0].args) == 1024


def test_bytes_that_are_not_utf8_are_refused_before_sending(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("run", "echo", "ok", "\udcff")
    assert result.status == 2
    assert "rnx: cannot send argument 4: not valid UTF-8\n" in result.err
    assert agent.requests == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "must specify a command to run"),
        (["--"], "must specify a command to run"),
        (["-e", "NOTHING", "true"], "cannot read --env: expected KEY=VALUE, there is no ="),
        (["-e", "=x", "true"], "cannot read --env: expected KEY=VALUE, the name is empty"),
        (["-s", "1A=geheim", "true"], "cannot read --secret-env: a name is made of letters"),
        (["-s", "geheim!", "true"], "cannot read --secret-env: expected KEY=VALUE, or KEY of a variable"),
        (["-s", "UNSET", "true"], "cannot read --secret-env: variable UNSET is not set here"),
        (["-s", "A=geheim\0", "true"], "cannot read --secret-env: the value of A contains a NUL byte"),
        (["-e", "A=" + "x" * 32769, "true"], "the value of A has 32769 bytes, the limit is 32768"),
        (["--secret-file=geheim", "true"], "cannot read --secret-file: expected NAME=PATH"),
        (["--secret-file==/etc/passwd", "true"], "cannot read --secret-file: expected NAME=PATH"),
        (["--publish=80", "true"], "cannot read --publish=80: expected [ADDR:]HOSTPORT:JOBPORT[/tcp|udp]"),
        (["--bandwidth=10MB", "true"], "cannot read --bandwidth=10MB: not a rate in bits per second"),
        (["--gpu-memory=lots", "true"], "cannot read --gpu-memory=lots"),
        (["--gpu-memory=9999999GB", "true"], "the largest size is"),
        (["--schedule=0s", "true"], "cannot read --schedule=0s: expected 1 second to 365 days"),
        (["--upload-dir=/nowhere", "true"], "cannot send /nowhere: not a directory"),
        (["--upload=/", "true"], "cannot send /: it is a directory"),
    ],
)
def test_a_wrong_line_is_refused_before_sending(
    agent: FakeAgent, rnx: Rnx, words: list[str], text: str
) -> None:
    result = rnx("run", *words)
    assert result.status == 2
    assert text in result.err
    assert "geheim" not in result.err
    assert result.out == ""
    assert agent.requests == []


def test_variables_come_from_files_and_from_our_environment(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.env").write_bytes(b"# comment\n\n  # another\nA=1\n B = x=y # kept \r\nC=file\n")
    (tmp_path / "b.env").write_text("A=2")
    (tmp_path / "s.env").write_text("KEY=geheim\nOTHER=\n")
    (tmp_path / "key.pem").write_bytes(b"\xffgeheim\0")
    monkeypatch.setenv("TOKEN", "a=b")
    result = rnx(
        *("--json", "run", "--env=C=flag", "--env-file=a.env", "--env-file", "b.env", "--token=t"),
        *("--secret-env-file=s.env", "-s", "TOKEN", "--secret-file=key=key.pem", "true"),
    )
    (request,) = agent.asked("RunJob")
    assert request.environment == {"A": "2", "B": " x=y # kept ", "C": "flag"}
    assert request.secret_environment == {"KEY": "geheim", "OTHER": "", "TOKEN": "a=b"}
    assert request.secret_files == {"key": b"\xffgeheim\0"}
    assert request.token == "t"
    counts = json.loads(result.out)
    assert (counts["env_vars"], counts["secret_env_vars"], counts["secret_files"]) == (3, 3, 1)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"A=1\ngeheim\n", "cannot read v.env, line 2: expected KEY=VALUE, there is no ="),
        (b"\n\nge heim=1", "cannot read v.env, line 3: a name is made of letters"),
        (b"A=geheim\xff", "cannot read v.env, line 1: not valid UTF-8"),
        (b"A=geheim\0", "cannot read v.env, line 1: the value of A contains a NUL byte"),
        (b"A=" + b"x" * 32769, "cannot read v.env, line 1: the value of A has 32769 bytes"),
    ],
)
@pytest.mark.parametrize("flag", ["--env-file", "--secret-env-file"])
def test_a_wrong_line_of_a_file_is_told_by_its_number(
    agent: FakeAgent, rnx: Rnx, tmp_path: Path, content: bytes, text: str, flag: str
) -> None:
    (tmp_path / "v.env").write_bytes(content)
    result = rnx("run", f"{flag}=v.env", "true")
    assert result.status == 2
    assert text in result.err
    assert "heim" not in result.err
    assert agent.requests == []


@pytest.mark.parametrize("flag", ["--env-file=", "--secret-env-file=", "--secret-file=key="])
def test_a_file_that_cannot_be_read_is_named(agent: FakeAgent, rnx: Rnx, tmp_path: Path, flag: str) -> None:
    name = flag.partition("=")[0]
    result = rnx("run", f"{flag}/nowhere", "true")
    assert (result.status, result.err) == (
        1,
        f"rnx: cannot read {name} /nowhere: No such file or directory\n",
    )
    (tmp_path / "large").write_bytes(b"#" * (5 << 20))
    result = rnx("run", f"{flag}large", "true")
    assert result.status == 1
    assert f"{name} large: larger than" in result.err
    assert agent.requests == []


def test_a_reserved_variable_is_sent_with_a_warning(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("--json", "run", "-e", "PATH=/opt/bin", "true")
    assert json.loads(result.out)["env_vars"] == 1
    assert result.err == "rnx: warning: PATH takes the place of the value that the agent sets\n"
    assert agent.asked("RunJob")[0].environment == {"PATH": "/opt/bin"}


def test_the_refusal_of_the_agent_is_printed_once_with_its_hint(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunJob"] = failure(
        grpc.StatusCode.UNIMPLEMENTED,
        "cannot run job: --volume is not offered",
        "OPTION_NOT_OFFERED",
        "leave it out %E2%80%93 for now",
    )
    result = rnx("run", "--volume=v", "true")
    assert result.status == 1
    assert (
        result.err == "rnx: cannot run job: --volume is not offered\nhint: leave it out \N{EN DASH} for now\n"
    )


@pytest.mark.parametrize(
    "words", [["--attach", "--detach", "true"], ["-a", "--json", "true"], ["-a", "--bad"]]
)
def test_attached_runs_keep_the_small_statuses_for_the_job(rnx: Rnx, words: list[str]) -> None:
    assert rnx("run", *words).status == 125


def test_help_stands_before_the_command_only(agent: FakeAgent, rnx: Rnx) -> None:
    assert rnx("run", "-h").out.startswith("Usage: rnx run [FLAGS] COMMAND")
    assert rnx("run", "--help").out == rnx("help", "run").out == rnx("help", "job", "run").out
    assert agent.requests == []


def test_a_recurring_job_cannot_be_attached(agent: FakeAgent, rnx: Rnx) -> None:
    result = rnx("run", "--attach", "--schedule=daily", "true")
    assert result.status == 125
    assert "cannot use --attach together with --schedule=daily" in result.err
    assert agent.requests == []


def test_a_recurring_schedule_is_told_with_its_id_and_next_start(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunJob"] = pb.RunJobResponse(
        status="SCHEDULED", command="true", schedule_uuid=UUID, scheduled_time="2026-03-02T02:00:00Z"
    )
    result = rnx("run", "--schedule=Mon..Fri 02:00", "--skip-missed", "true")
    assert result.status == 0
    assert result.out == (
        f"Schedule created:\nID: {UUID}\nCommand: true\nStatus: SCHEDULED\n"
        "Schedule Input: Mon..Fri 02:00\nScheduled Time: 2026-03-02T02:00:00Z\n"
    )
    (request,) = agent.asked("RunJob")
    assert (request.schedule, request.skip_missed) == ("Mon..Fri 02:00", True)
    assert rnx("run", "-d", "--schedule=daily", "true").out == f"{UUID}\n"


@pytest.mark.parametrize("words", [["-d"], ["--attach"]])
def test_c9_a_run_with_a_token_is_sent_again_to_an_agent_that_was_away(
    agent: FakeAgent, rnx: Rnx, words: list[str]
) -> None:
    answers = iter(
        [
            failure(grpc.StatusCode.UNAVAILABLE, "cannot go on: the agent is stopping", "AGENT_STOPPING"),
            failure(grpc.StatusCode.CANCELLED, ""),
            pb.RunJobResponse(job_uuid=UUID, status="RUNNING"),
        ]
    )
    agent.answers["RunJob"] = lambda *_: next(answers)
    agent.answers["GetJobLogs"] = pb.DataChunk(payload=b"out\n")
    agent.answers["GetJobStatus"] = pb.GetJobStatusResponse(uuid=UUID, status="COMPLETED")
    result = rnx("run", *words, "--token=t", "true")
    assert (result.status, result.err) == (0, "")
    assert [request.token for request in agent.asked("RunJob")] == ["t", "t", "t"]


def test_c9_a_run_without_a_token_is_sent_once(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RunJob"] = failure(grpc.StatusCode.UNAVAILABLE, "gone", "AGENT_STOPPING")
    assert rnx("run", "true").status == 1
    assert len(agent.asked("RunJob")) == 1
