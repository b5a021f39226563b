"""Input of commands inside running jobs: all of it and no more, signals, and what if a side goes away."""

import hashlib
import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.e2e.agent import DEADLINE, Client, agent_stopped, eventually, main_pid
from tests.e2e.execs import STDIN_END, Exchange, execute, nothing_is_left, popen, start, stdin
from tests.e2e.host import configured, refusal, rnx, running
from tests.e2e.inside import processes

pytestmark = pytest.mark.systemd

QUIET = "echo ready; exec sleep 1000"
MIB = 1024 * 1024
SOCKETS = "profiles:\n  privileged: true\nsockets:\n  operator:\n    path: {}\n  viewer:\n    path: {}\n"

_nothing_is_left = pytest.fixture(autouse=True)(nothing_is_left)


def work(job_id: str, name: str) -> Path:
    return Path(f"/var/lib/joblet/jobs/{job_id}/work/{name}")


def peak_of(pid: int) -> int:
    """Return the most memory that a process has had, in bytes; 0 for one that is dead."""
    _, _, told = Path(f"/proc/{pid}/status").read_text(encoding="ascii").partition("VmHWM:")
    return int(told.split()[0]) * 1024 if told else 0


# -- what goes in and comes out ------------------------------------------------------------------------


def test_fifty_mib_go_in_and_out_in_little_memory(client: Client, tmp_path: Path) -> None:
    block = os.urandom(MIB)
    given, got = tmp_path / "given", tmp_path / "got"
    with given.open("wb") as file:
        for number in range(50):
            file.write(hashlib.sha256(bytes((number,))).digest() + block)
    with running(client, QUIET) as job_id:
        execute(client, job_id, "cat", given=(stdin(block), STDIN_END), stdin=True)
        Path(f"/proc/{main_pid()}/clear_refs").write_text("5", encoding="ascii")  # its peak from now on
        before = peak_of(main_pid())
        with given.open("rb") as source, got.open("wb") as target:
            child = subprocess.Popen(["rnx", "exec", job_id, "cat"], stdin=source, stdout=target)
            peak = 0
            while child.poll() is None:
                peak = peak_of(child.pid) or peak
        assert child.returncode == 0
        assert subprocess.run(["cmp", given, got], check=False).returncode == 0
        assert peak_of(main_pid()) - before < 16 * MIB
        assert 0 < peak < 96 * MIB


def test_an_archive_is_unpacked_in_a_job(client: Client, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "file").write_bytes(b"\0\xff")
    with running(client, QUIET) as job_id:
        shell = (
            f"tar c -C {tmp_path} . | rnx job exec {job_id} -- tar x; rnx exec {job_id} -- tar c directory"
        )
        done = subprocess.run(["sh", "-c", shell], check=True, capture_output=True, timeout=DEADLINE)
        assert work(job_id, "directory/file").read_bytes() == b"\0\xff"
        assert b"directory/file" in done.stdout


@pytest.mark.parametrize(
    ("script", "status", "out"),
    [
        ("head -c 4", 0, b"y\ny\n"),  # it ends, its input would not
        ("exec <&-; echo closed; sleep 0.5; exit 5", 5, b"closed\n"),
        ("sleep 0.5", 0, b""),  # nobody reads
    ],
)
def test_endless_input_ends_with_the_command(client: Client, script: str, status: int, out: bytes) -> None:
    with running(client, QUIET) as job_id:
        endless = subprocess.Popen(["yes"], stdout=subprocess.PIPE)
        child = popen("exec", job_id, "--", "sh", "-c", script, stdin=endless.stdout)
        assert endless.stdout is not None
        endless.stdout.close()
        got, errors = child.communicate(timeout=DEADLINE)
        assert endless.wait(DEADLINE) == -signal.SIGPIPE
    assert (child.returncode, got, errors) == (status, out, b"")


def test_input_that_nobody_reads_stays_with_its_sender(client: Client) -> None:
    with running(client, QUIET) as job_id, Exchange(client, job_id, "sleep", "1000", stdin=True) as exchange:
        sent = 0

        def pieces() -> Any:
            nonlocal sent
            yield start(job_id, "sh", "-c", "echo begun; exec sleep 1000", stdin=True)
            while True:
                sent += 1
                yield stdin(bytes(MIB))

        call = client.agent.ExecInJob(pieces(), timeout=DEADLINE)
        assert next(call).stdout == b"begun\n"
        execute(client, job_id, "sleep", "1")
        assert sent < 32
        call.cancel()
        exchange.give(pb.ExecInJobRequest(signal="KILL"))
        assert exchange.end().signal == signal.SIGKILL


def test_a_command_without_input_has_none(client: Client) -> None:
    with running(client, QUIET) as job_id:
        out, _, end = execute(client, job_id, "sh", "-c", "readlink /proc/self/fd/0; cat")
        assert (out, end.exit_code) == (b"/dev/null\n", 0)
        assert rnx("exec", job_id, "cat").returncode == 0


def test_a_command_may_open_its_input_by_name(client: Client) -> None:
    with running(client, QUIET) as job_id:
        out, err, _ = execute(
            client, job_id, "cat", "/dev/stdin", given=(stdin(b"text"), STDIN_END), stdin=True
        )
        assert (out, err) == (b"text", b"")


def test_b2_a_command_with_input_has_three_files(client: Client) -> None:
    look = "import json, os; print(json.dumps(sorted(os.listdir('/proc/self/fd'), key=int)))"
    with running(client, QUIET) as job_id:
        out, _, _ = execute(client, job_id, "python3", "-I", "-c", look, stdin=True)
        assert json.loads(out) == ["0", "1", "2", "3"]  # 3 is the directory while it is read


# -- signals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["USR1", "SIGTERM", "10", "RTMIN+3", "INT"])
def test_a_signal_reaches_the_command(client: Client, name: str) -> None:
    number = {"USR1": 10, "SIGTERM": 15, "10": 10, "RTMIN+3": 37, "INT": 2}[name]
    script = f"trap 'echo caught; exit 3' {number}; echo begun; while :; do sleep 0.05; done"
    with running(client, QUIET) as job_id, Exchange(client, job_id, "sh", "-c", script) as exchange:
        exchange.until(b"begun\n")
        exchange.give(pb.ExecInJobRequest(signal=name))
        assert exchange.end().exit_code == 3
        assert exchange.out == b"begun\ncaught\n"


def test_a_command_is_stopped_and_goes_on_and_is_killed(client: Client) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        with Exchange(client, job_id, "sh", "-c", "echo begun; exec sleep 1000") as exchange:
            exchange.until(b"begun\n")
            (pid,) = set(processes(job_id)) - set(before)
            for name, state in (("STOP", "T"), ("CONT", "S")):
                exchange.give(pb.ExecInJobRequest(signal=name))
                eventually(
                    lambda: Path(f"/proc/{pid}/stat").read_text(encoding="ascii").split()[2],
                    lambda now: now == state,  # noqa: B023
                )
            exchange.give(pb.ExecInJobRequest(signal=""))
            assert exchange.end().signal == signal.SIGKILL
        assert processes(job_id) == before


def test_a_signal_in_the_first_moment_is_not_lost(client: Client) -> None:
    with running(client, QUIET) as job_id:
        given = (pb.ExecInJobRequest(signal="TERM"),)
        for _ in range(20):
            _, _, end = execute(client, job_id, "sleep", "1000", given=given)
            assert end.signal == signal.SIGTERM


# -- who goes away -------------------------------------------------------------------------------------


def test_a_client_that_is_killed_in_the_middle_does_not_end_the_input(client: Client) -> None:
    script = ": >part; echo begun; cat >part; touch whole"
    for _ in range(5):
        with running(client, QUIET) as job_id:
            before = processes(job_id)
            with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
                child = popen("exec", job_id, "--", "sh", "-c", script, stdin=endless.stdout)
                assert child.stdout is not None
                assert child.stdout.readline() == b"begun\n"
                eventually(lambda: work(job_id, "part").stat().st_size, bool)
                child.kill()
                endless.kill()
            child.communicate(timeout=DEADLINE)
            eventually(lambda: processes(job_id), lambda now: now == before)  # noqa: B023
            assert not work(job_id, "whole").exists()


JOB_CONTROL = "set -m; sleep 1000 & sleep 1000 | sleep 1000 & echo begun; cat"


def test_r3_nothing_of_a_command_is_left_while_the_agent_is_away(client: Client) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        child = popen("exec", job_id, "--", "sh", "-c", JOB_CONTROL, stdin=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        assert len(processes(job_id)) >= len(before) + 5
        with agent_stopped():
            eventually(lambda: processes(job_id), lambda now: now == before)
        _, errors = child.communicate(timeout=DEADLINE)
        assert (child.returncode, b"the command is lost" in errors) == (125, True)


def test_a_job_that_ends_ends_a_command_that_waits_for_input(client: Client) -> None:
    with running(client, QUIET) as job_id:
        child = popen("exec", job_id, "--", "sh", "-c", "echo begun; cat", stdin=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
        child.communicate(timeout=DEADLINE)
        # All of the job gets TERM, and KILL as soon as its own command has ended by that.
        assert child.returncode in {128 + signal.SIGTERM, 128 + signal.SIGKILL}


# -- refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "fields", "reason"),
    [
        ((stdin(b"x"),), {}, "STDIN_NOT_WANTED"),
        ((STDIN_END, stdin(b"x")), {"stdin": True}, "STDIN_ENDED"),
        ((stdin(b"x" * (MIB + 1)),), {"stdin": True}, "STDIN_TOO_LARGE"),
        ((pb.ExecInJobRequest(terminal_size=pb.TerminalSize()),), {"stdin": True}, "NO_TERMINAL"),
        ((pb.ExecInJobRequest(signal="NONSENSE"),), {}, "UNKNOWN_SIGNAL"),
        ((pb.ExecInJobRequest(),), {}, "UNKNOWN_EVENT"),
        ((start("7f3a", "true"),), {}, "SECOND_START"),
        ((), {"terminal": pb.ExecTerminal(size=pb.TerminalSize(rows=65536))}, "BAD_TERMINAL"),
        ((), {"terminal": pb.ExecTerminal(term="x\0y")}, "NUL_BYTE"),
        ((), {"environment": {"A=B": "x"}}, "BAD_VARIABLE_NAME"),
    ],
)
def test_c8_odd_messages_are_refused_and_end_the_command(
    client: Client, given: tuple[Any, ...], fields: dict[str, Any], reason: str
) -> None:
    with running(client, QUIET) as job_id:
        before = processes(job_id)
        refused = refusal(lambda: execute(client, job_id, "sleep", "1000", given=given, **fields))
        assert refused == ("INVALID_ARGUMENT", reason)
        eventually(lambda: processes(job_id), lambda now: now == before)


def test_b9_commands_in_privileged_jobs_are_for_admins(client: Client) -> None:
    look = "id -u; grep -E 'CapEff|NoNewPrivs|Seccomp:' /proc/self/status; hostname; tty"
    local = [f"/run/joblet/{role}.sock" for role in ("operator", "viewer")]
    with (
        configured(SOCKETS.format(*local)),
        running(client, f"({look}) >own; {QUIET}", profile="privileged") as job_id,
        running(client, QUIET) as harmless,
    ):
        out, err, end = execute(
            client, job_id, "sh", "-c", look, terminal=pb.ExecTerminal(size=pb.TerminalSize(rows=1))
        )
        assert (end.exit_code, err) == (0, b"")
        assert out.startswith(b"0\r\n")
        own = work(job_id, "own").read_bytes()
        assert out == own.replace(b"\n", b"\r\n").replace(b"not a tty", b"/dev/pts/0")
        refusals = {}
        for role, path in zip(("operator", "viewer"), local, strict=True):
            with grpc.insecure_channel(f"unix:{path}") as channel:
                agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
                for job in (job_id, harmless):
                    try:
                        list(agent.ExecInJob(iter([start(job, "true")]), timeout=DEADLINE))
                        refusals[role, job] = ""
                    except grpc.RpcError as error:
                        told: Any = error.trailing_metadata()
                        refusals[role, job] = dict(told)["joblet-reason"]
        assert refusals == {
            ("operator", job_id): "PROFILE_NOT_PERMITTED",
            ("operator", harmless): "",
            ("viewer", job_id): "ROLE_NOT_PERMITTED",
            ("viewer", harmless): "ROLE_NOT_PERMITTED",
        }
