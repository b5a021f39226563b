"""Traffic of jobs: what they sent and received, live and in the final figures, however they end."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, agent_stopped, command, eventually, kill_agent
from tests.e2e.host import configured, journal, rnx, running, unit_of

pytestmark = pytest.mark.systemd

DOWN, UP = 8_000_000, 3_000_000
"""Bytes that a job gets and gives."""
# Headers of Ethernet, IPv6 and TCP are 86 bytes of 1514; acknowledgements and neighbours come on top.
MOST = 1.12
SERVER = """
import socket
with socket.create_server(("::", 80), family=socket.AF_INET6) as server:
    print("ready", flush=True)
    while True:
        peer, _ = server.accept()
        with peer:
            left = UP
            while left and (got := peer.recv(min(left, 65536))):
                left -= len(got)
            peer.sendall(bytes(DOWN))
"""
CLIENT = """
import socket, sys, time
with socket.create_connection(("server", 80), timeout=60) as server:
    server.sendall(bytes(UP))
    left = DOWN
    while left and (got := server.recv(min(left, 65536))):
        left -= len(got)
print("ready", flush=True)
time.sleep(float(sys.argv[1]))
"""


def sized(script: str) -> str:
    return script.replace("DOWN", str(DOWN)).replace("UP", str(UP))


@contextmanager
def server(client: Client) -> Iterator[str]:
    """A job that takes and gives so many bytes to each who connects."""
    job_id = client.run("python3", "-c", sized(SERVER), name="server", network="bridge")
    eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
    yield job_id
    command("systemctl", "kill", "--signal=KILL", unit_of(job_id), check=False)
    client.ended(job_id)


def transfer(client: Client, seconds: int = 0) -> str:
    """Run a job that has transferred them, and stays for so long."""
    job_id = client.run("python3", "-c", sized(CLIENT), str(seconds), network="bridge")
    eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
    return job_id


def is_whole(figures: pb.JobUsage | pb.JobMetricsEvent) -> bool:
    """Say whether the figures are those of one transfer."""
    return DOWN <= figures.net_recv_bytes <= DOWN * MOST and UP <= figures.net_sent_bytes <= UP * MOST


def test_what_a_job_transfers_is_counted_on_both_sides(client: Client) -> None:
    with server(client) as other:
        usage = client.ended(transfer(client)).usage
        assert is_whole(usage), usage
        assert not usage.net_uncounted
        now = client.status(other).metrics
        assert DOWN <= now.net_sent_bytes <= DOWN * MOST
        assert UP <= now.net_recv_bytes <= UP * MOST
    killed = client.status(other).usage
    assert (killed.partial, killed.net_sent_bytes >= now.net_sent_bytes) == (True, True)


def test_a_running_job_is_seen_to_transfer(client: Client) -> None:
    with configured("metrics:\n  interval: 1s\n"), server(client):
        job_id = transfer(client, 1000)
        query = pb.GetJobMetricsRequest(job_uuid=job_id)
        (*_, last) = eventually(
            lambda: list(client.jobs.GetJobMetrics(query, timeout=DEADLINE)),
            lambda samples: bool(samples) and is_whole(samples[-1]),
        )
        shown = rnx("job", "metrics", "--no-follow", job_id).stdout.decode()
        assert "Network:\n  Received: 7." in shown or "Network:\n  Received: 8." in shown
        client.jobs.StopJob(pb.StopJobRequest(uuid=job_id, force=True), timeout=DEADLINE)
        usage = client.ended(job_id).usage
        assert (is_whole(usage), usage.net_recv_bytes >= last.net_recv_bytes) == (True, True)
        assert "  Network Received: " in rnx("status", job_id).stdout.decode()


def test_figures_are_whole_of_a_job_that_ends_while_the_agent_is_away(client: Client) -> None:
    with server(client):
        job_id = transfer(client, 1000)
        kill_agent()
        with agent_stopped():
            command("systemctl", "kill", "--signal=KILL", unit_of(job_id))
            eventually(
                lambda: command("systemctl", "is-active", unit_of(job_id), check=False).stdout,
                lambda state: state != "active\n",
            )
        assert is_whole(client.ended(job_id).usage)
        assert journal("JOBLET_EVENT=ended", f"JOBLET_JOB_ID={job_id}")


def test_loopback_is_no_traffic(client: Client) -> None:
    script = sized(SERVER).replace(
        "while True", "import threading\n    threading.Thread(target=call).start()\n    if 1"
    )
    call = sized(CLIENT).split("print")[0].replace('"server"', '"::1"').replace("\n", "\n    ")
    whole = f"def call():\n    {call}\n{script}".replace(", 80)", ", 8000)")
    job_id = client.run("python3", "-c", whole, network="none")
    status = client.ended(job_id)
    assert status.exit_code == 0, client.log(job_id)
    assert (status.usage.net_recv_bytes, status.usage.net_sent_bytes) == (0, 0)


def test_nobody_counts_on_the_hosts_network_and_it_is_said(client: Client) -> None:
    words = "not counted, it is on the host's own network"
    with configured("networks:\n  host: admin\n"):
        with running(client, "echo ready; sleep 1000", network="host") as job_id:
            assert client.status(job_id).metrics.net_uncounted
            assert f"  Network: {words}\n" in rnx("status", job_id).stdout.decode()
        usage = client.ended(job_id).usage
        assert (usage.net_uncounted, usage.net_recv_bytes, usage.net_sent_bytes) == (True, 0, 0)
