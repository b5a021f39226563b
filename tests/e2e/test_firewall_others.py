"""Beside ufw, firewalld and docker: their rules stay theirs and in force.

An administrator is told what is in jobs' way, and what is told helps.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e import network_world as world
from tests.e2e.agent import Client, command, eventually, wait_for_agent
from tests.e2e.host import journal
from tests.e2e.network_world import FAR4, FAR6, HOST4, HOST6, PORT, Place
from tests.e2e.test_firewall import rules, rules_of_others

pytestmark = pytest.mark.systemd

SERVICE = "joblet-networks.service"
PUBLISHED = 18100

# What dockerd makes for its default bridge; both protocols, as it is since version 27.
DOCKER = """
for iptables in iptables ip6tables; do
    $iptables -P FORWARD DROP
    for chain in DOCKER DOCKER-USER DOCKER-ISOLATION-STAGE-1 DOCKER-ISOLATION-STAGE-2; do
        $iptables -N $chain
    done
    $iptables -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
    $iptables -A DOCKER-ISOLATION-STAGE-1 -j RETURN
    $iptables -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
    $iptables -A DOCKER-ISOLATION-STAGE-2 -j RETURN
    $iptables -A DOCKER-USER -j RETURN
    $iptables -A FORWARD -j DOCKER-USER
    $iptables -A FORWARD -j DOCKER-ISOLATION-STAGE-1
    $iptables -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    $iptables -A FORWARD -o docker0 -j DOCKER
    $iptables -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
    $iptables -A FORWARD -i docker0 -o docker0 -j ACCEPT
    $iptables -t nat -N DOCKER
    $iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
    $iptables -t nat -A DOCKER -i docker0 -j RETURN
done
iptables -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
"""


@contextmanager
def docker() -> Iterator[None]:
    try:
        command("sh", "-euc", DOCKER)
        yield
    finally:
        _delete_tables("filter", "nat")


@contextmanager
def ufw() -> Iterator[None]:
    command("ufw", "--force", "enable")
    try:
        yield
    finally:
        command("ufw", "--force", "reset")
        _delete_tables("filter")


@contextmanager
def firewalld() -> Iterator[None]:
    command("systemctl", "unmask", "firewalld.service")
    try:
        command("systemctl", "start", "firewalld.service")
        command("firewall-cmd", "--state")
        yield
    finally:
        command("systemctl", "stop", "firewalld.service")
        command("systemctl", "mask", "firewalld.service")
        Path("/etc/firewalld/zones/trusted.xml").unlink(missing_ok=True)


def _delete_tables(*names: str) -> None:
    for family in ("ip", "ip6"):
        for name in names:
            command("nft", "delete", "table", family, name, check=False)


@dataclass(frozen=True)
class Places:
    client: Client
    job: Place
    neighbour: Place
    stranger: Place
    host: Place
    outside: Place


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    client = Client()
    wait_for_agent(client)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(world.around())
        enter(world.network("others-a", "--cidr=10.94.1.0/24"))
        ports = [{"host_port": PUBLISHED, "job_port": PORT}]
        job = enter(world.job(client, "beside", "bridge", ports=ports))
        neighbour = enter(world.job(client, "neighbour", "bridge"))
        stranger = enter(world.job(client, "stranger", "others-a"))
        yield Places(client, job, neighbour, stranger, enter(world.host()), enter(world.outside()))
    client.close()


Others = tuple[str, Callable[[], AbstractContextManager[None]], bool]
OTHERS: list[Others] = [("ufw", ufw, True), ("firewalld", firewalld, True), ("docker", docker, False)]


@pytest.mark.parametrize(("name", "running", "guards_host"), OTHERS, ids=[other[0] for other in OTHERS])
def test_beside(
    places: Places, name: str, running: Callable[[], AbstractContextManager[None]], guards_host: bool
) -> None:
    assert reached(places) == EVERYTHING
    began = f"--since=@{time.time():.6f}"
    with running():
        theirs = rules_of_others()
        told = eventually(lambda: sentences(began), lambda found: len(found) >= 1 + guards_host)
        assert all(sentence.startswith(f"{name} may block ") for sentence in told), told

        # Their rules are in force for our packets, too …
        assert not places.job.reaches(FAR4)
        assert not places.job.reaches(FAR6)
        assert places.outside.reaches(HOST4) == places.outside.reaches(HOST6) == (not guards_host)
        # … and are not touched, whatever becomes of ours.
        with world.network("others-b", "--cidr=10.94.2.0/24"):
            ours = rules()
            command("nft", "delete", "table", "inet", "joblet")
            eventually(rules, lambda now: now == ours, within=1)
        assert rules_of_others() == theirs

        # What is told helps, opens nothing that our own table closes, and is told once.
        for sentence in told:
            command("sh", "-euc", sentence.split("to allow them: ")[1])
        assert reached(places) == EVERYTHING
        assert places.outside.reaches(HOST4) == places.outside.reaches(HOST6) == (not guards_host)
        command("systemctl", "kill", "--signal=KILL", SERVICE)
        assert reached(places) == EVERYTHING
        assert sentences(began) == told
    assert reached(places) == EVERYTHING


EVERYTHING = {
    "outside": True,
    "neighbour": True,
    "neighbour by name": True,
    "published port": True,
    "host service": False,
    "other network": False,
}


def reached(places: Places) -> dict[str, bool]:
    """Say what of the job's network works, by both protocols."""
    job, neighbour, stranger = places.job, places.neighbour, places.stranger
    asked = {
        "outside": [FAR4, FAR6],
        "neighbour": [neighbour.address4, neighbour.address6],
        "neighbour by name": ["neighbour"],
        "host service": [HOST4, HOST6],
        "other network": [stranger.address4, stranger.address6],
    }
    found = dict.fromkeys(EVERYTHING, False)
    answers = job.ask_all([("tcp", address, PORT) for addresses in asked.values() for address in addresses])
    for what, addresses in asked.items():
        own, answers = answers[: len(addresses)], answers[len(addresses) :]
        are_reached = {not answer.startswith("!") for answer in own}
        assert len(are_reached) == 1, (what, own)
        found[what] = are_reached == {True}
    found["published port"] = all(places.outside.reaches(address, PUBLISHED) for address in (HOST4, HOST6))
    return found


def sentences(since: str) -> list[str]:
    messages = [line["MESSAGE"] for line in journal(f"--unit={SERVICE}", since)]
    return [message for message in messages if " may block " in message]
