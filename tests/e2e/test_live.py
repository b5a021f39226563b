"""Jobs that are paused, resumed and sent signals while they run."""

import signal
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import (
    DEADLINE,
    Client,
    agent_stopped,
    command,
    eventually,
    kill_agent,
    wait_for_agent,
)
from tests.e2e.execs import start
from tests.e2e.host import configured, journal, refusal, rnx, rnx_json, running, shown, unit_of

pytestmark = pytest.mark.systemd

TICKS = "trap 'echo asked to stop; exit 5' TERM; echo ready; while :; do echo tick; sleep 0.05; done"
SIGNALS = [number for number in range(1, 65) if number not in {signal.SIGSTOP, signal.SIGCONT}]
STOPS_NOBODY = {signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH}
STOPS_FOR_A_WHILE = {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}


def pause(client: Client, job_id: str) -> pb.PauseJobResponse:
    reply: pb.PauseJobResponse = client.agent.PauseJob(pb.PauseJobRequest(uuid=job_id), timeout=DEADLINE)
    return reply


def resume(client: Client, job_id: str) -> pb.ResumeJobResponse:
    reply: pb.ResumeJobResponse = client.agent.ResumeJob(pb.ResumeJobRequest(uuid=job_id), timeout=DEADLINE)
    return reply


def kill(client: Client, job_id: str, word: str = "") -> pb.KillJobResponse:
    request = pb.KillJobRequest(uuid=job_id, signal=word)
    reply: pb.KillJobResponse = client.agent.KillJob(request, timeout=DEADLINE)
    return reply


def stop(client: Client, job_id: str, *, force: bool = False) -> pb.StopJobResponse:
    request = pb.StopJobRequest(uuid=job_id, force=force)
    reply: pb.StopJobResponse = client.jobs.StopJob(request, timeout=DEADLINE)
    return reply


def frozen(job_id: str) -> bool:
    """Say what the kernel says, whatever systemd thinks."""
    events = Path(f"/sys/fs/cgroup{shown(unit_of(job_id))['ControlGroup']}/cgroup.events")
    return "frozen 1" in events.read_text(encoding="ascii").splitlines()


def listed(client: Client, job_id: str) -> Any:
    (job,) = client.agent.QueryJobs(pb.QueryJobsRequest(uuid_prefix=job_id), timeout=DEADLINE).jobs
    return job


def goes_on(client: Client, job_id: str) -> None:
    size = len(client.log(job_id))
    eventually(lambda: len(client.log(job_id)), lambda now: now > size)


def test_a_paused_job_stands_still_and_goes_on(client: Client) -> None:
    with running(client, TICKS) as job_id:
        assert pause(client, job_id[:12]).uuid == job_id
        assert frozen(job_id)
        status = client.status(job_id)
        assert (status.status, status.paused) == ("RUNNING", True)
        assert (listed(client, job_id).status, listed(client, job_id).paused) == ("RUNNING", True)
        assert refusal(lambda: pause(client, job_id)) == ("FAILED_PRECONDITION", "JOB_PAUSED")
        resume(client, job_id)
        assert not frozen(job_id)
        assert not client.status(job_id).paused
        goes_on(client, job_id)
        assert refusal(lambda: resume(client, job_id)) == ("FAILED_PRECONDITION", "JOB_NOT_PAUSED")
    told = [record.get("JOBLET_EVENT", "") for record in journal(f"JOBLET_JOB_ID={job_id}")]
    assert [event for event in told if event in {"paused", "resumed"}] == ["paused", "resumed"]


def test_what_does_not_run_is_refused(client: Client) -> None:
    ended = client.run("true")
    client.ended(ended)
    for act in (pause, resume, kill):
        assert refusal(lambda: act(client, ended)) == ("FAILED_PRECONDITION", "JOB_NOT_RUNNING")  # noqa: B023
        nobody = "0123456789ab"
        assert refusal(lambda: act(client, nobody)) == ("NOT_FOUND", "JOB_NOT_FOUND")  # noqa: B023


def test_what_waits_is_refused(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n"), running(client, TICKS):
        waiting = client.run("true")
        for act in (
            lambda: pause(client, waiting),
            lambda: resume(client, waiting),
            lambda: kill(client, waiting),
            lambda: list(client.agent.ExecInJob(iter([start(waiting, "true")]), timeout=DEADLINE)),
        ):
            assert refusal(act) == ("FAILED_PRECONDITION", "JOB_NOT_RUNNING")
        client.jobs.CancelJob(pb.CancelJobRequest(uuid=waiting), timeout=DEADLINE)


def test_a_paused_job_keeps_its_grace_when_it_is_stopped(client: Client) -> None:
    with running(client, TICKS) as job_id:
        pause(client, job_id)
        stop(client, job_id)
        status = client.ended(job_id)
    assert (status.status, status.reason, status.exit_code, status.paused) == ("STOPPED", "stopped", 5, False)
    assert client.log(job_id).endswith(b"asked to stop\n")


@pytest.mark.parametrize("by", ["stop --force", "kill", "systemctl kill"])
def test_a_paused_job_can_be_killed(client: Client, by: str) -> None:
    with running(client, TICKS) as job_id:
        pause(client, job_id)
        if by == "stop --force":
            stop(client, job_id, force=True)
        elif by == "kill":
            kill(client, job_id)
        else:
            command("systemctl", "kill", "--signal=KILL", unit_of(job_id))
        status = client.ended(job_id)
    assert status.signal == signal.SIGKILL
    assert status.reason == ("stopped" if by == "stop --force" else "signal")
    assert not status.paused


def test_a_signal_waits_until_a_paused_job_goes_on(client: Client) -> None:
    with running(client, TICKS) as job_id:
        pause(client, job_id)
        kill(client, job_id, "TERM")
        assert client.status(job_id).status == "RUNNING"
        resume(client, job_id)
        assert client.ended(job_id).exit_code == 5


@pytest.mark.parametrize("frozen_by", ["rnx", "systemctl"])
def test_a_pause_survives_the_agent(client: Client, frozen_by: str) -> None:
    with running(client, TICKS) as job_id, running(client, TICKS) as other:
        if frozen_by == "rnx":
            pause(client, job_id)
            kill_agent()
            wait_for_agent(client)
        else:
            with agent_stopped():
                command("systemctl", "freeze", unit_of(job_id))
        status = client.status(job_id)
        assert (status.status, status.paused) == ("RUNNING", True)
        assert not client.status(other).paused
        assert frozen(job_id)
        stop(client, job_id)
        assert client.ended(job_id).exit_code == 5


def test_what_an_administrator_freezes_can_be_resumed(client: Client) -> None:
    with running(client, TICKS) as job_id:
        command("systemctl", "freeze", unit_of(job_id))
        assert refusal(lambda: pause(client, job_id)) == ("FAILED_PRECONDITION", "JOB_PAUSED")
        resume(client, job_id)
        goes_on(client, job_id)
        pause(client, job_id)
        command("systemctl", "thaw", unit_of(job_id))
        assert refusal(lambda: resume(client, job_id)) == ("FAILED_PRECONDITION", "JOB_NOT_PAUSED")
        goes_on(client, job_id)


def test_every_signal_through_this_door_is_told_as_it_was(client: Client) -> None:
    ids = {number: client.run("sh", "-c", "echo ready; exec sleep 1000") for number in SIGNALS}
    for number, job_id in ids.items():
        eventually(lambda: client.log(job_id), lambda log: log == b"ready\n")  # noqa: B023
        assert kill(client, job_id, str(number)).signal == number
    for number, job_id in ids.items():
        if number in STOPS_NOBODY | STOPS_FOR_A_WHILE:
            assert client.status(job_id).status == "RUNNING"
            kill(client, job_id)
            number = signal.SIGKILL  # noqa: PLW2901
        status = client.ended(job_id)
        assert (status.status, status.reason, status.signal) == ("FAILED", "signal", number)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGSEGV, signal.SIGPIPE, 32, 33, 34, 64])
def test_the_command_decides_what_a_signal_does(client: Client, number: int) -> None:
    script = f"""
import ctypes, os, struct, sys
got = []
handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(got.append)
libc = ctypes.CDLL(None)
ignore = struct.pack("QQQQ", 1, 0, 0, 0)
libc.syscall({13 if Path("/lib64/ld-linux-x86-64.so.2").exists() else 134}, {int(number)}, ignore, None, 8)
print("ready", flush=True)
import time
while not os.path.exists("/work/over"):
    time.sleep(0.02)
sys.exit(7)
"""
    job_id = client.run("python3", "-I", "-c", script)
    eventually(lambda: client.log(job_id), lambda log: log == b"ready\n")
    kill(client, job_id, str(int(number)))
    assert client.status(job_id).status == "RUNNING"
    Path(f"/var/lib/joblet/jobs/{job_id}/work/over").touch()
    status = client.ended(job_id)
    assert (status.status, status.exit_code, status.signal) == ("FAILED", 7, 0)


def test_a_job_that_was_stopped_by_a_signal_goes_on_and_ends_as_it_would(client: Client) -> None:
    with running(client, TICKS) as job_id:
        kill(client, job_id, "SIGSTOP")
        assert client.status(job_id).status == "RUNNING"
        kill(client, job_id, "cont")
        goes_on(client, job_id)
        kill(client, job_id, "STOP")
        stop(client, job_id)
        assert client.ended(job_id).exit_code == 5
    assert "killed" in [record.get("JOBLET_EVENT") for record in journal(f"JOBLET_JOB_ID={job_id}")]


def test_a_signal_that_does_not_exist_is_refused(client: Client) -> None:
    with running(client, TICKS) as job_id:
        for word in ("FOO", "0", "65", "-9", "SIG", "1.0", "KILL "[:4] + "x"):
            assert refusal(lambda: kill(client, job_id, word)) == ("INVALID_ARGUMENT", "UNKNOWN_SIGNAL")  # noqa: B023
        assert client.status(job_id).status == "RUNNING"


def test_on_the_command_line(client: Client) -> None:
    with running(client, TICKS) as job_id:
        assert b"paused successfully" in rnx("job", "pause", job_id).stdout
        state = next(line for line in rnx("status", job_id).stdout.decode().splitlines() if "Status:" in line)
        assert state.split() == ["Status:", "RUNNING", "(paused)"]
        row = next(line for line in rnx("list").stdout.decode().splitlines() if job_id in line)
        assert row.split()[3:5] == ["RUNNING", "(paused)"]
        assert rnx_json("status", job_id)["paused"] is True
        again = rnx("job", "pause", job_id)
        assert (again.returncode, b"it is paused already" in again.stderr) == (1, True)
        assert b"resumed successfully" in rnx("job", "resume", job_id).stdout
        unknown = rnx("job", "kill", "--signal=NOPE", job_id)
        assert unknown.returncode == 1
        assert b"there is no signal 'NOPE'" in unknown.stderr
        assert b"USR1" in unknown.stderr
        assert rnx("job", "kill", "--signal=SIGUSR1", job_id).returncode == 0
        status = client.ended(job_id)
    assert (status.status, status.reason, status.signal) == ("FAILED", "signal", signal.SIGUSR1)
