"""Nothing is left of jobs on networks, however the agent and the network service end: attack case R13."""

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import (
    DEADLINE,
    JOBS,
    Client,
    command,
    eventually,
    kill_agent,
    main_pid,
    persist,
    units,
    wait_for_agent,
)
from tests.e2e.network_world import network
from tests.sizes import size

pytestmark = pytest.mark.systemd

COUNT = size(60, 500)
AT_ONCE = 20
CUSTOM = "r13"
FIRST_PORT = 21000
SERVICE = "joblet-networks.service"
SCRIPT = "grep -c eth0 /proc/net/dev; exec sleep 0.2"
NAMES = Path("/run/joblet/dns")
PLACES = [Path("/run/joblet"), Path("/run/joblet-networks"), Path("/run/userdb"), Path("/run/netns")]
LAUNCHES = "/run/joblet/launch/"
QUIET = 60.0
"""Seconds after which the network service has no more namespaces in stock than at its start."""


def fields(number: int) -> dict[str, Any]:
    """What the job asks for: each kind in its turn."""
    port = FIRST_PORT + number
    both = [pb.PublishedPort(transport=name, host_port=port, job_port=80) for name in ("tcp", "udp")]
    kinds: list[dict[str, Any]] = [
        {"network": "bridge"},
        {"network": "bridge", "ports": both},
        {"network": "bridge", "bandwidth": 10_000_000},
        {"network": CUSTOM, "bandwidth": 10_000_000, "ports": both},
        {"network": "isolated"},
    ]
    return kinds[number % len(kinds)]


def run(client: Client, number: int) -> str:
    """Submit a job, again for as long as nobody answers; return its id."""
    token = f"r13-{number}-{random.getrandbits(48):x}"
    return persist(
        lambda: client.run("sh", "-c", SCRIPT, name=f"r13-{number}", token=token, **fields(number))
    )


def left() -> dict[str, list[str]]:
    """What is in the kernel and in files for networks; names of jobs are looked at by themselves."""
    links = json.loads(command("ip", "-json", "address").stdout)
    routes = [json.loads(command("ip", "-json", version, "route").stdout) for version in ("-4", "-6")]
    return {
        "links": sorted(f"{each['ifname']} {each.get('master')} {each['qdisc']}" for each in links),
        "addresses": sorted(f"{each['ifname']} {a['local']}" for each in links for a in each["addr_info"]),
        "routes": sorted(f"{each['dst']} {each.get('dev')}" for each in (*routes[0], *routes[1])),
        "qdiscs": sorted(
            f"{q['dev']} {q['kind']}" for q in json.loads(command("tc", "-json", "qdisc").stdout)
        ),
        "rules": command("nft", "--stateless", "list", "ruleset").stdout.splitlines(),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "files": sorted(
            str(path) for place in PLACES for path in place.rglob("*") if NAMES not in path.parents
        ),
        "units": units(),
    }


def settled() -> dict[str, list[str]]:
    """The same, once no job has a unit, a link or a file to start with any more."""
    return eventually(
        left,
        lambda now: (
            not now["units"]
            and not any(link.startswith("jb-") for link in now["links"])
            and not any(file.startswith(LAUNCHES) for file in now["files"])
        ),
    )


def differences(before: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is there more (+) or less (-) than before."""
    now = left()
    found = {
        what: [f"+ {each}" for each in now[what] if each not in before[what]]
        + [f"- {each}" for each in before[what] if each not in now[what]]
        for what in before
    }
    return {what: lines for what, lines in found.items() if lines or now[what] != before[what]}


def told_names() -> list[str]:
    """What the name servers that are there know of jobs."""
    return [line for path in NAMES.glob("*/hosts/*") for line in path.read_text().splitlines()]


def descriptors() -> dict[str, int]:
    return {unit: len(os.listdir(f"/proc/{main_pid(unit)}/fd")) for unit in ("joblet-agent.service", SERVICE)}


def is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with socket.socket(socket.AF_INET6, kind) as own:
            try:
                own.bind(("::", port))
            except OSError:
                return False
    return True


@contextmanager
def killing(victims: tuple[str, ...], rng: random.Random) -> Iterator[None]:
    """Kill these at some moment in the block."""

    def kill() -> None:
        time.sleep(rng.random() * 1.5)
        if "agent" in victims:
            kill_agent()
        if "networks" in victims:
            command("systemctl", "kill", "--signal=KILL", SERVICE, check=False)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def start_and_end(client: Client, numbers: range) -> None:
    """Run these jobs at the same time; each has its network, and completes."""
    ids: dict[int, str] = {}

    def submit(number: int) -> None:
        ids[number] = run(client, number)

    threads = [threading.Thread(target=submit, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids) == list(numbers)
    for number, job_id in ids.items():
        status = client.ended(job_id, within=120)
        told = (status.status, client.log(job_id))
        assert told == ("COMPLETED", b"1\n"), (number, status.reason, status.message)


@pytest.mark.soak
def test_r13_five_hundred_networked_jobs_leave_nothing(client: Client) -> None:
    client.jobs.DeleteAllJobs(pb.DeleteAllJobsRequest(), timeout=DEADLINE)
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    client.ended(client.run("true", network="bridge"))  # what the first job of an agent makes stays
    before = settled()
    with network(CUSTOM, "--cidr=10.98.0.0/24", "--bandwidth=100mbit"):
        command("systemctl", "restart", SERVICE)  # no more in stock than at its start
        start_and_end(client, range(5))
        base, base_descriptors = settled(), descriptors()
        victims = [("agent",), ("networks",), (), ("agent", "networks")]
        for turn, first in enumerate(range(5, COUNT, AT_ONCE)):
            with killing(victims[turn % len(victims)], rng):
                start_and_end(client, range(first, min(first + AT_ONCE, COUNT)))
        wait_for_agent(client)
        eventually(lambda: differences(base), lambda found: not found)
        eventually(told_names, lambda names: not names)
        assert [port for port in range(FIRST_PORT, FIRST_PORT + COUNT) if not is_free(port)] == []
        eventually(
            descriptors,
            lambda now: all(now[unit] <= most for unit, most in base_descriptors.items()),
            within=QUIET,
        )
        client.jobs.DeleteAllJobs(pb.DeleteAllJobsRequest(), timeout=DEADLINE)
        assert list(JOBS.iterdir()) == []
    eventually(lambda: differences(before), lambda found: not found)
