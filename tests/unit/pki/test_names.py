"""Which names and addresses go into certificates, and which do not."""

import pytest

from joblet_agent.errors import InvalidRequest
from joblet_agent.pki.names import HostNames, address, client_name, endpoint, host_name


@pytest.mark.parametrize("name", ["alice", "x,OU=admin", "José Müller", "ci/deploy@node-7", "x" * 64])
def test_names_of_clients(name: str) -> None:
    assert client_name(name) == name


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\x1b[31m", " alice", "alice ", "-o", "x" * 65, "a\u202eb", "\ud800"]
)
def test_c1_names_that_no_client_can_have(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client_name(name)
    assert caught.value.reason == "BAD_NAME"
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["local", "local:operator", "server", "ca"])
def test_c1_names_that_belong_to_the_agent(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        client_name(name)
    assert caught.value.reason == "NAME_RESERVED"


@pytest.mark.parametrize("text", ["node7", "node7.example.net", "*.example.net", "xn--bcher-kva.example"])
def test_dns_names(text: str) -> None:
    assert host_name(text) == text


@pytest.mark.parametrize("text", ["", "10.0.0.1", "::1", "bücher.example", "a b", "a..b", "a" * 64, "a\n"])
def test_what_is_no_dns_name(text: str) -> None:
    with pytest.raises(InvalidRequest):
        host_name(text)


@pytest.mark.parametrize("text", ["", "node7", "10.0.0", "10.0.0.0/8", "fe80::1%eth0%"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidRequest):
        address(text)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("node7", "node7:50051"),
        ("node7:443", "node7:443"),
        ("10.0.0.1", "10.0.0.1:50051"),
        ("10.0.0.1:443", "10.0.0.1:443"),
        ("fd00::1", "[fd00::1]:50051"),
        ("[fd00::1]", "[fd00::1]:50051"),
        ("[fd00::1]:443", "[fd00::1]:443"),
    ],
)
def test_what_a_client_connects_to(given: str, expected: str) -> None:
    assert endpoint(given, 50051) == expected


@pytest.mark.parametrize("text", ["a b", "node7:", "node7:0x", "node7:123456", "a:b:c", "http://node7"])
def test_what_nobody_can_connect_to(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        endpoint(text, 50051)
    assert caught.value.reason == "BAD_ENDPOINT"


def test_the_best_name_of_a_host() -> None:
    ten = address("10.0.0.1")
    assert HostNames(("node7", "node7.example.net"), (ten,)).best == "node7.example.net"
    assert HostNames(("node7",), (ten,)).best == "10.0.0.1"
    assert HostNames(("node7",), ()).best == "node7"
    assert HostNames((), (ten,)).listening_on("10.0.0.2").best == "10.0.0.2"
    assert HostNames((), (ten,)).listening_on("::") == HostNames((), (ten,))
    assert HostNames(("node7.lan",), (ten,)).known_as(["*.a.example", "b.example"]).best == "b.example"
    assert HostNames(("node7",), (ten,)).known_as(["*.a.example", "192.0.2.1"]).best == "192.0.2.1"
