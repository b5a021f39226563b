"""The nftables table ``inet joblet``: networks and published ports to all of its rules (pure).

Must not know: how the rules get into the kernel, links, namespaces.

What a packet may is decided by the bridge that it comes from and by the one that it goes to, never by a
job: the number of rules is always the same, the sets grow with the networks and the published ports.
The names of the chains say what is on its way there::

    prerouting, raw   from a bridge: ``from_bridge`` drops false senders, link-local and metadata addresses
    prerouting, nat   to an address of the host: published ports
    output, nat       the same, for programs of the host
    forward           from a bridge: ``leaving``, to another bridge: ``between``; only to one: ``arriving``
    input             from a bridge: ``to_host``
    postrouting, nat  to the outside in the host's name; back to the own network by way of the host

``accept`` ends the way through a chain of this table alone: other tables still have their say.

Maps from addresses and from ports are two, as the JSON reader of nftables 1.0.6 dies of one for both.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, collapse_addresses, ip_address
from typing import Any

from joblet_agent.model.network import Attachment, Network, PublishedPort

Statement = dict[str, Any]

FAMILY, TABLE = "inet", "joblet"

DNS_PORT = 53

# Where clouds tell a machine its secrets, and what nobody routes. Amazon and Google also answer by IPv6
# at fd00:ec2::254 and fd20:ce::254, Alibaba at 100.100.100.200, Azure's host at 168.63.129.16.
FORBIDDEN4 = ("100.100.100.200/32", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16")
FORBIDDEN6 = ("::1/128", "fd00:ec2::254/128", "fd20:ce::254/128", "fe80::/10")

_NEIGHBOURS = ("nd-neighbor-solicit", "nd-neighbor-advert")
_LISTENERS = ("mld-listener-report", "mld-listener-done", "mld2-listener-report")

_RAW, _DSTNAT, _FILTER, _SRCNAT = -300, -100, 0, 100


@dataclass(frozen=True, slots=True)
class _Family:
    """IPv4 or IPv6, in nftables' words."""

    digit: str
    header: str
    type: str

    def field(self, name: str) -> Statement:
        return {"payload": {"protocol": self.header, "field": name}}

    def set(self, name: str) -> str:
        return f"{name}{self.digit}"


_IP4 = _Family("4", "ip", "ipv4_addr")
_IP6 = _Family("6", "ip6", "ipv6_addr")
_FAMILIES = (_IP4, _IP6)


Place = tuple[str | int, ...]
"""What a packet to a published port is sent to: an address, if one was chosen, protocol and port."""
Target = tuple[str, str, int]
"""Where it goes then: an address of a job, protocol and port."""

_EVERYWHERE = "*"

_IN: Statement = {"meta": {"key": "iifname"}}
_OUT: Statement = {"meta": {"key": "oifname"}}
_TRANSPORT: Statement = {"meta": {"key": "l4proto"}}
_PORT: Statement = {"payload": {"protocol": "th", "field": "dport"}}
_ICMP6_TYPE: Statement = {"payload": {"protocol": "icmpv6", "field": "type"}}

_IS_ANSWER: Statement = {"match": {"op": "==", "left": {"ct": {"key": "direction"}}, "right": "reply"}}
_ACCEPT: Statement = {"accept": None}
_DROP: Statement = {"drop": None}
_MASQUERADE: Statement = {"masquerade": None}


def ruleset(networks: Iterable[Network], attachments: Iterable[Attachment]) -> Statement:
    """Return the commands (libnftables-json(5)) that put exactly this table in the place of any other.

    They are one transaction: at no moment is there less than one of both.
    """
    objects = [*_sets(list(networks)), *_ports(list(attachments)), *_chains(), *_rules()]
    return {"nftables": [*_without_table(), *_with_table(), *({"add": each} for each in objects)]}


def removal() -> Statement:
    """Return the commands that leave nothing; no error if there was nothing."""
    return {"nftables": _without_table()}


def _with_table() -> list[Statement]:
    return [{"add": {"table": {"family": FAMILY, "name": TABLE}}}]


def _without_table() -> list[Statement]:
    return [*_with_table(), {"delete": {"table": {"family": FAMILY, "name": TABLE}}}]


# --- sets: what differs between hosts ---------------------------------------------------------------------


def _sets(networks: Sequence[Network]) -> Iterator[Statement]:
    yield _set("bridges", "ifname", [network.bridge for network in networks])
    yield _set("internal", "ifname", [network.bridge for network in networks if network.is_internal])
    shared = [network.bridge for network in networks if not network.is_isolated]
    yield _set("same", ["ifname", "ifname"], [_concat(bridge, bridge) for bridge in shared])
    for family in _FAMILIES:
        ranges = [(network, network.range4 if family is _IP4 else network.range6) for network in networks]
        masked = _merged(part for network, part in ranges if not network.is_internal)
        yield _set(family.set("masked"), family.type, masked, is_interval=True)
        yield _set(
            family.set("sources"),
            ["ifname", family.type],
            [_concat(network.bridge, _prefix(str(part))) for network, part in ranges],
            is_interval=True,
        )
        yield _set(
            family.set("gateways"),
            ["ifname", family.type],
            [_concat(network.bridge, str(part[1])) for network, part in ranges],
        )
        yield _set(family.set("own"), family.type, [str(part[1]) for _, part in ranges])
    yield _set("forbidden4", _IP4.type, [_prefix(part) for part in FORBIDDEN4], is_interval=True)
    yield _set("forbidden6", _IP6.type, [_prefix(part) for part in FORBIDDEN6], is_interval=True)


def _ports(attachments: Sequence[Attachment]) -> Iterator[Statement]:
    """Yield the maps of published ports; a place that two jobs want is the first one's.

    That is never so while ports are held, and must not cost all others their rules where one was lost.
    """
    for family in _FAMILIES:
        every: dict[Place, Target] = {}
        chosen: dict[Place, Target] = {}
        for attachment in attachments:
            job = attachment.address4 if family is _IP4 else attachment.address6
            for port in attachment.ports:
                address = _published_at(family, port)
                place = (port.transport.value, port.host_port)
                target = (str(job), port.transport.value, port.job_port)
                if address == _EVERYWHERE:
                    every.setdefault(place, target)
                elif address:
                    chosen.setdefault((address, *place), target)
        key = ["inet_proto", "inet_service"]
        yield from _maps(family.set("every"), family, key, every)
        yield from _maps(family.set("chosen"), family, [family.type, *key], chosen)
        targets = sorted({*every.values(), *chosen.values()})
        yield _set(family.set("targets"), [family.type, *key], [_concat(*target) for target in targets])


def _merged(ranges: Iterable[IPv4Network | IPv6Network]) -> list[Statement]:
    """Return the ranges without overlaps, which nft refuses."""
    return [_prefix(str(part)) for part in collapse_addresses(ranges)]  # type: ignore[type-var]


def _published_at(family: _Family, port: PublishedPort) -> str:
    """Return the address of the family at which the port is published, or _EVERYWHERE; empty for none."""
    if not port.address:
        return _EVERYWHERE
    address = ip_address(port.address)
    if isinstance(address, IPv4Address) != (family is _IP4):
        return ""
    return _EVERYWHERE if address.is_unspecified else str(address)


def _maps(name: str, family: _Family, key: list[str], entries: Mapping[Place, Target]) -> Iterator[Statement]:
    addresses = [[_concat(*place), address] for place, (address, _, _) in entries.items()]
    ports = [[_concat(*place), port] for place, (_, _, port) in entries.items()]
    yield _set(f"{name}_address", key, addresses, to=family.type)
    yield _set(f"{name}_port", key, ports, to="inet_service")


def _set(
    name: str, kind: str | list[str], elements: list[Any], *, is_interval: bool = False, to: str = ""
) -> Statement:
    content: Statement = {"family": FAMILY, "table": TABLE, "name": name, "type": kind}
    if is_interval:
        content["flags"] = ["interval"]
    if to:
        content["map"] = to
    if elements:  # an empty list is refused
        content["elem"] = elements
    return {"map" if to else "set": content}


def _concat(*parts: Any) -> Statement:
    return {"concat": list(parts)}


def _prefix(network: str) -> Statement:
    address, _, length = network.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


# --- chains and rules: the same everywhere ----------------------------------------------------------------


def _chains() -> Iterator[Statement]:
    for name in ("from_bridge", "leaving", "between", "arriving", "to_host"):
        yield {"chain": {"family": FAMILY, "table": TABLE, "name": name}}
    yield _base_chain("raw_prerouting", "filter", "prerouting", _RAW)
    yield _base_chain("nat_prerouting", "nat", "prerouting", _DSTNAT)
    yield _base_chain("nat_output", "nat", "output", _DSTNAT)
    yield _base_chain("forward", "filter", "forward", _FILTER)
    yield _base_chain("input", "filter", "input", _FILTER)
    yield _base_chain("nat_postrouting", "nat", "postrouting", _SRCNAT)


def _base_chain(name: str, kind: str, hook: str, priority: int) -> Statement:
    return {
        "chain": {
            "family": FAMILY,
            "table": TABLE,
            "name": name,
            "type": kind,
            "hook": hook,
            "prio": priority,
            "policy": "accept",
        }
    }


def _rules() -> Iterator[Statement]:
    yield from _raw_rules()
    yield from _forward_rules()
    yield from _input_rules()
    yield from _nat_rules()


def _raw_rules() -> Iterator[Statement]:
    yield _rule("raw_prerouting", _is(_IN, "@bridges"), _goto("from_bridge"))
    # Neighbours are asked for and answered from link-local addresses; nothing else is said with these.
    yield _rule("from_bridge", _is(_ICMP6_TYPE, {"set": [*_NEIGHBOURS, *_LISTENERS]}), _ACCEPT)
    for family in _FAMILIES:
        yield _rule("from_bridge", _is(family.field("daddr"), f"@{family.set('forbidden')}"), _DROP)
        own = _concat(_IN, family.field("saddr"))
        yield _rule("from_bridge", _is(own, f"@{family.set('sources')}"), _ACCEPT)
    yield _rule("from_bridge", _DROP)


def _forward_rules() -> Iterator[Statement]:
    yield _rule("forward", _is(_IN, "@bridges"), _goto("leaving"))
    yield _rule("forward", _is(_OUT, "@bridges"), _goto("arriving"))

    # Before anything is accepted as established: a connection may be older than these rules.
    yield _rule("leaving", _is(_OUT, "@bridges"), _goto("between"))
    yield _rule("leaving", _is(_IN, "@internal"), _DROP)
    yield _rule("leaving", _has_state("invalid"), _DROP)

    yield _rule("between", _has_state("invalid"), _DROP)
    yield _rule("between", _is(_concat(_IN, _OUT), "@same"), _ACCEPT)
    yield _rule("between", _DROP)

    yield _rule("arriving", _is(_OUT, "@internal"), _DROP)
    yield _rule("arriving", _has_state("invalid"), _DROP)
    # Answers. What somebody outside began is looked up each time: a port that is no longer published
    # is closed for connections, too, and an address that has another owner by now is not theirs.
    yield _rule("arriving", _IS_ANSWER, _has_state("established"), _ACCEPT)
    yield _rule("arriving", _has_state("related"), _ACCEPT)
    for family in _FAMILIES:
        target = _concat(family.field("daddr"), _TRANSPORT, _PORT)
        yield _rule("arriving", _has_status("dnat"), _is(target, f"@{family.set('targets')}"), _ACCEPT)
    yield _rule("arriving", _DROP)


def _input_rules() -> Iterator[Statement]:
    yield _rule("input", _is(_IN, "@bridges"), _goto("to_host"))
    # The bridges' own addresses, where names are answered, are for jobs and for the host.
    for family in _FAMILIES:
        yield _rule("input", _is_not(_IN, "lo"), _is(family.field("daddr"), f"@{family.set('own')}"), _DROP)
    yield _rule("to_host", _is(_ICMP6_TYPE, {"set": [*_NEIGHBOURS]}), _ACCEPT)
    yield _rule("to_host", _has_state("invalid"), _DROP)
    # Answers, and no more: what a job began while there were no rules does not go on.
    yield _rule("to_host", _IS_ANSWER, _has_state("established"), _ACCEPT)
    yield _rule("to_host", _has_state("related"), _ACCEPT)
    for family in _FAMILIES:
        gateway = _is(_concat(_IN, family.field("daddr")), f"@{family.set('gateways')}")
        transport = _is(_TRANSPORT, {"set": ["tcp", "udp"]})
        yield _rule("to_host", gateway, transport, _is(_PORT, DNS_PORT), _ACCEPT)
    yield _rule("to_host", _DROP)


def _nat_rules() -> Iterator[Statement]:
    # The network's own name server is asked, whoever publishes its port.
    yield _rule("nat_prerouting", _is(_IN, "@bridges"), _is(_PORT, DNS_PORT), _ACCEPT)
    # No answer can come back to ::1 by another link than lo: who asks there is refused at once.
    yield _rule("nat_output", _is(_IP6.field("daddr"), "::1"), _ACCEPT)
    for chain in ("nat_prerouting", "nat_output"):
        for family in _FAMILIES:
            yield _rule(chain, _is_local(), _dnat(family, "chosen", family.field("daddr"), _TRANSPORT, _PORT))
            yield _rule(chain, _is_local(), _dnat(family, "every", _TRANSPORT, _PORT))
    loopback = _is(_IP4.field("saddr"), _prefix("127.0.0.0/8"))
    yield _rule("nat_postrouting", _is(_OUT, "@bridges"), loopback, _MASQUERADE)
    for family in _FAMILIES:
        sender = family.field("saddr")
        # From a job to a published port of its own network: the answer has to come back this way.
        own = _is(_concat(_OUT, sender), f"@{family.set('sources')}")
        yield _rule("nat_postrouting", own, _has_status("dnat"), _MASQUERADE)
        masked = _is(sender, f"@{family.set('masked')}")
        yield _rule("nat_postrouting", masked, _is_not(_OUT, "@bridges"), _MASQUERADE)


def _rule(chain: str, *expression: Statement) -> Statement:
    return {"rule": {"family": FAMILY, "table": TABLE, "chain": chain, "expr": list(expression)}}


def _goto(chain: str) -> Statement:
    return {"goto": {"target": chain}}


def _is(left: Statement, right: Any) -> Statement:
    return {"match": {"op": "==", "left": left, "right": right}}


def _is_not(left: Statement, right: Any) -> Statement:
    return {"match": {"op": "!=", "left": left, "right": right}}


def _has_state(*states: str) -> Statement:
    return {"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": list(states)}}


def _has_status(status: str) -> Statement:
    return {"match": {"op": "in", "left": {"ct": {"key": "status"}}, "right": status}}


def _is_local() -> Statement:
    return _is({"fib": {"result": "type", "flags": ["daddr"]}}, "local")


def _dnat(family: _Family, name: str, *key: Statement) -> Statement:
    def looked_up(what: str) -> Statement:
        return {"map": {"key": _concat(*key), "data": f"@{family.set(name)}_{what}"}}

    return {"dnat": {"family": family.header, "addr": looked_up("address"), "port": looked_up("port")}}
