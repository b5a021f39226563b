"""Networks for the eye and for programs: the list, one with its jobs, and a picture of all as text or DOT."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from rnx.dotlang import escaped
from rnx.output import Column, clean, table
from rnx.times import show_time
from rnx.traffic import port_data, show_bandwidth, show_port

BUILT_IN = ("none", "isolated", "bridge", "host")
_SHORT_ID = 8


def in_order(networks: Iterable[Any]) -> list[Any]:
    """Return the networks as they are listed: those that are built in first, then by name."""
    return sorted(networks, key=lambda network: (not _is_builtin(network), network.name))


def network_data(network: Any) -> dict[str, object]:
    """Return one element of ``network list --json``; our own keys come after the given ones, when set."""
    data: dict[str, object] = {
        "name": network.name,
        "cidr": network.cidr,
        "bridge": network.bridge,
        "builtin": _is_builtin(network),
        "job_count": network.job_count,
    }
    when_set = {
        "cidr6": network.cidr6,
        "internal": network.internal,
        "isolated": network.isolated,
        "mtu": network.mtu,
        "dns": list(network.dns),
        "bandwidth": network.bandwidth,
        "created_time": network.created_time,
    }
    return data | {key: value for key, value in when_set.items() if value}


def whole_data(network: Any) -> dict[str, object]:
    """Return a network with its members, for ``network inspect`` and ``network graph``."""
    return {**network_data(network), "members": [_member_data(member) for member in network.members]}


def network_table(networks: Sequence[Any]) -> str:
    """Return the table of ``network list``; no cell is empty, because scripts count words."""
    if not networks:
        return "No networks found"
    columns = (
        Column("NAME", least=15),
        Column("CIDR", least=18),
        Column("BRIDGE"),
        Column("JOBS"),
        Column("CIDR6"),
    )
    return table(columns, [_row(network) for network in networks])


def network_text(network: Any) -> str:
    """Return the text of ``network inspect``."""
    fields = {
        "Name": f"{network.name} (built-in)" if _is_builtin(network) else network.name,
        "CIDR": network.cidr,
        "CIDR6": network.cidr6,
        "Bridge": network.bridge,
        "Reaches": _reach(network),
        "MTU": str(network.mtu or ""),
        "DNS": ", ".join(network.dns),
        "Bandwidth": f"{show_bandwidth(network.bandwidth)} each way" if network.bandwidth else "",
        "Created": show_time(network.created_time, empty="", zone=True),
        "Jobs": str(network.job_count),
    }
    head = "\n".join(f"{name}: {clean(value)}" for name, value in fields.items() if value)
    if not network.members:
        return head
    columns = (
        Column("JOB", 38),
        Column("NAME", 25),
        Column("ADDRESSES"),
        Column("BANDWIDTH"),
        Column("PUBLISHED PORTS"),
    )
    rows = [
        [
            member.job_uuid,
            member.job_name,
            ", ".join(member.addresses),
            show_bandwidth(member.bandwidth) if member.bandwidth else "",
            ", ".join(show_port(port) for port in member.ports),
        ]
        for member in network.members
    ]
    return f"{head}\n\n{table(columns, rows)}"


def tree(networks: Sequence[Any]) -> str:
    """Return the picture as text: outside, host, networks, jobs, and the ports that lead to them."""
    branches = [_branch(network) for network in networks]
    return "\n".join(["outside", *_below([("host", branches)])])


def dot(networks: Sequence[Any]) -> str:
    """Return the picture in the language of graphviz; edges point the way in which connections can begin."""
    lines = [
        "digraph joblet {",
        "  rankdir=LR;",
        "  node [shape=box];",
        f"  {_node('outside', shape='ellipse')}",
        f"  {_node('host', shape='box3d')}",
    ]
    for network in networks:
        lines += [f"  {line}" for line in _dot_network(network)]
    return "\n".join([*lines, "}"])


_Branch = tuple[str, list[Any]]


def _below(branches: Sequence[_Branch]) -> Iterator[str]:
    """Yield the lines of branches, each a text with its own branches."""
    for place, (text, further) in enumerate(branches):
        is_last = place == len(branches) - 1
        yield ("└── " if is_last else "├── ") + text
        for line in _below(further):
            yield ("    " if is_last else "│   ") + line


def _branch(network: Any) -> _Branch:
    mark = " (built-in)" if _is_builtin(network) else ""
    ranges = ", ".join(text for text in (network.cidr, network.cidr6) if text)
    rate = show_bandwidth(network.bandwidth) if network.bandwidth else ""
    parts = (f"{network.name}{mark}", ranges, network.bridge, rate, f"reaches {_reach(network)}")
    jobs: list[_Branch] = [_leaf(member) for member in network.members]
    return "  ".join(clean(part) for part in parts if part), jobs


def _leaf(member: Any) -> _Branch:
    rate = show_bandwidth(member.bandwidth) if member.bandwidth else ""
    parts = (_job_name(member), ", ".join(member.addresses), rate)
    ports: list[_Branch] = [(clean(f"outside {show_port(port)}"), []) for port in member.ports]
    return "  ".join(clean(part) for part in parts if part), ports


def _dot_network(network: Any) -> Iterator[str]:
    name = f"network {network.name}"
    yield _node(name, network.name, network.cidr, network.cidr6, network.bridge, f"reaches {_reach(network)}")
    if network.bridge:
        yield _edge("host", name)
    if network.bridge and not network.internal:
        yield _edge(name, "outside")
    for member in network.members:
        job = f"job {member.job_uuid}"
        yield _node(job, _job_name(member), *member.addresses, shape="ellipse")
        yield _edge(name, job, arrows="none" if network.isolated or not network.bridge else "both")
        for port in member.ports:
            yield _edge("outside", job, show_port(port))


def _node(identity: str, *labels: str, shape: str = "") -> str:
    label = "\\n".join(escaped(text) for text in labels or (identity,) if text)
    form = f", shape={shape}" if shape else ""
    return f'"{escaped(identity)}" [label="{label}"{form}];'


def _edge(start: str, end: str, label: str = "", arrows: str = "") -> str:
    attributes = [f'label="{escaped(label)}"'] if label else []
    attributes += [f"dir={arrows}"] if arrows else []
    tail = f" [{', '.join(attributes)}]" if attributes else ""
    return f'"{escaped(start)}" -> "{escaped(end)}"{tail};'


def _job_name(member: Any) -> str:
    short = member.job_uuid[:_SHORT_ID]
    return f"{member.job_name} ({short})" if member.job_name else short


def _reach(network: Any) -> str:
    """Say whom its jobs reach."""
    if network.name == "host":
        return "everything the host reaches: its own network"
    if not network.bridge:
        return "nothing, each job is alone"
    jobs = "" if network.isolated else "each other"
    outside = "" if network.internal else "outside"
    return ", ".join(place for place in (outside, jobs) if place) or "nothing"


def _row(network: Any) -> list[str]:
    bridge = network.bridge or "-"
    return [
        network.name,
        network.cidr,
        f"{bridge} (built-in)" if _is_builtin(network) else bridge,
        str(network.job_count),
        network.cidr6,
    ]


def _member_data(member: Any) -> dict[str, object]:
    data: dict[str, object] = {
        "job_uuid": member.job_uuid,
        "job_name": member.job_name,
        "addresses": list(member.addresses),
        "ports": [port_data(port) for port in member.ports],
    }
    return data | ({"bandwidth": member.bandwidth} if member.bandwidth else {})


def _is_builtin(network: Any) -> bool:
    """Tell whether it is always there; older agents do not say so."""
    return bool(network.builtin) or network.name in BUILT_IN
