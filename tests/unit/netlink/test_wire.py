"""The line protocol: what is written is read back, and everything else is told where it is wrong."""

import json
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    LimitReached,
    NotFound,
    WrongState,
)
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network, PublishedPort, Transport
from joblet_agent.netlink import wire

JOB = JobId("01234567-89ab-cdef-0123-456789abcdef")
NETWORK = Network(
    "lab",
    "joblet-lab",
    IPv4Network("10.10.0.0/24"),
    IPv6Network("fd00:1::/64"),
    is_internal=True,
    mtu=1400,
    dns=(IPv4Address("192.0.2.53"), IPv6Address("2001:db8::53")),
    bandwidth=10_000_000,
)
ATTACHMENT = Attachment(
    JOB,
    "lab",
    IPv4Address("10.10.0.2"),
    IPv6Address("fd00:1::2"),
    bandwidth=1,
    ports=(PublishedPort(8080, 80), PublishedPort(53, 53, Transport.UDP, "127.0.0.1")),
)


def sent(fields: object) -> Any:
    return json.loads(json.dumps(fields))


def test_a_network_comes_over_without_the_time_of_its_creation() -> None:
    made = replace(NETWORK, created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert wire.network_from_fields(sent(wire.network_to_fields(made))) == NETWORK


def test_an_attachment_comes_over() -> None:
    assert wire.attachment_from_fields(sent(wire.attachment_to_fields(ATTACHMENT))) == ATTACHMENT


def test_a_request_comes_over() -> None:
    line = wire.write_request(7, "detach", {"job": JOB})
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert wire.read_request(line) == wire.Request(7, "detach", {"job": JOB})


def test_results_and_the_greeting_come_over() -> None:
    assert wire.read_reply(wire.write_hello(wire.Hello(is_told=True))) == wire.Hello(is_told=True)
    assert wire.read_reply(wire.write_result(3, ["x\ny"])) == wire.Reply(3, ["x\ny"])


@pytest.mark.parametrize("kind", [HostUnavailable, InvalidRequest, LimitReached, NotFound])
def test_errors_come_over_with_their_kind(kind: type[JobletError]) -> None:
    reply = wire.read_reply(wire.write_error(1, kind("cannot x: y", reason="R", hint="do z")))
    assert isinstance(reply, wire.Reply)
    error = reply.error
    assert error is not None
    assert (type(error), str(error), error.reason, error.hint) == (kind, "cannot x: y", "R", "do z")


def test_an_error_of_another_kind_is_one_of_the_host() -> None:
    reply = wire.read_reply(wire.write_error(1, WrongState("cannot x", reason="R")))
    assert isinstance(reply, wire.Reply)
    assert isinstance(reply.error, HostUnavailable)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"bridge": "eth0"}, "no name of ours"),
        ({"bridge": "joblet-a-name-too-long"}, "no name of ours"),
        ({"range4": "10.10.0.1/24"}, "network.range4"),
        ({"range4": "fd00::/64"}, "network.range4"),
        ({"range4": "10.0.0.0/31"}, "have room"),
        ({"range6": 5}, "network.range6"),
        ({"mtu": 576}, "at least 1280"),
        ({"mtu": True}, "network.mtu"),
        ({"mtu": -1}, "network.mtu"),
        ({"is_internal": 1}, "network.is_internal"),
        ({"dns": "192.0.2.1"}, "network.dns"),
        ({"dns": ["nowhere"]}, "network.dns"),
        ({"dns": ["fe80::1%eth0"]}, "network.dns"),
        ({"bandwidth": 1.5}, "network.bandwidth"),
        ({"name": None}, "network.name"),
        ({"more": 1}, "other fields"),
    ],
)
def test_a_network_that_is_not_one_is_told_where(changed: dict[str, object], told: str) -> None:
    with pytest.raises(wire.Malformed, match=told):
        wire.network_from_fields({**wire.network_to_fields(NETWORK), **changed})


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"job": "../../etc/passwd"}, "id of a job"),
        ({"job": JOB.upper()}, "id of a job"),
        ({"address4": "10.10.0.999"}, "attachment.address4"),
        ({"address6": "10.10.0.2"}, "attachment.address6"),
        ({"ports": [{}]}, "other fields"),
        ({"ports": {}}, "attachment.ports"),
    ],
)
def test_an_attachment_that_is_not_one_is_told_where(changed: dict[str, object], told: str) -> None:
    with pytest.raises(wire.Malformed, match=told):
        wire.attachment_from_fields({**wire.attachment_to_fields(ATTACHMENT), **changed})


@pytest.mark.parametrize(
    "changed", [{"host_port": 0}, {"host_port": 65536}, {"transport": "sctp"}, {"address": "localhost"}]
)
def test_a_port_that_is_not_one_is_told(changed: dict[str, object]) -> None:
    fields = sent(wire.attachment_to_fields(ATTACHMENT))
    fields["ports"][0].update(changed)
    with pytest.raises(wire.Malformed, match="port"):
        wire.attachment_from_fields(fields)


def test_nothing_is_wanted_twice() -> None:
    networks = [wire.network_to_fields(NETWORK), wire.network_to_fields(replace(NETWORK, name="other"))]
    with pytest.raises(wire.Malformed, match="each bridge comes once"):
        wire.lists({"networks": networks, "attachments": []})
    attachments = [wire.attachment_to_fields(ATTACHMENT)] * 2
    with pytest.raises(wire.Malformed, match="each attachment comes once"):
        wire.lists({"networks": [], "attachments": attachments})


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(wire.attachment_to_fields(ATTACHMENT))), VALUES))
def test_whatever_is_in_an_attachment_is_taken_or_told(changed: dict[str, object]) -> None:
    fields = {**wire.attachment_to_fields(ATTACHMENT), **changed}
    try:
        found = wire.attachment_from_fields(fields)
    except wire.Malformed:
        return
    assert wire.attachment_from_fields(wire.attachment_to_fields(found)) == found


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()))
def test_whatever_comes_is_taken_or_told(line: bytes) -> None:
    for read in (wire.read_request, wire.read_reply):
        with suppress(wire.Malformed):
            read(line)
