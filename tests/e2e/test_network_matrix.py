"""Who reaches whom stays as it is, whatever happens to the agent, to the network service and to the rules."""

from collections.abc import Iterator

import pytest

from tests.e2e.agent import Client, command, eventually, kill_agent, main_pid, wait_for_agent
from tests.e2e.network_matrix import AGENT_PORT, EXPECTED, Matrix, Table, matrix, wrong

pytestmark = pytest.mark.systemd

SERVICE = "joblet-networks.service"
RULES = ("nft", "--stateless", "list", "table", "inet", "joblet")


@pytest.fixture(scope="module")
def made() -> Iterator[Matrix]:
    client = Client()
    wait_for_agent(client)
    with matrix(client) as made:
        yield made
    client.close()


@pytest.fixture(scope="module")
def table(made: Matrix) -> Table:
    return made.table()


def rules() -> str:
    return command(*RULES, check=False).stdout


def test_the_table_is_as_it_has_to_be(table: Table) -> None:
    assert set(table) == set(EXPECTED)
    assert wrong(table) == []


def test_b8_an_isolated_job_reaches_the_outside_and_nothing_else(table: Table) -> None:
    reached = [what for what, is_reached in table["isolated"].items() if is_reached]
    assert reached == ["outside, IPv4", "outside, IPv6"]
    assert {f"gateway of isolated, IPv{version}" for version in (4, 6)} <= set(table["isolated"])


def test_b8_no_job_reaches_the_agent_metadata_or_link_local_addresses(table: Table) -> None:
    forbidden = ("host", "metadata", "link-local", "gateway")
    jobs = [row for asker, row in table.items() if asker not in {"host", "outside"}]
    tried = [(what, reached) for row in jobs for what, reached in row.items() if what.startswith(forbidden)]
    assert len(tried) > 100
    assert not any(is_reached for _, is_reached in tried)
    assert table["host"]["host's agent port, IPv4"], f"nothing listens on {AGENT_PORT}"


def test_after_a_restart_of_the_agent(made: Matrix) -> None:
    before = rules()
    command("systemctl", "restart", "joblet-agent.service")
    assert wrong(made.table()) == []
    assert rules() == before


def test_after_the_agent_was_killed(made: Matrix) -> None:
    kill_agent()
    assert wrong(made.table()) == []


def test_after_the_network_service_was_killed(made: Matrix) -> None:
    before, pid = rules(), main_pid(SERVICE)
    command("systemctl", "kill", "--signal=KILL", SERVICE)
    assert wrong(made.table()) == []
    eventually(lambda: main_pid(SERVICE), lambda now: now not in {0, pid})
    assert wrong(made.table()) == []
    assert rules() == before


def test_after_all_rules_of_the_host_were_flushed(made: Matrix) -> None:
    before = rules()
    command("nft", "flush", "ruleset")
    eventually(rules, lambda now: now == before, within=1)
    assert wrong(made.table()) == []


def test_after_a_flush_while_the_network_service_was_stopped(made: Matrix) -> None:
    before = rules()
    command("systemctl", "stop", "joblet-networks.socket", SERVICE)
    command("nft", "flush", "ruleset")
    command("systemctl", "start", "joblet-networks.socket")
    eventually(rules, lambda now: now == before)
    assert wrong(made.table()) == []
