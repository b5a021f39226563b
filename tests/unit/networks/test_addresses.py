"""Addresses: the first free one, never twice, never the gateway's."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import LimitReached
from joblet_agent.networks.addresses import AddressPool

RANGE6 = IPv6Network("fd00:1:2:3::/64")


def pool(range4: str = "10.10.0.0/24", range6: IPv6Network = RANGE6) -> AddressPool:
    return AddressPool("n", IPv4Network(range4), range6)


def test_the_first_free_one_is_given_and_both_kinds_have_one_number() -> None:
    own = pool()
    assert own.take() == (IPv4Address("10.10.0.2"), IPv6Address("fd00:1:2:3::2"))
    assert own.take() == (IPv4Address("10.10.0.3"), IPv6Address("fd00:1:2:3::3"))
    own.give_back(IPv4Address("10.10.0.2"))
    assert own.take()[0] == IPv4Address("10.10.0.2")
    assert own.take()[0] == IPv4Address("10.10.0.4")


@pytest.mark.parametrize(
    ("range4", "range6", "last"),
    [
        ("10.1.1.0/30", "fd00::/64", "10.1.1.2"),
        ("10.1.1.0/29", "fd00::/64", "10.1.1.6"),
        ("10.1.0.0/16", "fd00::/112", "10.1.255.254"),
    ],
)
def test_all_are_given_but_network_gateway_and_broadcast(range4: str, range6: str, last: str) -> None:
    own = pool(range4, IPv6Network(range6))
    given = [own.take() for _ in range(own.size)]
    assert str(given[-1][0]) == last
    assert len(set(given)) == len(given) == IPv4Network(range4).num_addresses - 3
    with pytest.raises(LimitReached, match="addresses of the network n") as caught:
        own.take()
    assert caught.value.reason == "NO_FREE_ADDRESS"


def test_an_address_of_a_job_that_was_found_is_not_given() -> None:
    own = pool()
    assert own.keep(IPv4Address("10.10.0.2"))
    assert own.take()[0] == IPv4Address("10.10.0.3")
    assert not own.keep(IPv4Address("10.11.0.2"))


def test_what_was_not_taken_cannot_be_given_back() -> None:
    own = pool()
    for address in ("10.10.0.0", "10.10.0.1", "10.10.0.9", "192.0.2.1"):
        own.give_back(IPv4Address(address))
    assert own.take()[0] == IPv4Address("10.10.0.2")


@given(st.lists(st.booleans() | st.integers(0, 20)))
def test_none_is_given_twice(steps: list[bool | int]) -> None:
    own, held = pool("10.1.1.0/28"), list[IPv4Address]()
    for step in steps:
        if isinstance(step, bool):
            if len(held) < own.size:
                address, address6 = own.take()
                assert address not in held
                assert int(address6) & 0xFF == int(address) & 0xFF
                held.append(address)
        elif held:
            own.give_back(held.pop(step % len(held)))
