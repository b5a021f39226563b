import json
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network, PublishedPort, Transport
from joblet_agent.netlink.ruleset import removal, ruleset

BRIDGE = Network("bridge", "joblet0", IPv4Network("172.20.0.0/16"), IPv6Network("fd12:0:0:1::/64"))
ISOLATED = Network(
    "isolated",
    "joblet-isolated",
    IPv4Network("10.255.0.0/16"),
    IPv6Network("fd12:0:0:2::/64"),
    is_isolated=True,
)
INTERNAL = Network(
    "db", "joblet-db", IPv4Network("10.10.0.0/24"), IPv6Network("fd12:0:0:3::/64"), is_internal=True
)
ALL = (BRIDGE, ISOLATED, INTERNAL)


def attachment(*ports: PublishedPort, number: int = 2) -> Attachment:
    addresses = BRIDGE.range4[number], BRIDGE.range6[number]
    return Attachment(JobId(f"job-{number}"), "bridge", *addresses, ports=ports)


def objects(kind: str, *attachments: Attachment, networks: tuple[Network, ...] = ALL) -> list[Any]:
    commands = ruleset(networks, attachments)["nftables"]
    return [command["add"][kind] for command in commands if kind in command.get("add", ())]


def elements(name: str, *attachments: Attachment) -> list[Any]:
    named = {each["name"]: each for kind in ("set", "map") for each in objects(kind, *attachments)}
    return list(named[name].get("elem", []))


def rules(chain: str) -> list[Any]:
    return [rule["expr"] for rule in objects("rule") if rule["chain"] == chain]


def test_the_table_replaces_any_other_of_its_name_in_one_transaction() -> None:
    table = {"table": {"family": "inet", "name": "joblet"}}
    commands = ruleset(ALL, [])["nftables"]
    assert commands[:3] == [{"add": table}, {"delete": table}, {"add": table}]
    assert all(set(command) == {"add"} for command in commands[3:])
    assert removal()["nftables"] == commands[:2]


def test_everything_is_in_the_one_table_of_ours() -> None:
    for kind in ("set", "map", "chain", "rule"):
        for each in objects(kind, attachment(PublishedPort(8080, 80))):
            assert (each["family"], each["table"]) == ("inet", "joblet")


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_rules_are_the_same_whatever_networks_and_jobs_there_are(networks: int, jobs: int) -> None:
    made = tuple(
        Network(f"n{each}", f"joblet-n{each}", IPv4Network((0x0A000000 + each * 256, 24)), BRIDGE.range6)
        for each in range(networks)
    )
    attached = [attachment(PublishedPort(each + 1, 80), number=each + 2) for each in range(jobs)]
    for kind in ("chain", "rule"):
        assert objects(kind, *attached, networks=made) == objects(kind)
    without_ports = [attachment(number=each + 2) for each in range(jobs)]
    assert ruleset(made, without_ports) == ruleset(made, [])


def test_sets_have_the_networks() -> None:
    assert elements("bridges") == ["joblet0", "joblet-isolated", "joblet-db"]
    assert elements("internal") == ["joblet-db"]
    both = [{"concat": [name, name]} for name in ("joblet0", "joblet-db")]
    assert elements("same") == both  # not the isolated one: its jobs do not reach each other
    assert elements("sources4")[0] == {"concat": ["joblet0", {"prefix": {"addr": "172.20.0.0", "len": 16}}]}
    assert elements("gateways6")[1] == {"concat": ["joblet-isolated", "fd12:0:0:2::1"]}
    masked = [each["prefix"]["addr"] for each in elements("masked4") + elements("masked6")]
    assert masked == ["10.255.0.0", "172.20.0.0", "fd12:0:0:1::", "fd12:0:0:2::"]


def test_there_are_no_empty_lists_of_elements() -> None:
    """nft refuses them."""
    assert not any(each.get("elem") == [] for kind in ("set", "map") for each in objects(kind, networks=()))


def test_a_port_of_all_addresses_is_published_by_both_protocols() -> None:
    job = attachment(PublishedPort(8080, 80))
    place = {"concat": ["tcp", 8080]}
    assert elements("every4_address", job) == [[place, "172.20.0.2"]]
    assert elements("every4_port", job) == elements("every6_port", job) == [[place, 80]]
    assert elements("every6_address", job) == [[place, "fd12:0:0:1::2"]]
    assert elements("targets4", job) == [{"concat": ["172.20.0.2", "tcp", 80]}]
    assert elements("targets6", job) == [{"concat": ["fd12:0:0:1::2", "tcp", 80]}]


def test_a_port_of_one_address_is_published_there_alone() -> None:
    four = PublishedPort(53, 5353, Transport.UDP, "192.0.2.1")
    six = PublishedPort(53, 5353, Transport.UDP, "2001:db8::1")
    job = attachment(four, six)
    assert elements("chosen4_address", job) == [[{"concat": ["192.0.2.1", "udp", 53]}, "172.20.0.2"]]
    assert elements("chosen6_address", job) == [[{"concat": ["2001:db8::1", "udp", 53]}, "fd12:0:0:1::2"]]
    assert elements("every4_address", job) == elements("every6_address", job) == []
    assert elements("targets6", attachment(four)) == []


def test_all_addresses_of_one_protocol() -> None:
    job = attachment(PublishedPort(80, 80, address="0.0.0.0"), PublishedPort(81, 81, address="::"))
    assert [place["concat"][1] for place, _ in elements("every4_address", job)] == [80]
    assert [place["concat"][1] for place, _ in elements("every6_address", job)] == [81]


def test_two_host_ports_may_lead_to_one_port_of_a_job() -> None:
    job = attachment(PublishedPort(8080, 80), PublishedPort(8081, 80))
    assert len(elements("every4_address", job)) == 2
    assert len(elements("targets4", job)) == 1


def test_what_two_jobs_want_is_the_first_ones_and_costs_nobody_else_the_rules() -> None:
    first, second = attachment(PublishedPort(8080, 80)), attachment(PublishedPort(8080, 81), number=3)
    assert elements("every4_address", first, second) == [[{"concat": ["tcp", 8080]}, "172.20.0.2"]]
    assert elements("every6_port", first, second) == [[{"concat": ["tcp", 8080]}, 80]]
    assert elements("targets4", first, second) == [{"concat": ["172.20.0.2", "tcp", 80]}]


def test_ranges_that_overlap_are_one_interval() -> None:
    wide = Network("wide", "joblet-wide", IPv4Network("172.16.0.0/12"), IPv6Network("fd12::/32"))
    named = {each["name"]: each for each in objects("set", networks=(*ALL, wide))}
    assert [each["prefix"] for each in named["masked4"]["elem"]] == [
        {"addr": "10.255.0.0", "len": 16},
        {"addr": "172.16.0.0", "len": 12},
    ]
    assert len(named["masked6"]["elem"]) == 1


def test_chains_that_decide_end_with_drop() -> None:
    for chain in ("from_bridge", "between", "arriving", "to_host"):
        assert rules(chain)[-1] == [{"drop": None}]


def test_no_connection_goes_on_because_it_was_there_before_the_rules() -> None:
    for chain in ("leaving", "between", "arriving", "to_host"):
        for rule in rules(chain):
            if "established" in json.dumps(rule):
                assert rule[0]["match"] == {
                    "op": "==",
                    "left": {"ct": {"key": "direction"}},
                    "right": "reply",
                }
    assert rules("leaving")[0][-1] == {"goto": {"target": "between"}}
    assert "established" not in json.dumps(rules("between"))


def test_b8_metadata_and_link_local_addresses_are_forbidden() -> None:
    forbidden = elements("forbidden4") + elements("forbidden6")
    ranges = [ip_network((each["prefix"]["addr"], each["prefix"]["len"])) for each in forbidden]
    for address in ("169.254.169.254", "169.254.1.1", "127.0.0.1", "::1", "fe80::1", "fd00:ec2::254"):
        assert any(ip_address(address) in one for one in ranges), address
