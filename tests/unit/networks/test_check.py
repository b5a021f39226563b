"""What networks and published ports can be, and what is said about what cannot."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.job import JobSpec
from joblet_agent.model.network import Network, NetworkSpec, PublishedPort, Transport
from joblet_agent.networks.check import check_attachable, checked_network, clash

BRIDGE = Network("bridge", "joblet0", IPv4Network("172.20.0.0/16"), IPv6Network("fd00:1:2:1::/64"))
FREE6 = [IPv6Network("fd00:1:2:1::/64"), IPv6Network("fd00:1:2:10::/64")]
HOST = [ip_network("192.168.1.0/24"), ip_network("10.99.0.1/32"), ip_network("fd00:9::/32")]
WEB = NetworkSpec("web", "10.10.0.0/24")


def made(spec: NetworkSpec) -> Network:
    return checked_network(spec, [BRIDGE], HOST, FREE6)


def refusal(spec: NetworkSpec) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        made(spec)
    assert str(caught.value).startswith("cannot create network: ")
    assert caught.value.hint
    return caught.value


def test_a_network_has_what_was_asked_for_and_a_free_ipv6_range() -> None:
    spec = NetworkSpec("web", "10.10.0.0/24", "", True, 9000, (), 10_000_000)
    assert made(spec) == Network(
        "web", "joblet-web", IPv4Network("10.10.0.0/24"), FREE6[1], True, mtu=9000, bandwidth=10_000_000
    )


@pytest.mark.parametrize(
    "cidr", ["10.0.0.0/8", "10.1.2.0/30", "203.0.113.0/24", "192.168.2.0/24", "100.64.0.0/10"]
)
def test_ranges_that_are_fine(cidr: str) -> None:
    spec = replace(WEB, cidr=cidr)
    hosts = [each for each in HOST if str(each) != "10.99.0.1/32"]
    assert str(checked_network(spec, [BRIDGE], hosts, FREE6).range4) == cidr


@pytest.mark.parametrize(
    ("cidr", "text", "hint"),
    [
        ("", "a range is needed", "--cidr=10.10.0.0/24"),
        ("10.10.0.1/24", "is an address in a range", "write --cidr=10.10.0.0/24"),
        ("10.10.0.0", "is no range", "--cidr=10.10.0.0/24"),
        ("10.10.0.0/255.255.255.0", "is no range", "write --cidr=10.10.0.0/24"),
        ("10.10.0.0/31", "from /8 to /30", ""),
        ("0.0.0.0/0", "from /8 to /30", ""),
        ("127.0.0.0/16", "special addresses (127.0.0.0/8)", ""),
        ("169.254.0.0/16", "special addresses", ""),
        ("224.0.1.0/24", "special addresses", ""),
        ("fd00:5::/64", "is an IPv6 range", "--cidr6"),
        ("10.10.0.0/24 ", "is no range", ""),
        ("10.10.0.0/24; rm", "is no range", ""),
        ("10.010.0.0/24", "is no range", ""),
        ("x" * 3000, "is no range", ""),
    ],
)
def test_ranges_that_are_refused(cidr: str, text: str, hint: str) -> None:
    error = refusal(replace(WEB, cidr=cidr))
    assert error.reason == "BAD_NETWORK_RANGE"
    assert "--cidr" in str(error)
    assert text in str(error)
    assert hint in (error.hint or "")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    "cidr6", ["fd00:5::/47", "fd00:5::/113", "fe80::/64", "ff00::/48", "::/48", "10.0.0.0/24", "x"]
)
def test_ipv6_ranges_that_are_refused(cidr6: str) -> None:
    assert refusal(replace(WEB, cidr6=cidr6)).reason == "BAD_NETWORK_RANGE"


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (replace(WEB, cidr="172.20.5.0/24"), "172.20.0.0/16 of the network bridge"),
        (replace(WEB, cidr="172.16.0.0/12"), "172.20.0.0/16 of the network bridge"),
        (replace(WEB, cidr="192.168.0.0/16"), "192.168.1.0/24, which is an address or a route of this host"),
        (replace(WEB, cidr="10.99.0.0/24"), "10.99.0.1/32, which is"),
        (replace(WEB, cidr6="fd00:9:1::/64"), "--cidr6 fd00:9:1::/64 overlaps with fd00:9::/32"),
        (replace(WEB, cidr6="fd00:1:2::/48"), "fd00:1:2:1::/64 of the network bridge"),
    ],
)
def test_what_overlaps_is_refused_with_what_is_there(spec: NetworkSpec, text: str) -> None:
    error = refusal(spec)
    assert error.reason == "RANGE_OVERLAPS"
    assert text in str(error)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "-a",
            "_a",
            "a" * 16,
            "a b",
            "a/b",
            "..",
            ".",
            "a.b",
            "ü",
            "a\n",
            "\0",
            "a\\x2d",
            "a@b",
            "%i",
            "a;b",
        ),
        *("$(id)", "a:b", "x" * 300, "--help", "eth0\t", "a'b", '"'),
    ],
)
def test_a5_names_that_cannot_be_a_network_s(name: str) -> None:
    error = refusal(replace(WEB, name=name))
    assert error.reason == "BAD_NETWORK_NAME"
    assert len(str(error)) < 200
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["none", "isolated", "bridge", "host", "Bridge", "HOST"])
def test_names_of_built_in_networks_are_refused(name: str) -> None:
    assert refusal(replace(WEB, name=name)).reason == "NETWORK_BUILT_IN"


@given(st.text(max_size=20))
def test_a5_a_name_is_taken_as_it_is_or_refused(name: str) -> None:
    try:
        assert made(replace(WEB, name=name)).name == name
    except InvalidRequest as error:
        assert error.reason in {"BAD_NETWORK_NAME", "NETWORK_BUILT_IN"}  # noqa: PT017 - some are fine


def test_a_name_is_there_once() -> None:
    web = made(WEB)
    with pytest.raises(InvalidRequest, match="there is a network web already") as caught:
        checked_network(replace(WEB, cidr="10.11.0.0/24"), [BRIDGE, web], HOST, FREE6)
    assert caught.value.reason == "NETWORK_EXISTS"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (replace(WEB, mtu=1279), "BAD_MTU"),
        (replace(WEB, mtu=65536), "BAD_MTU"),
        (replace(WEB, mtu=-1), "BAD_MTU"),
        (replace(WEB, bandwidth=7999), "BAD_BANDWIDTH"),
        (replace(WEB, bandwidth=10**13), "BAD_BANDWIDTH"),
        (replace(WEB, dns=("x",)), "BAD_DNS"),
        (replace(WEB, dns=("0.0.0.0",)), "BAD_DNS"),
        (replace(WEB, dns=("fe80::1",)), "BAD_DNS"),
        (replace(WEB, dns=("9.9.9.9",) * 9), "BAD_DNS"),
        (replace(WEB, dns=("9.9.9.9",), is_internal=True), "DNS_WITHOUT_OUTSIDE"),
    ],
)
def test_other_options_that_are_refused(spec: NetworkSpec, reason: str) -> None:
    assert refusal(spec).reason == reason


def test_dns_servers_are_addresses_without_repetition() -> None:
    own = made(replace(WEB, dns=("9.9.9.9", "127.0.0.53", "9.9.9.9", "2620:fe::9")))
    assert own.dns == tuple(map(ip_address, ("9.9.9.9", "127.0.0.53", "2620:fe::9")))


def ports(*published: PublishedPort, network: Network | None = BRIDGE) -> tuple[PublishedPort, ...]:
    name = "bridge" if network else "none"
    return check_attachable(JobSpec("true", network=name, ports=published), network).ports


def test_ports_get_one_spelling() -> None:
    assert ports(PublishedPort(80, 0), PublishedPort(53, 5353, Transport.UDP, "::ffff:192.0.2.1")) == (
        PublishedPort(80, 80),
        PublishedPort(53, 5353, Transport.UDP, "192.0.2.1"),
    )


@pytest.mark.parametrize("number", [0, -1, 65536, 2**31 - 1])
def test_ports_out_of_range_are_refused(number: int) -> None:
    with pytest.raises(InvalidRequest, match="ports are from 1 to 65535"):
        ports(PublishedPort(number, 80))


@pytest.mark.parametrize(
    "address", ["x", "1.2.3", "224.0.0.1", "255.255.255.255", "fe80::1", "fe80::1%eth0", "ff02::1", "::1%lo"]
)
def test_addresses_that_nothing_can_be_published_on(address: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ports(PublishedPort(80, 80, address=address))
    assert caught.value.reason == "BAD_PUBLISH_ADDRESS"


def test_the_ipv6_loopback_is_no_address_to_publish_at() -> None:
    with pytest.raises(InvalidRequest, match="no answer of a job back") as caught:
        ports(PublishedPort(80, 80, address="::1"))
    assert caught.value.reason == "ADDRESS_UNUSABLE"


@pytest.mark.parametrize(
    ("one", "other", "is_clash"),
    [
        ("", "", True),
        ("", "192.0.2.1", True),
        ("0.0.0.0", "192.0.2.1", True),
        ("0.0.0.0", "::", False),
        ("0.0.0.0", "", True),
        ("::", "2001:db8::1", True),
        ("::", "192.0.2.1", False),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "192.0.2.1", True),
    ],
)
def test_what_cannot_be_published_at_once(one: str, other: str, is_clash: bool) -> None:
    first, second = PublishedPort(80, 1, address=one), PublishedPort(80, 2, address=other)
    assert clash(first, second) is clash(second, first) is is_clash
    assert not clash(first, replace(second, transport=Transport.UDP))
    assert not clash(first, replace(second, host_port=81))
    if is_clash:
        with pytest.raises(InvalidRequest) as caught:
            ports(first, second)
        assert caught.value.reason == "PORT_TWICE"


@pytest.mark.parametrize(
    "network", [None, replace(BRIDGE, is_internal=True), replace(BRIDGE, is_isolated=True)]
)
def test_nothing_is_published_where_nothing_comes_in(network: Network | None) -> None:
    with pytest.raises(InvalidRequest, match="--publish is not possible with --network=") as caught:
        ports(PublishedPort(80, 80), network=network)
    assert caught.value.reason == "PUBLISH_WITHOUT_NETWORK"


@pytest.mark.parametrize("network", ["none", "host"])
def test_bandwidth_without_a_network_is_refused(network: str) -> None:
    with pytest.raises(InvalidRequest, match=f"--bandwidth does nothing with --network={network}") as caught:
        check_attachable(JobSpec("true", network=network, bandwidth=10**6), None)
    assert caught.value.reason == "BANDWIDTH_WITHOUT_NETWORK"
