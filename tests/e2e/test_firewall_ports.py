"""Published ports: who reaches a job by them, who is refused, and what is left of them."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e import network_world as world
from tests.e2e.agent import Client, command, eventually, wait_for_agent
from tests.e2e.host import refusal, rnx_json, unit_of
from tests.e2e.network_world import FAR4, FAR6, HOST4, HOST6, PORT, Place

pytestmark = pytest.mark.systemd

EVERYWHERE, CHOSEN, LOCAL = 18000, 18001, 18002


@dataclass(frozen=True)
class Published:
    client: Client
    job: Place
    neighbour: Place
    stranger: Place
    host: Place
    outside: Place


def port(host_port: int, transport: str = "tcp", address: str = "") -> dict[str, Any]:
    return {"host_port": host_port, "job_port": PORT, "transport": transport, "address": address}


@pytest.fixture(scope="module")
def published() -> Iterator[Published]:
    client = Client()
    wait_for_agent(client)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(world.around())
        enter(world.network("ports-a", "--cidr=10.95.1.0/24"))
        ports = [port(EVERYWHERE), port(EVERYWHERE, "udp"), port(CHOSEN, address=HOST4)]
        ports += [port(CHOSEN, "udp", HOST6), port(LOCAL, address="127.0.0.1")]
        job = enter(world.job(client, "published", "bridge", ports=ports))
        neighbour = enter(world.job(client, "neighbour", "bridge"))
        stranger = enter(world.job(client, "stranger", "ports-a"))
        yield Published(client, job, neighbour, stranger, enter(world.host()), enter(world.outside()))
    client.close()


def test_the_outside_reaches_the_job_and_is_seen_as_it_is(published: Published) -> None:
    for kind in ("tcp", "udp"):
        assert published.outside.ask(HOST4, EVERYWHERE, kind) == world.NEAR4
        assert published.outside.ask(HOST6, EVERYWHERE, kind) == world.NEAR6


def test_the_host_reaches_the_job_by_each_of_its_addresses(published: Published) -> None:
    for kind in ("tcp", "udp"):
        assert published.host.ask(HOST4, EVERYWHERE, kind) == HOST4
        assert published.host.ask(HOST6, EVERYWHERE, kind) == HOST6
        assert published.host.ask("127.0.0.1", EVERYWHERE, kind) == "172.20.0.1"
        assert published.host.ask("172.20.0.1", EVERYWHERE, kind) == "172.20.0.1"


def test_the_hosts_other_loopback_refuses_at_once(published: Published) -> None:
    assert "refused" in published.host.ask("::1", EVERYWHERE)


def test_a_chosen_address_is_the_only_one(published: Published) -> None:
    assert published.outside.ask(HOST4, CHOSEN) == world.NEAR4
    assert published.outside.ask(HOST6, CHOSEN, "udp") == world.NEAR6
    assert not published.outside.reaches(HOST6, CHOSEN)
    assert not published.outside.reaches(HOST4, CHOSEN, "udp")
    assert not published.host.reaches("127.0.0.1", CHOSEN)
    assert published.host.reaches("127.0.0.1", LOCAL)
    assert not published.outside.reaches(HOST4, LOCAL)


def test_jobs_of_the_same_network_reach_it_and_others_do_not(published: Published) -> None:
    for address in (HOST4, HOST6):
        assert published.neighbour.reaches(address, EVERYWHERE)
        assert not published.stranger.reaches(address, EVERYWHERE)


def test_the_port_of_the_job_itself_stays_closed_to_the_outside(published: Published) -> None:
    assert not published.outside.reaches(published.job.address4)
    assert not published.outside.reaches(published.job.address6)
    assert not published.outside.reaches(HOST4, EVERYWHERE + 100)


def test_the_job_reaches_the_outside_as_before(published: Published) -> None:
    assert published.job.ask(FAR4) == HOST4
    assert published.job.ask(FAR6) == HOST6


@pytest.mark.parametrize(
    "wanted",
    [
        port(EVERYWHERE),
        port(EVERYWHERE, "udp"),
        port(EVERYWHERE, address=HOST4),
        port(CHOSEN),
        port(CHOSEN, address=HOST4),
        port(LOCAL, address="127.0.0.1"),
    ],
    ids=str,
)
def test_a_port_of_another_job_is_refused(published: Published, wanted: Any) -> None:
    code, reason = refusal(lambda: published.client.run("true", network="bridge", ports=[wanted]))
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "PORT_TAKEN")


def test_ports_beside_those_of_another_job_are_free(published: Published) -> None:
    beside = [port(CHOSEN, "tcp", HOST6), port(LOCAL, address=HOST4), port(CHOSEN, "udp", HOST4)]
    job_id = published.client.run("true", network="bridge", ports=beside)
    assert published.client.ended(job_id).status == "COMPLETED"


@pytest.mark.parametrize("address", ["", "0.0.0.0", "127.0.0.1"])
def test_a_port_of_a_program_of_the_host_is_refused(published: Published, address: str) -> None:
    with closing(world.listening("127.0.0.1", 18005)):
        code, reason = refusal(
            lambda: published.client.run("true", network="bridge", ports=[port(18005, address=address)])
        )
    assert (code, reason) == ("RESOURCE_EXHAUSTED", "PORT_TAKEN")


def test_a_program_of_the_host_cannot_take_a_published_port(published: Published) -> None:
    for address, number in (("0.0.0.0", EVERYWHERE), ("127.0.0.1", EVERYWHERE), ("127.0.0.1", LOCAL)):
        with pytest.raises(OSError, match="Address already in use"):
            world.listening(address, number)


def test_a_port_is_closed_as_soon_as_its_job_has_ended(published: Published) -> None:
    for kind in ("tcp", "udp"):
        with world.job(published.client, "short", "bridge", ports=[port(18006, kind)]) as job:
            assert published.outside.reaches(HOST4, 18006, kind)
            assert published.host.reaches("127.0.0.1", 18006, kind)
            command("systemctl", "kill", "--signal=KILL", unit_of(job.job_id))
            published.client.ended(job.job_id)
        eventually(members, lambda ids: job.job_id not in ids)
        assert not port_is_published(18006)
        assert not published.outside.reaches(HOST4, 18006, kind)
        assert not published.host.reaches("127.0.0.1", 18006, kind)
        world.listening("0.0.0.0", 18006).close()


def test_a_port_that_is_published_anew_leads_a_steady_caller_to_the_new_job(published: Published) -> None:
    """The kernel remembers where it sent a caller's datagrams, for as long as they come."""
    client, ports = published.client, [port(18007, "udp")]
    with world.steady_caller(HOST4, 18007) as caller:
        with world.job(client, "first", "bridge", ports=ports) as first:
            assert caller.answer() == world.NEAR4
        eventually(members, lambda ids: first.job_id not in ids)
        assert caller.answer() == ""
        with world.job(client, "heir", "bridge") as heir:  # of the address
            assert heir.address4 == first.address4
            assert caller.answer() == ""
            with world.job(client, "second", "bridge", ports=ports) as second:
                assert second.address4 != first.address4
                assert caller.answer() == world.NEAR4


def members() -> list[str]:
    return [member["job_uuid"] for member in rnx_json("network", "inspect", "bridge").get("members", ())]


def port_is_published(number: int) -> bool:
    return str(number) in command("nft", "list", "table", "inet", "joblet").stdout
