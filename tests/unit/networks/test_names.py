"""Names of networks and jobs in the kernel and in DNS."""

from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId
from joblet_agent.netlink import names as kernel
from joblet_agent.networks.names import bridge_name, host_names, namespace_path

ONE, OTHER = JobId("7f3a0000-0000-4000-8000-000000000001"), JobId("8f3a0000-0000-4000-8000-000000000002")
A, B = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")

NETWORK_NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}", fullmatch=True)


@pytest.mark.parametrize(
    ("network", "bridge"),
    [
        ("bridge", "joblet0"),
        ("isolated", "joblet-isolated"),
        ("web", "joblet-web"),
        ("eight888", "joblet-eight888"),
    ],
)
def test_a_bridge_has_the_name_of_its_network(network: str, bridge: str) -> None:
    assert bridge_name(network) == bridge


@given(NETWORK_NAMES)
def test_a5_every_name_of_a_network_is_a_bridge_that_the_kernel_part_knows_as_ours(network: str) -> None:
    bridge = bridge_name(network)
    assert len(bridge.encode()) <= 15
    assert kernel.is_bridge(bridge)
    assert bridge not in {"joblet0", "joblet-isolated"} or network in {"bridge", "isolated"}


@given(st.lists(NETWORK_NAMES, unique=True, max_size=20))
def test_a5_no_name_is_chosen_to_be_another_network_s_bridge(networks: list[str]) -> None:
    assert len(set(map(bridge_name, networks))) == len(networks)
    # What looks like the digest of another name gets a digest of its own.
    for network in networks:
        told = bridge_name(network).removeprefix("joblet-")
        assert bridge_name(told) != bridge_name(network) or told == network


def test_the_namespace_is_where_the_kernel_part_makes_it() -> None:
    assert namespace_path(ONE) == kernel.namespace_path(ONE)


def test_jobs_are_known_by_name_id_and_short_id() -> None:
    assert host_names([(ONE, "Web", (A,)), (OTHER, "", (B,))]) == {
        **{"web": (A,), ONE: (A,), ONE[:8]: (A,)},
        **{OTHER: (B,), OTHER[:8]: (B,)},
    }


def test_jobs_of_one_name_share_it() -> None:
    assert host_names([(ONE, "db", (A,)), (OTHER, "db", (B,))])["db"] == (A, B)


@pytest.mark.parametrize(
    "name",
    [
        "www.example.org",
        "localhost",
        "a b",
        "-a",
        "a-",
        "ü",
        "*",
        "a/b",
        "a\n",
        "x" * 64,
        ".",
        "#",
        "a,b",
        "%i",
    ],
)
def test_a5_no_name_of_a_job_is_a_host_of_the_outside_or_another_line(name: str) -> None:
    assert set(host_names([(ONE, name, (A,))])) == {ONE, ONE[:8]}


@pytest.mark.parametrize("name", [ONE, ONE[:8], ONE.upper()])
def test_nobody_is_called_by_another_s_id(name: str) -> None:
    assert host_names([(ONE, "", (A,)), (OTHER, name, (B,))])[name.lower()] == (A,)
