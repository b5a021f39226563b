"""What a fleet goes through. In this order, as the hosts are the same ones throughout."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.ansible import Outcome
from tests.fleet.hosts import AGENT_PROCESS, PORT, SETTINGS, Count, Fleet, limit, names, version
from tests.testbed import Machine
from tests.testbed import host as control
from tests.testbed.install import build_packages
from tests.testbed.previous import VERSION, previous_packages

pytestmark = pytest.mark.fleet


def test_a_host_whose_upgrade_fails_ends_it_before_the_next_ones(
    fleet: Fleet, counts: dict[str, Count], tmp_path: Path
) -> None:
    before = fleet.installed()
    played = fleet.control.play("upgrade.yml", packages=_broken(tmp_path))
    assert played.status != 0
    assert "broken on purpose" in played.output
    (first,) = played.failed
    assert played.hosts == {first}
    after = fleet.installed()
    assert {name for name in fleet.names if after[name] != before[name]} <= {first}
    assert fleet.said("systemctl", "is-active", "joblet-agent") == dict.fromkeys(fleet.names, "active")


def test_r15_no_job_notices_a_rolling_upgrade(fleet: Fleet, counts: dict[str, Count]) -> None:
    played = fleet.control.play("upgrade.yml", packages=build_packages(), **SETTINGS)
    assert played.status == 0
    assert played.hosts == fleet.names
    assert set.union(*fleet.installed().values()) == {f"ii {version()}"}
    noticed = fleet.each(lambda machine: counts[machine.name].faults())
    assert noticed == {name: [] for name in fleet.names}
    assert fleet.each(_most_jobs) == dict.fromkeys(fleet.names, 200)
    fleet.said("grep", f"port: {PORT}", "/etc/joblet/agent.d/50-debconf.yml")
    assert all("joblet" in groups.split() for groups in fleet.said("id", "-nG", "games").values())


def test_r15_a_second_run_changes_nothing(fleet: Fleet) -> None:
    played = fleet.control.play("site.yml", packages=build_packages(), **SETTINGS)
    assert played.status == 0
    assert played.changed == dict.fromkeys(fleet.names, 0)


def test_what_would_change_is_said_before(fleet: Fleet) -> None:
    pair = fleet.pairs[0]
    before = fleet.said(*AGENT_PROCESS)
    played = _configure(fleet, {"jobs": {"max_concurrent": 250}}, limit(pair), "--check", "--diff")
    assert played.status == 0
    assert "+  max_concurrent: 250" in played.output
    assert played.changed == dict.fromkeys(names(pair), 2)
    assert fleet.each(_most_jobs) == dict.fromkeys(fleet.names, 200)
    assert fleet.said(*AGENT_PROCESS) == before


def test_a_host_that_is_not_fit_is_named(fleet: Fleet) -> None:
    host = fleet.machines[0]
    settings = SETTINGS | {"joblet_agent_check_accepted": []}
    played = fleet.control.play("site.yml", limit([host]), packages=build_packages(), **settings)
    assert played.failed == {host.name}
    assert "no controller memory" in played.output


def test_a_drop_in_is_applied_and_the_agent_restarted_only_if_it_has_to_be(fleet: Fleet) -> None:
    pair, agents = fleet.pairs[0], fleet.said(*AGENT_PROCESS)
    live = _configure(fleet, {"jobs": {"max_concurrent": 300}}, limit(pair))
    assert live.changed == dict.fromkeys(names(pair), 2)
    assert [_most_jobs(host) for host in pair] == [300, 300]
    assert fleet.said(*AGENT_PROCESS) == agents
    assert _configure(fleet, {"rpc": {"max_concurrent": 900}}, limit(pair)).status == 0
    after = fleet.said(*AGENT_PROCESS)
    assert {name for name in fleet.names if after[name] != agents[name]} == names(pair)


def test_a_drop_in_that_cannot_be_used_is_not_put_in_place(fleet: Fleet) -> None:
    host = fleet.machines[0]
    before = host.run("cat", "/etc/joblet/agent.d/60-fleet.yml").stdout
    played = _configure(fleet, {"jobs": {"max_concurent": 300}}, limit([host]))
    assert played.failed == {host.name}
    assert "did you mean max_concurrent?" in played.output
    assert host.run("cat", "/etc/joblet/agent.d/60-fleet.yml").stdout == before


def test_an_empty_drop_in_is_taken_away(fleet: Fleet) -> None:
    host = fleet.machines[0]
    assert _configure(fleet, {}, limit([host])).status == 0
    host.run("test", "!", "-e", "/etc/joblet/agent.d/60-fleet.yml")
    assert _most_jobs(host) == 1000


def test_a_host_goes_back_to_the_version_before(fleet: Fleet) -> None:
    host = fleet.pairs[2][0]
    back: dict[str, Any] = {"joblet_agent_allow_downgrade": True, "joblet_agent_check": False}
    played = fleet.control.play("upgrade.yml", limit([host]), packages=previous_packages(), **back)
    assert played.status == 0
    assert fleet.installed()[host.name] == {f"ii {VERSION}"}
    assert host.run("rnx", "run", "--attach", "echo", "hello").stdout == "hello\n"


def _configure(fleet: Fleet, drop_in: dict[str, Any], *options: str) -> Outcome:
    settings = SETTINGS | {"joblet_agent_drop_ins": {"60-fleet.yml": drop_in}}
    return fleet.control.play("site.yml", *options, packages=build_packages(), **settings)


def _broken(folder: Path) -> list[Path]:
    """Return the packages, of which that of the agent has a script that fails before it is unpacked."""
    agent, rnx = sorted(build_packages())
    control.call(["dpkg-deb", "--raw-extract", str(agent), str(folder / "package")], timeout=60)
    script = folder / "package/DEBIAN/preinst"
    script.write_text("#!/bin/sh\necho broken on purpose >&2\nexit 1\n", encoding="ascii")
    script.chmod(0o755)
    control.call(
        ["dpkg-deb", "--root-owner-group", "--build", str(folder / "package"), str(folder)], timeout=60
    )
    return [folder / agent.name, rnx]


def _most_jobs(machine: Machine) -> int:
    return int(json.loads(machine.run("rnx", "monitor", "status", "--json").stdout)["jobs"]["maxConcurrent"])
