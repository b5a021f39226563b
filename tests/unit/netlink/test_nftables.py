import json
from typing import Any, cast

import pytest

from joblet_agent.errors import HostUnavailable
from joblet_agent.netlink.nftables import NftablesFirewall
from joblet_agent.netlink.rule_monitor import RuleMonitor, Transaction
from tests.unit.netlink.test_ruleset import ALL

OURS = frozenset({("inet", "joblet")})
THEIRS = frozenset({("ip", "filter")})


class FakeNftables:
    """nftables.Nftables as the firewall uses it; what it does is told to the monitor."""

    def __init__(self, monitor: "FakeMonitor") -> None:
        self._monitor = monitor
        self.refusal = ""
        self.listing: list[Any] = [{"metainfo": {}}]
        self.listed = 0

    def set_json_output(self, wanted: bool) -> None:
        assert wanted

    def cmd(self, text: str) -> tuple[int, str, str]:
        if self.refusal:
            return -1, "", self.refusal
        if "list" in json.loads(text)["nftables"][0]:
            self.listed += 1
            return 0, json.dumps({"nftables": self.listing}), ""
        self._monitor.heard.append(Transaction(OURS, "python3"))
        return 0, "", ""


class FakeMonitor:
    """RuleMonitor with what is put into it."""

    def __init__(self) -> None:
        self.heard: list[Transaction] = []
        self.was_lost = False

    def read(self) -> list[Transaction] | None:
        heard, self.heard = self.heard, []
        was_lost, self.was_lost = self.was_lost, False
        return None if was_lost else heard


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()


@pytest.fixture
def library(monitor: FakeMonitor) -> FakeNftables:
    return FakeNftables(monitor)


@pytest.fixture
def firewall(library: FakeNftables, monitor: FakeMonitor) -> NftablesFirewall:
    firewall = NftablesFirewall(library, cast(RuleMonitor, monitor))
    firewall.apply(ALL, ())
    return firewall


def test_own_changes_are_not_others(firewall: NftablesFirewall) -> None:
    assert not firewall.was_changed()
    firewall.apply(ALL, ())
    firewall.apply((), ())
    assert not firewall.was_changed()


def test_a_change_of_our_table_by_others_counts_until_it_is_put_back(
    firewall: NftablesFirewall, monitor: FakeMonitor
) -> None:
    assert not firewall.was_changed()
    monitor.heard = [Transaction(THEIRS, "iptables"), Transaction(OURS | THEIRS, "nft")]
    assert firewall.was_changed()
    assert firewall.last_program == "nft"
    assert firewall.was_changed()
    firewall.apply(ALL, ())
    assert not firewall.was_changed()


def test_changes_of_other_tables_do_not_count(firewall: NftablesFirewall, monitor: FakeMonitor) -> None:
    monitor.heard.append(Transaction(THEIRS, "iptables"))
    assert not firewall.was_changed()


@pytest.mark.parametrize("is_first", [True, False])
def test_a_change_between_two_of_ours_is_noticed_and_repaired_once(
    firewall: NftablesFirewall, monitor: FakeMonitor, is_first: bool
) -> None:
    monitor.heard.insert(0 if is_first else 1, Transaction(OURS, "nft"))
    firewall.apply(ALL, ())
    assert firewall.was_changed()
    firewall.apply(ALL, ())
    assert not firewall.was_changed()


def test_lost_notifications_count_as_a_change(firewall: NftablesFirewall, monitor: FakeMonitor) -> None:
    monitor.was_lost = True
    assert firewall.was_changed()
    assert firewall.last_program == ""
    firewall.apply(ALL, ())
    assert not firewall.was_changed()


def test_what_the_kernel_refuses_is_told_in_its_words_and_stays_to_be_done(
    firewall: NftablesFirewall, library: FakeNftables, monitor: FakeMonitor
) -> None:
    assert not firewall.was_changed()
    monitor.heard.append(Transaction(OURS, "nft"))
    assert firewall.was_changed()
    library.refusal = "internal:0:0-0: Error: Could not process:\nNo such device\n"
    with pytest.raises(HostUnavailable) as caught:
        firewall.apply(ALL, ())
    assert caught.value.reason == "NETWORK_RULES_REFUSED"
    assert str(caught.value) == (
        "cannot set the rules of networks: internal:0:0-0: Error: Could not process: No such device"
    )
    library.refusal = ""
    assert firewall.was_changed()
    firewall.apply(ALL, ())
    assert not firewall.was_changed()


def test_rules_of_others_are_read_when_they_or_the_networks_have_changed(
    firewall: NftablesFirewall, library: FakeNftables, monitor: FakeMonitor
) -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD", "type": "filter", "hook": "forward"}
    library.listing.append({"chain": {**chain, "prio": 0, "policy": "drop"}})
    assert len(firewall.obstacles()) == 1
    firewall.apply(ALL, ())
    assert not firewall.was_changed()
    assert len(firewall.obstacles()) == library.listed == 1
    monitor.heard.append(Transaction(THEIRS, "iptables"))
    library.listing.pop()
    assert not firewall.was_changed()
    assert firewall.obstacles() == []
    firewall.apply(ALL[:1], ())
    assert (firewall.obstacles(), library.listed) == ([], 3)
