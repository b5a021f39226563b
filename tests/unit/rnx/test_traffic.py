"""Rates and published ports as people type them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.pb import joblet_pb2 as pb
from rnx.exits import UsageError
from rnx.traffic import read_bandwidth, read_ports, show_bandwidth, show_port


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1000000", 1_000_000),
        ("800bit", 800),
        ("500kbit", 500_000),
        ("10mbit", 10_000_000),
        ("10Mbit", 10_000_000),
        ("1.5gbit", 1_500_000_000),
        ("0.001kbit", 1),
    ],
)
def test_rates_are_bits_in_decimal_units(text: str, rate: int) -> None:
    assert read_bandwidth("--bandwidth", text) == rate


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("10MB", "not a rate in bits", "units are bits, not bytes: 10MB of bytes is --bandwidth=80mbit"),
        ("1.5MB/s", "not a rate in bits", "1.5MB/s of bytes is --bandwidth=12mbit"),
        ("0.3K", "not a rate in bits", "0.3K of bytes is --bandwidth=2.4kbit"),
        ("1MiB", "not a rate in bits", "units are bits, not bytes"),
        ("100B", "not a rate in bits", "100B of bytes is --bandwidth=800bit"),
        ("", "not a rate in bits", "for example 10mbit"),
        ("fast", "not a rate in bits", "for example 10mbit"),
        ("-1mbit", "not a rate in bits", "for example 10mbit"),
        ("1e6", "not a rate in bits", "for example 10mbit"),
        ("٣mbit", "not a rate in bits", "for example 10mbit"),
        ("0", "no whole number of bits per second from 1", "for example 10mbit"),
        ("0.5", "no whole number of bits per second from 1", "for example 10mbit"),
        ("9" * 18 + "gbit", "no whole number of bits per second from 1", "for example 10mbit"),
    ],
)
def test_a_wrong_rate_is_told_with_what_to_write(text: str, problem: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_bandwidth("--bandwidth", text)
    assert str(caught.value).startswith(f"cannot read --bandwidth={text}: ")
    assert problem in str(caught.value)
    assert hint in caught.value.hint


@given(st.integers(1, 2**63 - 1))
def test_a_rate_that_is_shown_can_be_typed(rate: int) -> None:
    shown = show_bandwidth(rate)
    if len(shown.rstrip("gkmbit")) <= 18:
        assert read_bandwidth("--x", shown) == rate


@pytest.mark.parametrize(
    ("text", "address", "host", "job", "transport"),
    [
        ("8080:80", "", 8080, 80, "tcp"),
        ("1:65535/udp", "", 1, 65535, "udp"),
        ("127.0.0.1:8080:80/tcp", "127.0.0.1", 8080, 80, "tcp"),
        ("0.0.0.0:8080:80", "0.0.0.0", 8080, 80, "tcp"),
        ("[::1]:53:5353/udp", "::1", 53, 5353, "udp"),
        ("[FD00:0::1]:53:53", "fd00::1", 53, 53, "tcp"),
    ],
)
def test_ports_can_be_read(text: str, address: str, host: int, job: int, transport: str) -> None:
    expected = {"address": address, "host_port": host, "job_port": job, "transport": transport}
    assert read_ports("--publish", [text]) == [expected]


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("8080", "expected [ADDR:]HOSTPORT:JOBPORT", "write --publish=8080:8080 for the same port"),
        ("53/udp", "expected [ADDR:]HOSTPORT:JOBPORT", "write --publish=53:53/udp for the same port"),
        ("::1:53:53", "expected [ADDR:]HOSTPORT:JOBPORT", "an IPv6 address stands in brackets"),
        ("", "expected [ADDR:]HOSTPORT:JOBPORT", "for example 8080:80"),
        ("8080:http", "expected [ADDR:]HOSTPORT:JOBPORT", "for example 8080:80"),
        ("8080-8090:80", "expected [ADDR:]HOSTPORT:JOBPORT", "for example 8080:80"),
        ("80:80/sctp", "expected tcp or udp after the /", "for example 8080:80"),
        ("80:80/TCP", "expected tcp or udp after the /", "for example 8080:80"),
        ("80:80/", "expected tcp or udp after the /", "for example 8080:80"),
        ("0:80", "a port is a number from 1 to 65535", ""),
        ("80:65536", "a port is a number from 1 to 65535", ""),
        ("80:" + "9" * 5000, "a port is a number from 1 to 65535", ""),
        ("example.com:80:80", "example.com is no address of the host", "leave it out for every address"),
        ("[127.0.0.1]:80:80", "[127.0.0.1] is no address of the host", "leave it out for every address"),
        (":80:80", "nothing is no address of the host", "leave it out for every address"),
    ],
)
def test_a_wrong_port_is_told_with_what_to_write(text: str, problem: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_ports("--publish", [text])
    assert str(caught.value).startswith(f"cannot read --publish={text}: ")
    assert problem in str(caught.value)
    assert hint in caught.value.hint


def test_a_port_of_the_host_is_taken_once() -> None:
    with pytest.raises(
        UsageError, match="cannot read --publish=80:2: --publish=80:1/tcp takes the same port"
    ):
        read_ports("--publish", ["80:1/tcp", "80:2"])
    assert len(read_ports("--publish", ["80:1/tcp", "80:1/udp", "127.0.0.1:80:1"])) == 3


def test_ports_as_they_are_shown() -> None:
    ports = [
        pb.PublishedPort(host_port=8080, job_port=80),
        pb.PublishedPort(address="127.0.0.1", host_port=53, transport="udp"),
        pb.PublishedPort(address="::1", host_port=1, job_port=2, transport="tcp"),
    ]
    assert [show_port(port) for port in ports] == [
        "*:8080->80/tcp",
        "127.0.0.1:53->53/udp",
        "[::1]:1->2/tcp",
    ]
