"""Jobs on networks, in the kernel: neighbours, addresses, ends, crashes, races."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import (
    DEADLINE,
    Client,
    agent_stopped,
    command,
    eventually,
    kill_agent,
    persist,
    wait_for_agent,
)
from tests.e2e.host import configured, in_parallel, refusal, rnx, unit_of
from tests.e2e.inside import probe, running

pytestmark = pytest.mark.systemd

NAMESPACES = Path("/run/netns")
MINE = "10.77.0.0/24"
SERVER = """
import socket, threading
def serve(family, address):
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, 80))
        s.listen()
        print("ready", flush=True)
        while True:
            s.accept()[0].sendall(b"hello")
threading.Thread(target=serve, args=(socket.AF_INET6, "::")).start()
serve(socket.AF_INET, "0.0.0.0")
"""
ASK = """
import json, socket, sys
told = {}
for name in sys.argv[1:]:
    try:
        with socket.create_connection((name, 80), timeout=3) as s:
            told[name] = s.recv(9).decode()
    except OSError as error:
        told[name] = type(error).__name__
print(json.dumps(told))
"""
ADDRESSES = """
import json, socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    s.connect(("192.0.2.1", 9))
    four = s.getsockname()[0]
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
    s.connect(("2001:db8::1", 9))
    print(json.dumps([four, s.getsockname()[0]]), flush=True)
"""


def leftovers() -> list[str]:
    """What of jobs is in the kernel now."""
    links = json.loads(command("ip", "-json", "link", "show").stdout)
    ends = [link["ifname"] for link in links if link["ifname"].startswith("jb-")]
    spaces = [file.name for file in NAMESPACES.glob("joblet-*") if not file.name.startswith("joblet-spare-")]
    return sorted([*ends, *spaces])


def bridges() -> set[str]:
    links = json.loads(command("ip", "-json", "link", "show", "type", "bridge").stdout)
    return {link["ifname"] for link in links if link["ifname"].startswith("joblet")}


def network(client: Client, name: str) -> pb.Network:
    reply = persist(
        lambda: client.agent.GetNetworks(
            pb.GetNetworksRequest(name=name), timeout=DEADLINE, wait_for_ready=True
        )
    )
    (found,) = reply.networks
    return found  # type: ignore[no-any-return]


def create(client: Client, name: str, cidr: str = MINE, **fields: Any) -> None:
    client.networks.CreateNetwork(pb.CreateNetworkRequest(name=name, cidr=cidr, **fields), timeout=DEADLINE)


def remove(client: Client, name: str) -> pb.RemoveNetworkResponse:
    reply: pb.RemoveNetworkResponse = client.networks.RemoveNetwork(
        pb.RemoveNetworkRequest(name=name), timeout=DEADLINE, wait_for_ready=True
    )
    return reply


@contextmanager
def made(client: Client, name: str, cidr: str = MINE, **fields: Any) -> Iterator[None]:
    create(client, name, cidr, **fields)
    try:
        yield
    finally:
        eventually(lambda: remove(client, name), lambda reply: reply.success)


@contextmanager
def server(client: Client, **fields: Any) -> Iterator[str]:
    with running(client, "python3", "-I", "-c", SERVER, **fields) as job_id:
        eventually(lambda: client.log(job_id), lambda log: log.count(b"ready\n") == 2)
        yield job_id


def ask(client: Client, *names: str, **fields: Any) -> Any:
    return probe(client, ASK, *names, **fields)


# -- neighbours ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bridge", "mine"])
def test_jobs_on_a_network_reach_each_other_by_address_and_name(client: Client, name: str) -> None:
    with made(client, "mine"), server(client, name="web", network=name) as job_id:
        addresses = list(client.status(job_id).addresses)
        known = [*addresses, "web", "WEB", job_id, job_id[:8]]
        assert ask(client, *known, network=name) == dict.fromkeys(known, "hello")
        (member,) = [each for each in network(client, name).members if each.job_uuid == job_id]
        assert list(member.addresses) == addresses
        assert [ip_address(each).version for each in addresses] == [4, 6]


def test_jobs_on_other_networks_and_isolated_ones_are_not_reached(client: Client) -> None:
    with made(client, "mine"), server(client, name="web") as job_id:
        known = [*client.status(job_id).addresses, "web"]
        for name in ("mine", "isolated", "none"):
            told = ask(client, *known, network=name)
            assert "hello" not in told.values(), (name, told)
    with server(client, name="alone", network="isolated") as job_id:
        known = [*client.status(job_id).addresses, "alone"]
        told = ask(client, *known, network="isolated")
        assert "hello" not in told.values()


def test_a_name_is_gone_with_its_job(client: Client) -> None:
    with server(client, name="web"):
        assert ask(client, "web") == {"web": "hello"}
    eventually(lambda: ask(client, "web"), lambda told: told == {"web": "gaierror"})


def test_a_job_has_what_the_record_says(client: Client) -> None:
    job_id = client.run("python3", "-I", "-c", ADDRESSES + "import time; time.sleep(1000)")
    try:
        log = eventually(lambda: client.log(job_id), lambda log: log.endswith(b"\n"))
        status = client.status(job_id)
        assert json.loads(log) == list(status.addresses)
        assert (NAMESPACES / f"joblet-{job_id}").exists()
        assert command("systemctl", "show", "-P", "NetworkNamespacePath", unit_of(job_id)).stdout.strip() == (
            f"/run/netns/joblet-{job_id}"
        )
    finally:
        command("systemctl", "stop", unit_of(job_id))
    assert list(client.ended(job_id).addresses) == []
    eventually(leftovers, lambda left: left == [])


def test_a_command_inside_a_job_is_on_its_network(client: Client) -> None:
    with server(client) as job_id:
        done = rnx("job", "exec", job_id, "--", "python3", "-I", "-c", ASK, "127.0.0.1")
        assert json.loads(done.stdout) == {"127.0.0.1": "hello"}, done.stderr


def test_the_unit_is_explained(client: Client) -> None:
    with running(client, "sh", "-c", "echo ready; sleep 1000") as job_id:
        told = client.agent.ExplainJob(pb.ExplainJobRequest(uuid=job_id), timeout=DEADLINE)
        properties = {each.name: (each.value, each.origin) for each in told.properties}
        path = f"/run/netns/joblet-{job_id}"
        assert properties["NetworkNamespacePath"] == (path, "--network=bridge")
        assert not {"IPAddressDeny", "IPAddressAllow"} & set(properties)
        assert f"--property=NetworkNamespacePath={path}" in told.systemd_run


@pytest.mark.parametrize("profile", ["default", "strict", "privileged"])
def test_a_job_is_never_in_the_host_s_network_namespace(client: Client, profile: str) -> None:
    own = command("readlink", "/proc/self/ns/net").stdout.strip()
    with configured("profiles:\n  privileged: true\n"):
        for name in ("bridge", "isolated", "none"):
            job_id = client.run("readlink", "/proc/self/ns/net", network=name, profile=profile)
            assert client.ended(job_id).status == "COMPLETED"
            assert client.log(job_id).decode().strip() not in {own, ""}


# -- the host's network --------------------------------------------------------------------------------


def test_b9_the_host_s_network_is_refused_unless_the_configuration_allows_it(client: Client) -> None:
    told = refusal(lambda: client.run("true", network="host"))
    assert told == ("PERMISSION_DENIED", "NETWORK_NOT_PERMITTED")
    own = command("readlink", "/proc/self/ns/net").stdout.strip()
    with configured("networks:\n  host: admin\njobs:\n  max_concurrent: 1\n"):
        job_id = client.run("sh", "-c", "readlink /proc/self/ns/net; id -u", network="host")
        assert client.ended(job_id).status == "COMPLETED"
        namespace, user = client.log(job_id).decode().split()
        assert namespace == own
        assert int(user) >= 0x70000000
        first = client.run("sleep", "1000", network="none")
        waits = client.run("true", network="host")
        assert client.status(waits).status == "PENDING"
        # The configuration changes while it waits.
        Path("/etc/joblet/agent.yml").write_text("jobs:\n  max_concurrent: 1\n", encoding="utf-8")
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        command("systemctl", "stop", unit_of(first))
        ended = client.ended(waits)
        assert (ended.status, ended.reason) == ("FAILED", "start-failed")
        assert "may not use --network=host" in ended.message


def test_a_command_inside_a_job_on_the_host_s_network_joins_it(client: Client) -> None:
    with (
        configured("networks:\n  host: admin\n"),
        running(client, "sh", "-c", "echo ready; sleep 1000", network="host") as job_id,
    ):
        done = rnx("job", "exec", job_id, "--", "readlink", "/proc/self/ns/net")
        assert done.stdout.decode() == command("readlink", "/proc/self/ns/net").stdout, done.stderr


# -- addresses -----------------------------------------------------------------------------------------


def test_a_hundred_starts_at_once_have_a_hundred_addresses(client: Client) -> None:
    eventually(leftovers, lambda left: left == [])
    jobs = in_parallel(lambda _: client.run("sleep", "1000"), list(range(100)))
    try:
        given = [tuple(client.status(job_id).addresses) for job_id in jobs]
        assert len(set(given)) == 100
        assert len(leftovers()) == 200
        assert {ip_address(four) for four, _ in given} <= set(ip_network("172.20.0.0/16").hosts())
    finally:
        in_parallel(lambda job_id: command("systemctl", "kill", "-s", "KILL", unit_of(job_id)), jobs)
        for job_id in jobs:
            client.ended(job_id)
    eventually(leftovers, lambda left: left == [])


def test_b8_an_agent_that_is_killed_at_any_moment_leaves_nothing_and_gives_no_address_twice(
    client: Client,
) -> None:
    rolls = random.Random(8)
    for _ in range(6):
        jobs = [client.run("sleep", "1000") for _ in range(2)]
        calls = [
            client.jobs.RunJob.future(pb.RunJobRequest(command="sleep", args=["1000"]), timeout=DEADLINE)
            for _ in range(6)
        ]
        time.sleep(rolls.random() * 0.2)
        command("systemctl", "kill", "-s", "KILL", unit_of(jobs[0]), check=False)
        kill_agent()
        for call in calls:
            call.exception(timeout=DEADLINE)
        wait_for_agent(client)
        client.ended(jobs[0])
        alive = persist(
            lambda: client.agent.QueryJobs(
                pb.QueryJobsRequest(states=["RUNNING", "INITIALIZING"]), timeout=DEADLINE, wait_for_ready=True
            )
        ).jobs
        held = [tuple(client.status(job.uuid).addresses) for job in alive]
        assert len(set(held)) == len(held)
        in_parallel(
            lambda job: command("systemctl", "kill", "-s", "KILL", unit_of(job.uuid), check=False),
            list(alive),
        )
        for job in alive:
            client.ended(job.uuid)
        eventually(leftovers, lambda left: left == [])


def test_jobs_go_on_and_are_reached_while_agent_and_network_service_are_killed(client: Client) -> None:
    with server(client, name="web") as job_id:
        for unit in ("joblet-agent.service", "joblet-networks.service"):
            command("systemctl", "kill", "--signal=KILL", unit)
            wait_for_agent(client)
            assert eventually(lambda: ask(client, "web"), lambda told: told == {"web": "hello"})
        assert client.status(job_id).message == ""


def test_b8_what_a_job_has_left_while_the_agent_was_away_is_removed(client: Client) -> None:
    job_id = client.run("sleep", "1000")
    with agent_stopped():
        command("systemctl", "kill", "-s", "KILL", unit_of(job_id))
        assert leftovers() != []
    client.ended(job_id)
    eventually(leftovers, lambda left: left == [])


# -- making and removing -------------------------------------------------------------------------------


def test_a_network_is_refused_or_there_and_gone(client: Client) -> None:
    with made(client, "mine", mtu=1400, bandwidth=10_000_000, internal=True):
        found = network(client, "mine")
        assert (found.cidr, found.bridge, found.mtu, found.internal) == (MINE, "joblet-mine", 1400, True)
        assert "joblet-mine" in bridges()
        assert refusal(lambda: create(client, "mine", "10.78.0.0/24")) == (
            "INVALID_ARGUMENT",
            "NETWORK_EXISTS",
        )
        assert refusal(lambda: create(client, "b", "10.77.0.128/25")) == (
            "INVALID_ARGUMENT",
            "RANGE_OVERLAPS",
        )
        command("ip", "link", "add", "other0", "type", "bridge")
        try:
            command("ip", "addr", "add", "10.79.0.1/24", "dev", "other0")
            command("ip", "link", "set", "other0", "up")
            assert refusal(lambda: create(client, "b", "10.79.0.0/16"))[1] == "RANGE_OVERLAPS"
            assert refusal(lambda: create(client, "b", "10.79.0.0/24"))[1] == "RANGE_OVERLAPS"
        finally:
            command("ip", "link", "del", "other0")
    assert "joblet-mine" not in bridges()
    assert refusal(lambda: remove(client, "mine")) == ("NOT_FOUND", "NETWORK_NOT_FOUND")
    assert refusal(lambda: remove(client, "bridge")) == ("INVALID_ARGUMENT", "NETWORK_BUILT_IN")


def test_a_network_in_use_stays_and_says_by_whom(client: Client) -> None:
    words = ("sh", "-c", "echo ready; sleep 1000")
    with made(client, "mine"), running(client, *words, network="mine") as job_id:
        reply = remove(client, "mine")
        assert not reply.success
        assert job_id[:8] in reply.message
        assert "joblet-mine" in bridges()


def test_networks_survive_the_agent(client: Client) -> None:
    with made(client, "mine", cidr6="fd77:7::/64"):
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        found = network(client, "mine")
        assert (found.cidr, found.cidr6) == (MINE, "fd77:7::/64")
        command("ip", "link", "del", "joblet-mine")
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        assert "joblet-mine" in bridges()


def test_a_job_that_starts_and_a_removal_never_both_succeed(client: Client) -> None:
    for _ in range(10):
        create(client, "mine")
        start = client.jobs.RunJob.future(
            pb.RunJobRequest(command="sleep", args=["1000"], network="mine"), timeout=DEADLINE
        )
        removal = client.networks.RemoveNetwork.future(pb.RemoveNetworkRequest(name="mine"), timeout=DEADLINE)
        was_removed = removal.result().success
        if was_removed:
            assert refusal(start.result)[1] == "UNKNOWN_NETWORK"
        else:
            job_id = start.result().job_uuid
            assert client.status(job_id).status == "RUNNING"
            command("systemctl", "kill", "-s", "KILL", unit_of(job_id))
            client.ended(job_id)
            eventually(lambda: remove(client, "mine"), lambda reply: reply.success)
        assert "joblet-mine" not in bridges()


def test_a_removal_in_whose_midst_the_agent_dies_is_finished(client: Client) -> None:
    rolls = random.Random(5)
    for _ in range(8):
        create(client, "mine")
        removal = client.networks.RemoveNetwork.future(pb.RemoveNetworkRequest(name="mine"), timeout=DEADLINE)
        time.sleep(rolls.random() * 0.05)
        kill_agent()
        removal.exception(timeout=DEADLINE)
        wait_for_agent(client)
        listed = client.agent.GetNetworks(pb.GetNetworksRequest(), timeout=DEADLINE, wait_for_ready=True)
        if "mine" in {each.name for each in listed.networks}:
            assert remove(client, "mine").success
        eventually(bridges, lambda found: found == {"joblet0", "joblet-isolated"})
        eventually(lambda: list(Path("/run/joblet/dns").glob("mine")), lambda left: left == [])


def test_a_job_that_waits_for_a_network_which_is_removed_fails_with_a_reason(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n"):
        create(client, "mine")
        first = client.run("sleep", "1000")
        waits = client.run("true", network="mine")
        assert remove(client, "mine").success
        command("systemctl", "stop", unit_of(first))
        ended = client.ended(waits)
        assert (ended.status, ended.reason) == ("FAILED", "start-failed")
        assert "there is no network 'mine'" in ended.message


# -- the service is away -------------------------------------------------------------------------------


def test_without_the_network_service_the_agent_starts_and_says_what_is_missing(client: Client) -> None:
    units = ("joblet-networks.socket", "joblet-networks.service")
    command("systemctl", "mask", "--runtime", "--now", *units)
    try:
        command("systemctl", "restart", "joblet-agent.service")
        wait_for_agent(client)
        assert client.ended(client.run("true", network="none")).status == "COMPLETED"
        with pytest.raises(grpc.RpcError) as caught:
            client.run("true")
        error: Any = caught.value
        told = dict(error.trailing_metadata())
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert "joblet-networks" in told["joblet-hint"]
    finally:
        command("systemctl", "unmask", "--runtime", *units)
        command("systemctl", "start", "joblet-networks.socket")
    eventually(lambda: rnx("run", "true").returncode, lambda status: status == 0, 60)


# -- names as attacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a@b", "%i", "\\x2d", "a\nb", "-a", "x" * 300, "a b", "$(id)", "", ".", "ü"]
)
def test_a5_no_name_of_a_network_becomes_something_else(client: Client, name: str) -> None:
    before = bridges(), sorted(Path("/run/joblet/dns").rglob("*"))
    assert refusal(lambda: create(client, name)) == ("INVALID_ARGUMENT", "BAD_NETWORK_NAME")
    assert (bridges(), sorted(Path("/run/joblet/dns").rglob("*"))) == before


@pytest.mark.parametrize("name", ["a", "A", "0", "deadbeef", "UPPER_lower-123", "a-_-"])
def test_a5_every_name_that_is_taken_comes_back_as_it_was(client: Client, name: str) -> None:
    with made(client, name):
        assert network(client, name).name == name
        with server(client, name="web", network=name):
            assert ask(client, "web", network=name) == {"web": "hello"}
    assert bridges() == {"joblet0", "joblet-isolated"}
