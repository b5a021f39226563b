from collections.abc import Iterator
from typing import Any

from joblet_agent.netlink.other_firewalls import obstacles

BRIDGES = ("joblet0", "joblet-web")
WAYS = "jobs' ways to one another and to the outside"
NAMES = "jobs' questions for names"
ACCEPT, DROP = {"accept": None}, {"drop": None}
REJECT = {"reject": {"type": "icmpx", "expr": "admin-prohibited"}}


def base(family: str, table: str, name: str, hook: str, policy: str = "accept") -> dict[str, Any]:
    place = {"family": family, "table": table, "name": name}
    return {"chain": {**place, "type": "filter", "hook": hook, "prio": 0, "policy": policy}}


def rule(family: str, table: str, chain: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"rule": {"family": family, "table": table, "chain": chain, "expr": list(parts)}}


def match(key: str, name: Any, op: str = "==") -> dict[str, Any]:
    return {"match": {"op": op, "left": {"meta": {"key": key}}, "right": name}}


def to(chain: str) -> dict[str, Any]:
    return {"jump": {"target": chain}}


def forward(*rules: tuple[dict[str, Any], ...], policy: str = "drop") -> Iterator[dict[str, Any]]:
    yield base("ip", "filter", "FORWARD", "forward", policy)
    for parts in rules:
        yield rule("ip", "filter", "FORWARD", *parts)


def commands(sentence: str) -> list[str]:
    return sentence.split("to allow them: ")[1].split(" && ")


def test_a_host_without_other_firewalls_is_no_obstacle() -> None:
    own = [base("inet", "joblet", "forward", "forward"), rule("inet", "joblet", "forward", DROP)]
    assert obstacles([{"metainfo": {}}, *own, *forward(policy="accept")], BRIDGES) == []


def test_no_networks_have_no_obstacles() -> None:
    assert obstacles(list(forward()), ()) == []


def test_a_policy_of_dropping_is_told_with_its_chain_and_what_to_do() -> None:
    [sentence] = obstacles(list(forward()), BRIDGES)
    assert sentence == (
        f"another firewall may block {WAYS} (chain FORWARD of table ip filter); to allow them: "
        "iptables -I FORWARD -i joblet+ -j ACCEPT && iptables -I FORWARD -o joblet+ -j ACCEPT"
    )


def test_every_bridge_has_to_be_let_through() -> None:
    assert obstacles(list(forward((match("iifname", "joblet*"), ACCEPT))), BRIDGES) == []
    assert len(obstacles(list(forward((match("iifname", "joblet0"), ACCEPT))), BRIDGES)) == 1
    both = {"set": ["joblet0", "joblet-web"]}
    assert obstacles(list(forward((match("iifname", both), ACCEPT))), BRIDGES) == []


def test_a_rule_that_does_not_let_out_does_not_count() -> None:
    for parts in (
        (match("iifname", "joblet*"), DROP),
        (match("iifname", "joblet*"), match("oifname", "joblet*"), ACCEPT),
        (match("iifname", "joblet*", "!="), ACCEPT),
        (match("oifname", "joblet*"), ACCEPT),
    ):
        assert len(obstacles(list(forward(parts)), BRIDGES)) == 1


def test_a_rule_in_a_chain_that_nothing_leads_to_does_not_count() -> None:
    lonely = rule("ip", "filter", "elsewhere", match("iifname", "joblet*"), ACCEPT)
    assert len(obstacles([*forward(), lonely], BRIDGES)) == 1


def test_ufw_has_commands_of_its_own_and_one_sentence_for_both_protocols() -> None:
    listing = [
        item
        for family in ("ip", "ip6")
        for item in (
            base(family, "filter", "FORWARD", "forward", "drop"),
            base(family, "filter", "INPUT", "input", "drop"),
            rule(
                family, "filter", "FORWARD", to("ufw-user-forward" if family == "ip" else "ufw6-user-forward")
            ),
            rule(family, "filter", "INPUT", to("ufw-user-input" if family == "ip" else "ufw6-user-input")),
        )
    ]
    ways, names = obstacles(listing, BRIDGES)
    assert ways.startswith(f"ufw may block {WAYS} (chain FORWARD of table ip filter and ip6 filter)")
    assert commands(ways) == ["ufw route allow in on joblet+", "ufw route allow out on joblet+"]
    assert names.startswith(f"ufw may block {NAMES}")
    assert commands(names) == ["ufw allow in on joblet+ to any port 53"]
    let = rule("ip", "filter", "ufw-user-forward", match("iifname", "joblet*"), ACCEPT)
    let6 = rule("ip6", "filter", "ufw6-user-forward", match("iifname", "joblet*"), ACCEPT)
    assert obstacles([*listing, let, let6], BRIDGES) == [names]


def test_docker_has_a_chain_for_others() -> None:
    [sentence] = obstacles(list(forward((to("DOCKER-USER"),))), BRIDGES)
    assert sentence.startswith("docker may block")
    assert commands(sentence)[0] == "iptables -I DOCKER-USER -i joblet+ -j ACCEPT"


def test_firewalld_rejects_with_its_last_rule_and_accepts_by_zones() -> None:
    chain = base("inet", "firewalld", "filter_FORWARD", "forward")
    zones = rule("inet", "firewalld", "filter_FORWARD", to("filter_FORWARD_ZONES"))
    last = rule("inet", "firewalld", "filter_FORWARD", REJECT)
    [sentence] = obstacles([chain, zones, last], BRIDGES)
    assert commands(sentence) == [
        "firewall-cmd --permanent --zone=trusted --add-interface=joblet+",
        "firewall-cmd --reload",
    ]
    zone = rule(
        "inet", "firewalld", "filter_FORWARD_ZONES", match("iifname", "joblet*"), to("filter_FWD_trusted")
    )
    accepts = rule("inet", "firewalld", "filter_FWD_trusted", ACCEPT)
    assert obstacles([chain, zones, last, zone, accepts], BRIDGES) == []
    rejects = rule("inet", "firewalld", "filter_FWD_trusted", REJECT)
    assert len(obstacles([chain, zones, last, zone, rejects], BRIDGES)) == 1


def test_firewalld_that_drops_everything_for_the_time_of_a_reload_is_no_obstacle() -> None:
    chain = base("inet", "firewalld_policy_drop", "filter_forward", "forward", "drop")
    assert obstacles([chain], BRIDGES) == []


def test_own_tables_of_an_administrator_are_told_in_their_words() -> None:
    [sentence] = obstacles([base("inet", "my", "in", "input", "drop")], BRIDGES)
    [command] = commands(sentence)
    assert (
        command
        == "nft insert rule inet my in iifname 'joblet*' meta l4proto '{ tcp, udp }' th dport 53 accept"
    )


def test_chains_that_lead_in_circles_are_read_once() -> None:
    circle = [rule("ip", "filter", "a", to("b")), rule("ip", "filter", "b", to("a"))]
    assert len(obstacles([*forward((to("a"),)), *circle], BRIDGES)) == 1
