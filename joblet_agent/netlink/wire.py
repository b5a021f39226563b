"""The line protocol between the agent and the network service, for both sides. Pure.

Each line is one JSON object. The agent sends ``{"id": 1, "call": "attach", …}`` and gets, with the same id,
``{"id": 1, "result": …}`` or ``{"id": 1, "error": {"code", "reason", "text", "hint"}}``. The service's first
line on each connection is ``{"hello": …}``: whether it has been told what is wanted since it started.

Readers raise Malformed for everything that is not exactly what the other side writes.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, IPAddress, Network, PublishedPort, Transport
from joblet_agent.netlink.names import is_bridge, is_job_id

LINE_MOST = 64 * 1024 * 1024
"""Bytes; some hundred thousand attachments."""

_PORT_LAST = 65535
_MTU_LEAST = 1280  # RFC 8200 §5: with less there is no IPv6
_ERRORS: Mapping[str, type[JobletError]] = {
    kind.code.value: kind for kind in (HostUnavailable, InvalidRequest, LimitReached, NotFound)
}

T = TypeVar("T")
Fields = Mapping[str, Any]


class Malformed(Exception):
    """Not what the other side writes; the text says where."""


@dataclass(frozen=True, slots=True)
class Request:
    """One call of the agent. ``fields`` are those of the call, not looked at yet."""

    id: int
    call: str
    fields: Fields


@dataclass(frozen=True, slots=True)
class Hello:
    """What the service says first."""

    is_told: bool
    """It knows what is wanted: ``apply`` was called since it started."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one request: a result or an error."""

    id: int
    result: Any = None
    error: JobletError | None = None


def write_request(number: int, call: str, fields: Fields) -> bytes:
    """Return the line of a call."""
    return _line({"id": number, "call": call, **fields})


def read_request(line: bytes) -> Request:
    """Return the call of a line."""
    fields = _read_line(line)
    number, call = fields.get("id"), fields.get("call")
    if type(number) is not int or not isinstance(call, str):
        raise Malformed("a request has a number as id and a word as call")
    return Request(number, call, {name: fields[name] for name in fields if name not in {"id", "call"}})


def write_hello(hello: Hello) -> bytes:
    """Return the first line of the service."""
    return _line({"hello": {"is_told": hello.is_told}})


def write_result(number: int, result: object = None) -> bytes:
    """Return the line that answers a call."""
    return _line({"id": number, "result": result})


def write_error(number: int, error: JobletError) -> bytes:
    """Return the line that refuses a call."""
    told = {"code": error.code.value, "reason": error.reason, "text": str(error), "hint": error.hint}
    return _line({"id": number, "error": told})


def read_reply(line: bytes) -> Reply | Hello:
    """Return what the service said."""
    fields = _read_line(line)
    if isinstance(hello := fields.get("hello"), dict):
        return Hello(hello.get("is_told") is True)
    if type(number := fields.get("id")) is not int:
        raise Malformed("a reply has a number as id")
    if "error" not in fields:
        return Reply(number, fields.get("result"))
    told = fields["error"]
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in ("reason", "text")):
        raise Malformed("an error has a reason and a text")
    kind = _ERRORS.get(str(told.get("code")), HostUnavailable)
    hint = told.get("hint")
    return Reply(
        number, error=kind(told["text"], reason=told["reason"], hint=None if hint is None else str(hint))
    )


def network_to_fields(network: Network) -> Fields:
    """Return the network as JSON has it; without the time of its creation, which nothing there needs."""
    return {
        "name": network.name,
        "bridge": network.bridge,
        "range4": str(network.range4),
        "range6": str(network.range6),
        "is_internal": network.is_internal,
        "is_isolated": network.is_isolated,
        "mtu": network.mtu,
        "dns": [str(server) for server in network.dns],
        "bandwidth": network.bandwidth,
        "is_builtin": network.is_builtin,
    }


def network_from_fields(fields: object) -> Network:
    """Return the network that JSON has."""
    reader = _Reader(
        "network",
        fields,
        [
            "name",
            "bridge",
            "range4",
            "range6",
            "is_internal",
            "is_isolated",
            "mtu",
            "dns",
            "bandwidth",
            "is_builtin",
        ],
    )
    network = Network(
        name=reader.text("name"),
        bridge=reader.text("bridge"),
        range4=reader.parsed("range4", IPv4Network),
        range6=reader.parsed("range6", IPv6Network),
        is_internal=reader.claim("is_internal"),
        is_isolated=reader.claim("is_isolated"),
        mtu=reader.number("mtu", 0, _PORT_LAST),
        dns=tuple(_parsed("network.dns", server, _address) for server in reader.items("dns")),
        bandwidth=reader.number("bandwidth", 0),
        is_builtin=reader.claim("is_builtin"),
    )
    if not is_bridge(network.bridge):
        raise Malformed(f"network.bridge {network.bridge!r} is no name of ours")
    if 0 < network.mtu < _MTU_LEAST:
        raise Malformed(f"network.mtu is at least {_MTU_LEAST}")
    if network.range4.num_addresses < 4 or network.range6.num_addresses < 4:  # noqa: PLR2004 - two, a gateway, a job
        raise Malformed("network.range4 and range6 have room for a gateway and a job")
    return network


def attachment_to_fields(attachment: Attachment) -> Fields:
    """Return the attachment as JSON has it."""
    return {
        "job": attachment.job_id,
        "network": attachment.network,
        "address4": str(attachment.address4),
        "address6": str(attachment.address6),
        "bandwidth": attachment.bandwidth,
        "ports": [
            {
                "host_port": port.host_port,
                "job_port": port.job_port,
                "transport": port.transport.value,
                "address": port.address,
            }
            for port in attachment.ports
        ],
    }


def attachment_from_fields(fields: object) -> Attachment:
    """Return the attachment that JSON has."""
    reader = _Reader("attachment", fields, ["job", "network", "address4", "address6", "bandwidth", "ports"])
    return Attachment(
        job_id=_job_id("attachment.job", reader.text("job")),
        network=reader.text("network"),
        address4=reader.parsed("address4", IPv4Address),
        address6=reader.parsed("address6", IPv6Address),
        bandwidth=reader.number("bandwidth", 0),
        ports=tuple(_port(port) for port in reader.items("ports")),
    )


def job_id_from_fields(fields: Fields) -> JobId:
    """Return the job that a call is about."""
    return _job_id("job", _Reader("call", fields, ["job"]).text("job"))


def only(fields: Fields, name: str) -> object:
    """Return the one field of a call."""
    _Reader("call", fields, [name])
    return fields[name]


def lists(fields: Fields) -> tuple[Sequence[Network], Sequence[Attachment]]:
    """Return everything that is wanted."""
    reader = _Reader("call", fields, ["networks", "attachments"])
    networks = [network_from_fields(item) for item in reader.items("networks")]
    attachments = [attachment_from_fields(item) for item in reader.items("attachments")]
    _all_different("network", [network.name for network in networks])
    _all_different("bridge", [network.bridge for network in networks])
    _all_different("attachment", [attachment.job_id for attachment in attachments])
    return networks, attachments


def ranges_from_result(result: object) -> list[IPv4Network | IPv6Network]:
    """Return the ranges of an answer."""
    if not isinstance(result, list):
        raise Malformed("ranges are a list")
    return [_parsed("range", item, ip_network) for item in result]


def reasons_from_result(result: object) -> dict[JobId, str]:
    """Return why jobs' attachments are not whole."""
    if not isinstance(result, dict) or not all(isinstance(text, str) for text in result.values()):
        raise Malformed("reasons are an object of texts")
    return {_job_id("job", job): text for job, text in result.items()}


class _Reader:
    """The fields of one object: exactly these, each of its type."""

    def __init__(self, what: str, fields: object, names: Collection[str]) -> None:
        if not isinstance(fields, Mapping):
            raise Malformed(f"{what} is an object")
        if set(fields) != set(names):
            raise Malformed(f"{what} has other fields than {', '.join(sorted(names))}")
        self._what = what
        self._fields = fields

    def text(self, name: str) -> str:
        value = self._fields[name]
        if not isinstance(value, str):
            raise Malformed(f"{self._what}.{name} is a text")
        return value

    def claim(self, name: str) -> bool:
        value = self._fields[name]
        if not isinstance(value, bool):
            raise Malformed(f"{self._what}.{name} is true or false")
        return value

    def number(self, name: str, least: int, most: int = 2**63 - 1) -> int:
        value = self._fields[name]
        if type(value) is not int or not least <= value <= most:
            raise Malformed(f"{self._what}.{name} is a number from {least} to {most}")
        return value

    def items(self, name: str) -> list[Any]:
        value = self._fields[name]
        if not isinstance(value, list):
            raise Malformed(f"{self._what}.{name} is a list")
        return value

    def parsed(self, name: str, parse: Callable[[str], T]) -> T:
        return _parsed(f"{self._what}.{name}", self._fields[name], parse)


def _port(fields: object) -> PublishedPort:
    reader = _Reader("port", fields, ["host_port", "job_port", "transport", "address"])
    address = reader.text("address")
    return PublishedPort(
        host_port=reader.number("host_port", 1, _PORT_LAST),
        job_port=reader.number("job_port", 1, _PORT_LAST),
        transport=reader.parsed("transport", Transport),
        address=str(_parsed("port.address", address, _address)) if address else "",
    )


def _address(text: str) -> IPAddress:
    address = ip_address(text)
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise ValueError(text)
    return address


def _parsed(what: str, value: object, parse: Callable[[str], T]) -> T:
    try:
        if isinstance(value, str):
            return parse(value)
    except ValueError:
        pass
    raise Malformed(f"{what} cannot be {value!r}")


def _job_id(what: str, text: str) -> JobId:
    if not is_job_id(text):
        raise Malformed(f"{what} is the id of a job")
    return JobId(text)


def _all_different(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise Malformed(f"each {what} comes once")


def _line(fields: Fields) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def _read_line(line: bytes) -> Fields:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Malformed("a line is one JSON object")
    return fields
