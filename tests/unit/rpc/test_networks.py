"""NetworkService, and GetNetworks, on the wire."""

import asyncio
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

import grpc
import pytest

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.errors import InvalidRequest, WrongState
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobId
from joblet_agent.model.network import (
    Attachment,
    Member,
    Network,
    NetworkSpec,
    NetworkView,
    PublishedPort,
    Transport,
)
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, FakeJobs, FakeNetworks, reason_of, serving

OTHER = JobId("8f3a0000-0000-4000-8000-000000000002")
PORT = PublishedPort(8080, 80, Transport.TCP, "192.0.2.1")
NETWORK = Network(
    name="mine",
    bridge="joblet-mine",
    range4=IPv4Network("10.10.0.0/24"),
    range6=IPv6Network("fd00:1:2:10::/64"),
    is_internal=True,
    mtu=1400,
    dns=(ip_address("9.9.9.9"),),
    bandwidth=10_000_000,
    created_at=datetime(2026, 1, 31, 12, 0, 0, 5, tzinfo=UTC),
)
PLACE = Attachment(ID, "mine", IPv4Address("10.10.0.2"), IPv6Address("fd00:1:2:10::2"), 8000, (PORT,))
VIEWS = [
    NetworkView("none", None, (Member(OTHER, "", "somebody"),)),
    NetworkView("mine", NETWORK, (Member(ID, "web", "op", PLACE), Member(OTHER, "", "somebody", PLACE))),
]


def call(networks: FakeNetworks, method: str, request: Any, caller: Identity | None = None) -> Any:
    config = JobsConfig(visibility=Visibility.OWN)

    async def run() -> Any:
        options: dict[str, Any] = {"authenticate": lambda _: caller} if caller else {}
        async with serving(FakeJobs(), networks=networks, jobs_config=config, **options) as rpc:
            return await rpc.unary(method, request)

    return asyncio.run(run())


def test_a_network_is_made_as_asked_for() -> None:
    networks = FakeNetworks()
    request = pb.CreateNetworkRequest(
        name="mine",
        cidr="10.10.0.0/24",
        cidr6="fd00:7::/64",
        internal=True,
        mtu=1400,
        dns=["9.9.9.9"],
        bandwidth=10_000_000,
    )
    answer = call(networks, "NetworkService/CreateNetwork", request)
    assert (answer.name, answer.cidr, answer.bridge) == ("mine", "10.10.0.0/24", "joblet-mine")
    spec = NetworkSpec("mine", "10.10.0.0/24", "fd00:7::/64", True, 1400, ("9.9.9.9",), 10_000_000)
    assert networks.calls == [spec]


def test_what_is_refused_is_an_invalid_argument() -> None:
    networks = FakeNetworks(error=InvalidRequest("there is one already", reason="NETWORK_EXISTS"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(networks, "NetworkService/CreateNetwork", pb.CreateNetworkRequest(name="mine"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "NETWORK_EXISTS"


def test_a_bandwidth_that_is_no_number_of_bits_is_refused() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(FakeNetworks(), "NetworkService/CreateNetwork", pb.CreateNetworkRequest(bandwidth=-1))
    assert reason_of(caught.value) == "BAD_BANDWIDTH"


def test_a_network_in_use_is_no_error_on_the_wire() -> None:
    error = WrongState("network mine is in use by job 7f3a0000", reason="NETWORK_IN_USE", hint="stop it")
    answer = call(
        FakeNetworks(error=error), "NetworkService/RemoveNetwork", pb.RemoveNetworkRequest(name="mine")
    )
    assert not answer.success
    assert answer.message == "cannot remove network: network mine is in use by job 7f3a0000; stop it"


def test_a_network_is_removed() -> None:
    networks = FakeNetworks()
    answer = call(networks, "NetworkService/RemoveNetwork", pb.RemoveNetworkRequest(name="mine"))
    assert answer.success
    assert networks.calls == ["mine"]


def test_a_list_tells_everything_but_the_members() -> None:
    none, mine = call(FakeNetworks(VIEWS), "NetworkService/ListNetworks", pb.EmptyRequest()).networks
    assert (none.name, none.cidr, none.bridge, none.job_count, none.builtin) == ("none", "", "", 1, True)
    assert (mine.name, mine.cidr, mine.bridge, mine.job_count) == ("mine", "10.10.0.0/24", "joblet-mine", 2)
    assert (mine.cidr6, mine.internal, mine.isolated, mine.mtu) == ("fd00:1:2:10::/64", True, False, 1400)
    assert (list(mine.dns), mine.bandwidth, mine.builtin) == (["9.9.9.9"], 10_000_000, False)
    assert mine.created_time == "2026-01-31T12:00:00.000005Z"
    assert not mine.members


def test_members_have_names_addresses_and_ports() -> None:
    request = pb.GetNetworksRequest(name="mine")
    (mine,) = call(FakeNetworks(VIEWS), "AgentService/GetNetworks", request).networks
    assert [member.job_uuid for member in mine.members] == [ID, OTHER]
    web = mine.members[0]
    assert (web.job_name, list(web.addresses), web.bandwidth) == (
        "web",
        ["10.10.0.2", "fd00:1:2:10::2"],
        8000,
    )
    assert list(web.ports) == [
        pb.PublishedPort(transport="tcp", address="192.0.2.1", host_port=8080, job_port=80)
    ]


@pytest.mark.parametrize("method", ["NetworkService/ListNetworks", "AgentService/GetNetworks"])
def test_c1_operators_see_their_own_jobs_only_where_the_configuration_says_so(method: str) -> None:
    request = pb.EmptyRequest() if method.endswith("ListNetworks") else pb.GetNetworksRequest()
    operator = Identity("op", Role.OPERATOR)
    none, mine = call(FakeNetworks(VIEWS), method, request, operator).networks
    assert (none.job_count, mine.job_count) == (0, 1)
    assert {member.job_uuid for member in [*none.members, *mine.members]} <= {ID}


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.VIEWER])
@pytest.mark.parametrize("method", ["CreateNetwork", "RemoveNetwork"])
def test_c1_only_admins_make_and_remove_networks(method: str, role: Role) -> None:
    networks = FakeNetworks()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        call(networks, f"NetworkService/{method}", None, Identity("x", role))
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert networks.calls == []
