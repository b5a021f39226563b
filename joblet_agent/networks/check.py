"""What can be said about networks and published ports without asking the kernel. Pure.

Everything here raises InvalidRequest with the option, what is wrong with it, and what to do.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.model.job import JobSpec
from joblet_agent.model.network import BuiltIn, IPAddress, Network, NetworkSpec, PublishedPort
from joblet_agent.networks.names import bridge_name

LEAST_BANDWIDTH, MOST_BANDWIDTH = 8_000, 10**12
"""Bits per second: the shaper counts bytes, and nothing moves with fewer than a thousand of them."""
LEAST_MTU, MOST_MTU = 1280, 65535
"""Every network has IPv6, whose packets need 1280 bytes (RFC 8200, section 5)."""
MOST_DNS, MOST_PORTS = 8, 64
_PREFIXES4, _PREFIXES6 = (8, 30), (48, 112)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,14}")
_PORTS = range(1, 65536)
_NEVER_RANGES: Sequence[IPv4Network | IPv6Network] = [
    *map(IPv4Network, ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4")),
    *map(IPv6Network, ("::/8", "fe80::/10", "ff00::/8")),
]
"""Loopback, link-local, multicast and reserved addresses."""


def check_network_name(name: str) -> None:
    """Raise InvalidRequest for what cannot be the name of a network that somebody makes."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"cannot create network: {quoted(name)} cannot be its name",
            reason="BAD_NETWORK_NAME",
            hint="use 1 to 15 letters, digits, - and _, beginning with a letter or digit",
        )
    if name.lower() in set(BuiltIn):
        raise InvalidRequest(
            f"cannot create network: {name} is the name of a built-in one",
            reason="NETWORK_BUILT_IN",
            hint="choose another name; built-in are " + ", ".join(BuiltIn),
        )


def checked_network(
    spec: NetworkSpec,
    others: Iterable[Network],
    occupied: Sequence[IPv4Network | IPv6Network],
    free6: Iterable[IPv6Network],
) -> Network:
    """Return the network; ``occupied`` are the host's own ranges, ``free6`` IPv6 ranges to choose from."""
    others = list(others)
    check_network_name(spec.name)
    _check_new(spec.name, others)
    network = Network(
        name=spec.name,
        bridge=bridge_name(spec.name),
        range4=_range4(spec.cidr),
        range6=_range6(spec.cidr6) if spec.cidr6 else _first_free(free6, others, occupied),
        is_internal=spec.is_internal,
        mtu=_mtu(spec.mtu),
        dns=_dns(spec),
        bandwidth=checked_bandwidth(spec.bandwidth, "cannot create network"),
    )
    for option, own in (("--cidr", network.range4), ("--cidr6", network.range6)):
        if (clash := clash_of(own, others, occupied)) is not None:
            raise InvalidRequest(
                f"cannot create network: {option} {own} overlaps with {clash}",
                reason="RANGE_OVERLAPS",
                hint="choose a range that nothing on this host uses: ip route, rnx network list",
            )
    return network


def _check_new(name: str, others: Iterable[Network]) -> None:
    bridge = bridge_name(name)
    for other in others:
        if other.name == name or other.bridge == bridge:
            raise InvalidRequest(
                f"cannot create network: there is a network {other.name} already"
                + ("" if other.name == name else f", and its bridge {bridge} has the same name"),
                reason="NETWORK_EXISTS",
                hint="choose another name, or remove it: rnx network remove",
            )


def clash_of(
    own: IPv4Network | IPv6Network,
    others: Iterable[Network],
    occupied: Iterable[IPv4Network | IPv6Network],
) -> str | None:
    """Say what else uses addresses of the range; None for nothing."""
    for other in others:
        for taken in (other.range4, other.range6):
            if _overlaps(own, taken):
                return f"{taken} of the network {other.name}"
    for taken in occupied:
        if _overlaps(own, taken):
            return f"{taken}, which is an address or a route of this host"
    return None


def checked_bandwidth(bandwidth: int, act: str) -> int:
    """Return the limit, 0 for none. The text begins with ``act``."""
    if bandwidth and not LEAST_BANDWIDTH <= bandwidth <= MOST_BANDWIDTH:
        raise InvalidRequest(
            f"{act}: --bandwidth must be from {LEAST_BANDWIDTH} to {MOST_BANDWIDTH} bits per second, "
            f"not {bandwidth}",
            reason="BAD_BANDWIDTH",
            hint="write for example --bandwidth=10mbit, or leave the option out for no limit",
        )
    return bandwidth


def check_attachable(spec: JobSpec, network: Network | None) -> JobSpec:
    """Return the spec with its ports in one spelling; ``network`` is its own, if that has addresses."""
    checked_bandwidth(spec.bandwidth, "cannot run job")
    if spec.bandwidth and network is None:
        raise InvalidRequest(
            f"cannot run job: --bandwidth does nothing with --network={spec.network}",
            reason="BANDWIDTH_WITHOUT_NETWORK",
            hint="leave the option out, or choose a network: rnx network list",
        )
    if not spec.ports:
        return spec
    if network is None or network.is_internal or network.is_isolated:
        raise InvalidRequest(
            f"cannot run job: --publish is not possible with --network={spec.network}: "
            + _why_not(network, spec),
            reason="PUBLISH_WITHOUT_NETWORK",
            hint="leave the option out, or choose another network: rnx network list",
        )
    ports = tuple(_checked_port(port) for port in spec.ports)
    if len(ports) > MOST_PORTS:
        raise InvalidRequest(
            f"cannot run job: {len(ports)} ports are to be published, at most {MOST_PORTS} are possible",
            reason="TOO_MANY_PORTS",
            hint="leave some --publish out",
        )
    for number, port in enumerate(ports):
        for other in ports[:number]:
            if clash(port, other):
                raise InvalidRequest(
                    f"cannot run job: --publish names the port {shown_port(port)} of the host twice",
                    reason="PORT_TWICE",
                    hint="leave one of them out, or give each its own address",
                )
    return replace(spec, ports=ports)


def clash(one: PublishedPort, other: PublishedPort) -> bool:
    """Say whether both cannot be published at the same time."""
    if (one.host_port, one.transport) != (other.host_port, other.transport):
        return False
    return one.address == other.address or _covers(one, other) or _covers(other, one)


def shown_port(port: PublishedPort) -> str:
    """Return the host's side of the port for people."""
    address = f"[{port.address}]" if ":" in port.address else port.address
    return f"{address}{':' if address else ''}{port.host_port}/{port.transport}"


def _covers(wide: PublishedPort, narrow: PublishedPort) -> bool:
    """Say whether the first one's address stands for all of the second one's kind."""
    if not wide.address:
        return True
    all_of_kind = "::" if ":" in narrow.address else "0.0.0.0"  # noqa: S104 - as asked for
    return bool(narrow.address) and wide.address == all_of_kind


def _why_not(network: Network | None, spec: JobSpec) -> str:
    if network is None:
        own = spec.network == BuiltIn.HOST
        return "the ports of such a job are the host's own" if own else "it has nothing but loopback"
    return "it is internal" if network.is_internal else "it leads to the outside only"


def _checked_port(port: PublishedPort) -> PublishedPort:
    port = replace(port, job_port=port.job_port or port.host_port)
    for number in (port.host_port, port.job_port):
        if number not in _PORTS:
            raise InvalidRequest(
                f"cannot run job: --publish names the port {number}, ports are from 1 to 65535",
                reason="BAD_PORT",
                hint="write --publish HOSTPORT:JOBPORT, for example 8080:80 or 5353:53/udp",
            )
    return replace(port, address=_publish_address(port.address))


def _publish_address(text: str) -> str:
    if not text:
        return ""
    try:
        address = ip_address(text)
    except ValueError:
        raise _bad_publish_address(text, "is no IP address") from None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise _bad_publish_address(text, "is no address of one host")
    if isinstance(address, IPv6Address) and (address.is_link_local or address.scope_id):
        raise _bad_publish_address(text, "is link-local, which is no address without its interface")
    if isinstance(address, IPv6Address) and address.is_loopback:
        raise InvalidRequest(
            "cannot run job: --publish names ::1, to which the kernel lets no answer of a job back",
            reason="ADDRESS_UNUSABLE",
            hint="use 127.0.0.1, or another address of this host",
        )
    return str(address)


def _bad_publish_address(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot run job: address {quoted(text)} of --publish {why}",
        reason="BAD_PUBLISH_ADDRESS",
        hint="use an address of this host (ip address), or leave it out for all of them",
    )


def _range4(text: str) -> IPv4Network:
    found = _range(text, "--cidr", "10.10.0.0/24", _PREFIXES4)
    if not isinstance(found, IPv4Network):
        raise _bad_range("--cidr", f"{quoted(text)} is an IPv6 range", "give it with --cidr6")
    return found


def _range6(text: str) -> IPv6Network:
    found = _range(text, "--cidr6", "fd00:10:10::/64", _PREFIXES6)
    if not isinstance(found, IPv6Network):
        raise _bad_range("--cidr6", f"{quoted(text)} is an IPv4 range", "give it with --cidr")
    return found


def _range(text: str, option: str, example: str, prefixes: tuple[int, int]) -> IPv4Network | IPv6Network:
    example = f"write for example {option}={example}"
    if not text:
        raise _bad_range(option, "a range is needed", example)
    if "/" not in text or "%" in text:
        raise _bad_range(option, f"{quoted(text)} is no range", example)
    try:
        found = ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise _bad_range(option, f"{quoted(text)} is no range", example) from None
        raise _bad_range(
            option, f"{quoted(text)} is an address in a range and not a range", f"write {option}={meant}"
        ) from None
    least, most = prefixes
    if text.partition("/")[2] != str(found.prefixlen):  # 255.255.255.0, or 024
        raise _bad_range(option, f"{quoted(text)} is no range", f"write {option}={found}")
    # What is of the other family is told so, whatever its prefix.
    is_own = isinstance(found, IPv4Network) is (option == "--cidr")
    if is_own and not least <= found.prefixlen <= most:
        raise _bad_range(option, f"the prefix of {found} must be from /{least} to /{most}", example)
    for never in _NEVER_RANGES:
        if is_own and _overlaps(found, never):
            raise _bad_range(option, f"{found} has special addresses ({never})", example)
    return found


def _bad_range(option: str, problem: str, hint: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot create network: {option}: {problem}", reason="BAD_NETWORK_RANGE", hint=hint
    )


def _first_free(
    candidates: Iterable[IPv6Network],
    others: Sequence[Network],
    occupied: Sequence[IPv4Network | IPv6Network],
) -> IPv6Network:
    for candidate in candidates:
        if clash_of(candidate, others, occupied) is None:
            return candidate
    raise InvalidRequest(
        "cannot create network: no IPv6 range is free",
        reason="RANGE_OVERLAPS",
        hint="choose one yourself: --cidr6",
    )


def _mtu(mtu: int) -> int:
    if mtu and not LEAST_MTU <= mtu <= MOST_MTU:
        raise InvalidRequest(
            f"cannot create network: --mtu must be from {LEAST_MTU} to {MOST_MTU} bytes, not {mtu}",
            reason="BAD_MTU",
            hint=f"IPv6 needs {LEAST_MTU}; leave the option out for 1500",
        )
    return mtu


def _dns(spec: NetworkSpec) -> tuple[IPAddress, ...]:
    if spec.dns and spec.is_internal:
        raise InvalidRequest(
            "cannot create network: --dns does nothing with --internal: there only names of jobs are known",
            reason="DNS_WITHOUT_OUTSIDE",
            hint="leave one of the options out",
        )
    if len(spec.dns) > MOST_DNS:
        raise InvalidRequest(
            f"cannot create network: {len(spec.dns)} times --dns, at most {MOST_DNS} servers are possible",
            reason="BAD_DNS",
            hint="leave some of them out",
        )
    return tuple(dict.fromkeys(map(_dns_server, spec.dns)))


def _dns_server(text: str) -> IPAddress:
    try:
        address = ip_address(text)
    except ValueError:
        raise _bad_dns(text, "is no IP address") from None
    if isinstance(address, IPv6Address) and address.is_link_local:
        raise _bad_dns(text, "is link-local, which is no address without its interface")
    if address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        raise _bad_dns(text, "is no address of one server")
    return address


def _bad_dns(text: str, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot create network: --dns: {quoted(text)} {why}",
        reason="BAD_DNS",
        hint="write for example --dns=9.9.9.9, or leave the option out for the host's servers",
    )


def _overlaps(one: IPv4Network | IPv6Network, other: IPv4Network | IPv6Network) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)
