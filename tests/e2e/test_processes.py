"""Every process of a job ends with it: attack case B6."""

from collections.abc import Callable

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, eventually
from tests.e2e.host import configured
from tests.e2e.inside import processes_of_user, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

# Prints its user, leaves behind what is hard to end, and is ready. "{end}" is what the command does then.
LEFTOVERS = """
import os, signal, sys, time
def daemon(*ignored):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    os.close(0); os.close(1); os.close(2)
    time.sleep(1000)
    os._exit(0)
EVERY = [n for n in signal.valid_signals() if n not in (signal.SIGKILL, signal.SIGSTOP)]
daemon()
daemon(signal.SIGTERM, signal.SIGHUP)
daemon(*EVERY)
while os.fork() == 0:                      # a chain: each parent but the first ends, orphans go to the init
    if os.getpid() > 60:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(1, b"chain\\n")
        time.sleep(1000)
        os._exit(0)
    if os.fork():
        os._exit(0)
stopped = os.fork()
if stopped == 0:
    time.sleep(1000)
os.kill(stopped, signal.SIGSTOP)
print(os.getuid(), "ready", sep="\\n", flush=True)
{end}
"""
ALONE = 1


def _script(end: str) -> str:
    return LEFTOVERS.replace("{end}", end)


def _user(client: Client, job_id: str) -> int:
    return int(client.log(job_id).replace(b"chain\n", b"").split()[0])


@pytest.mark.parametrize(
    ("end", "state", "code"),
    [
        ("os._exit(0)", "COMPLETED", 0),
        ("os._exit(9)", "FAILED", 9),
        ("os.kill(os.getpid(), 9)", "FAILED", -1),
    ],
)
def test_b6_nothing_outlives_the_command(client: Client, end: str, state: str, code: int) -> None:
    job_id = client.run("python3", "-I", "-c", _script(end))
    status = client.ended(job_id)
    assert (status.status, status.exit_code) == (state, code)
    assert processes_of_user(_user(client, job_id)) == []


def test_b6_nothing_outlives_a_stop(client: Client) -> None:
    def is_crowded(user: int) -> Callable[[], bool]:
        return lambda: len(processes_of_user(user)) > ALONE

    with configured("jobs:\n  stop_grace: 1s\n"):
        for end in ("time.sleep(1000)", "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"):
            with running(client, "python3", "-I", "-c", _script(end)) as job_id:
                user = _user(client, job_id)
                eventually(is_crowded(user), bool)
                client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=30)
                status = client.ended(job_id)
                assert (status.status, status.reason) == ("STOPPED", "stopped")
                assert processes_of_user(user) == []


def test_b6_a_command_that_ignores_the_stop_is_killed_after_the_grace(client: Client) -> None:
    script = "trap 'echo asked' TERM INT HUP; echo ready; while :; do sleep 0.02; done"
    with configured("jobs:\n  stop_grace: 1s\n"), running(client, "sh", "-c", script) as job_id:
        reply = client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=30)
        assert (reply.status, reply.reason, reply.signal) == ("STOPPED", "stopped", 9)
        words = client.log(job_id).split()
        assert [word for word in words if word != b"Terminated"] == [
            b"ready",
            b"asked",
        ]  # of a sleep, if one was


def test_b6_processes_that_multiply_are_killed_all(client: Client) -> None:
    """Each child makes another and ends: whoever kills one by one never catches up."""
    script = """
import os
print(os.getuid(), "ready", sep="\\n", flush=True)
for _ in range(4):
    if os.fork() == 0:
        break
while True:
    try:
        if os.fork():
            os._exit(0) if os.getpid() != int(os.environ["FIRST"]) else os.wait()
    except OSError:
        pass
"""
    script = script.replace("import os", "import os\nos.environ['FIRST'] = str(os.getpid())", 1)
    with running(client, "python3", "-I", "-c", script) as job_id:
        user = _user(client, job_id)
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=30)
        assert client.ended(job_id).status == "STOPPED"
        assert processes_of_user(user) == []
