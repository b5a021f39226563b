"""What other firewalls of the host keep from our networks, read from their rules (pure).

``accept`` in our table does not end a packet's way: it has to get through everybody's chains. Rules of
others are theirs, so nothing is done to them; an administrator is told what to do.

A chain of theirs is closed if its policy is to drop, or its last rule drops or rejects everything. It is open
to a bridge if a rule on the way through it accepts what comes from that bridge, by name; more is not read out
of rules that may be anything.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from joblet_agent.netlink.ruleset import FAMILY, TABLE

Rule = Sequence[Mapping[str, Any]]

_FAMILIES = ("inet", "ip", "ip6")
_ENDS = ("drop", "reject")
_STEPS = ("jump", "goto")
_PASSING = "firewalld_policy_drop"
"""Drops everything while firewalld reloads, or as long as an administrator says --panic-on."""


@dataclass(slots=True)
class _Table:
    """A table of somebody else."""

    family: str
    name: str
    chains: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def reached(self, start: str) -> list[str]:
        """Return the chains that a packet may come through, from a base chain on."""
        found, new = [start], [start]
        while new:
            chain = new.pop()
            for target in (target for rule in self.rules.get(chain, ()) for target in _targets(rule)):
                if target not in found:
                    found.append(target)
                    new.append(target)
        return found


def obstacles(listing: Iterable[Mapping[str, Any]], bridges: Sequence[str]) -> Sequence[str]:
    """Return a sentence for each closed chain that is not open to all of the bridges, with what to do."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    for table in _tables(listing):
        for name, chain in table.chains.items():
            hook = chain.get("hook")
            if hook not in {"forward", "input"} or chain.get("type") != "filter":
                continue
            reached = table.reached(name)
            if not _is_closed(table, name) or all(_is_open(table, reached, bridge) for bridge in bridges):
                continue
            key = (_program(table, reached), str(hook), table.name, name)
            found.setdefault(key, []).append(table.family)
    return [_sentence(*key, families) for key, families in sorted(found.items())]


def _tables(listing: Iterable[Mapping[str, Any]]) -> Iterable[_Table]:
    tables: dict[tuple[str, str], _Table] = {}
    for item in listing:
        for kind in ("chain", "rule"):
            entry = item.get(kind)
            if entry is None or entry["family"] not in _FAMILIES:
                continue
            place = entry["family"], entry["table"]
            if place == (FAMILY, TABLE) or entry["table"] == _PASSING:
                continue
            table = tables.setdefault(place, _Table(*place))
            if kind == "chain":
                table.chains[entry["name"]] = entry
            else:
                table.rules.setdefault(entry["chain"], []).append(entry.get("expr", ()))
    return tables.values()


def _is_closed(table: _Table, chain: str) -> bool:
    if table.chains[chain].get("policy") == "drop":
        return True
    last = table.rules.get(chain, [()])[-1]
    return not _matches(last) and any(end in part for part in last for end in _ENDS)


def _is_open(table: _Table, reached: Iterable[str], bridge: str) -> bool:
    return any(
        _names(rule, "iifname", bridge) and _accepts(table, rule)
        for chain in reached
        for rule in table.rules.get(chain, ())
    )


def _accepts(table: _Table, rule: Rule) -> bool:
    """Say whether the rule accepts, or sends to a chain that accepts all that gets there."""
    if any("accept" in part for part in rule):
        return not any(_key(match) == "oifname" for match in _matches(rule))
    ends = [table.rules.get(target, [()])[-1] for target in _targets(rule)]
    return any(not _matches(end) and any("accept" in part for part in end) for end in ends)


def _names(rule: Rule, key: str, bridge: str) -> bool:
    positive = (match for match in _matches(rule) if match["op"] in {"==", "in"})
    return any(_fits(name, bridge) for match in positive if _key(match) == key for name in _texts(match))


def _fits(name: str, bridge: str) -> bool:
    return name == bridge or (name.endswith("*") and bridge.startswith(name[:-1]))


def _texts(match: Mapping[str, Any]) -> list[str]:
    right = match["right"]
    names = right.get("set", ()) if isinstance(right, Mapping) else right
    return [name for name in (names if isinstance(names, list) else [names]) if isinstance(name, str)]


def _key(match: Mapping[str, Any]) -> str:
    left = match["left"]
    return str(left["meta"].get("key")) if isinstance(left, Mapping) and "meta" in left else ""


def _matches(rule: Rule) -> list[Mapping[str, Any]]:
    return [part["match"] for part in rule if "match" in part]


def _targets(rule: Rule) -> Iterator[str]:
    for part in rule:
        for step in _STEPS:
            if step in part:
                yield part[step]["target"]


def _program(table: _Table, reached: Iterable[str]) -> str:
    if table.name == "firewalld":
        return "firewalld"
    if "DOCKER-USER" in reached:
        return "docker"
    if any(chain.startswith(("ufw-", "ufw6-")) for chain in reached):
        return "ufw"
    return ""


def _sentence(program: str, hook: str, table: str, chain: str, families: Sequence[str]) -> str:
    tables = " and ".join(f"{family} {table}" for family in sorted(families))
    where = f"chain {chain} of table {tables}"
    ways = "jobs' ways to one another and to the outside"
    what = ways if hook == "forward" else "jobs' questions for names"
    commands = " && ".join(_commands(program, hook, table, chain, sorted(families)))
    return f"{program or 'another firewall'} may block {what} ({where}); to allow them: {commands}"


def _commands(program: str, hook: str, table: str, chain: str, families: Sequence[str]) -> Iterator[str]:
    """Yield what an administrator does. Our own table still drops all that is not allowed to a network."""
    match program, hook:
        case "firewalld", _:
            yield "firewall-cmd --permanent --zone=trusted --add-interface=joblet+"
            yield "firewall-cmd --reload"
        case "ufw", "forward":
            yield "ufw route allow in on joblet+"
            yield "ufw route allow out on joblet+"
        case "ufw", _:
            yield "ufw allow in on joblet+ to any port 53"
        case _ if table == "filter" and chain in {"FORWARD", "INPUT"} and "inet" not in families:
            for family in families:
                iptables = "iptables" if family == "ip" else "ip6tables"
                place = "DOCKER-USER" if program == "docker" and hook == "forward" else chain
                if hook == "forward":
                    yield f"{iptables} -I {place} -i joblet+ -j ACCEPT"
                    yield f"{iptables} -I {place} -o joblet+ -j ACCEPT"
                else:
                    for transport in ("tcp", "udp"):
                        yield f"{iptables} -I {place} -i joblet+ -p {transport} --dport 53 -j ACCEPT"
        case _:
            for family in families:
                rule = f"nft insert rule {family} {table} {chain}"
                if hook == "forward":
                    yield f"{rule} iifname 'joblet*' accept"
                    yield f"{rule} oifname 'joblet*' accept"
                else:
                    yield f"{rule} iifname 'joblet*' meta l4proto '{{ tcp, udp }}' th dport 53 accept"
