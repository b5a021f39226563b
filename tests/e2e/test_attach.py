"""``rnx run --attach`` stays with its job: restarts and kills of the agent, Ctrl-C."""

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.agent import Client, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import AGENT, rnx_json

pytestmark = pytest.mark.systemd

STUBBORN = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done"


@contextmanager
def _attached(script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script attached; enter the block once its line ``ready`` has come."""
    words = ["rnx", "run", "--attach", "sh", "-c", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(6) == b"ready\n"
            yield process
        finally:
            process.kill()


def test_attach_goes_on_across_a_restart_and_kills(client: Client) -> None:
    script = "echo ready; for i in $(seq 1 150); do seq $i 500; sleep 0.02; done; printf end; exit 7"
    wanted = b"".join(b"%d\n" % n for i in range(1, 151) for n in range(i, 501)) + b"end"
    with _attached(script) as process:
        kill_agent()
        wait_for_agent(client)
        command("systemctl", "restart", AGENT)
        wait_for_agent(client)
        kill_agent()
        output, errors = process.communicate(timeout=60)
    assert output == wanted
    assert (process.returncode, errors) == (7, b"")


def test_attach_finds_the_end_that_came_while_the_agent_was_away(client: Client) -> None:
    with _attached("echo ready; sleep 0.5; echo late; kill -SEGV $$") as process:
        command("systemctl", "stop", AGENT)
        eventually(
            lambda: command("systemctl", "list-units", "--state=running", "joblet-job-*").stdout,
            lambda listing: "joblet-job-" not in listing,
        )
        command("systemctl", "start", AGENT)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (128 + signal.SIGSEGV, b"late\n")
    wait_for_agent(client)


@pytest.mark.usefixtures("client")
def test_ctrl_c_stops_the_job() -> None:
    with _attached("echo ready; exec sleep 1000") as process:
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (128 + signal.SIGTERM, b"")
    assert errors == b"rnx: stopping the job; Ctrl-C once more kills it\n"
    assert rnx_json("list", "--limit=1")[0]["status"] == "STOPPED"


@pytest.mark.usefixtures("client")
def test_a_second_ctrl_c_kills_the_job() -> None:
    with _attached(STUBBORN) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        while process.stdout.readline() != b"asked\n":  # the shell tells of its sleep first
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGKILL
    assert errors.endswith(b"\nrnx: killing the job\n")
    job = rnx_json("list", "--limit=1")[0]
    assert (job["status"], job["signal"]) == ("STOPPED", signal.SIGKILL)


def test_a_job_does_not_notice_that_its_client_was_killed(client: Client) -> None:
    with _attached("echo ready; sleep 0.3; echo alone; exit 3") as process:
        process.kill()
    job = rnx_json("list", "--limit=1")[0]
    assert client.ended(job["id"]).exit_code == 3
    assert client.log(job["id"]) == b"ready\nalone\n"
