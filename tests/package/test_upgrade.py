"""Upgrades and downgrades of a host at work: no job, client or start notices (R15, R5)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from joblet_agent import __version__
from tests.package.load import Load, at_work
from tests.package.packages import install, installed
from tests.testbed.install import build_packages
from tests.testbed.machine import Machine
from tests.testbed.previous import VERSION, previous_packages

pytestmark = pytest.mark.package

DROP_IN = "/etc/systemd/system/joblet-agent.service.d/override.conf"
FLEET = "/etc/joblet/agent.d/10-fleet.yml"
# What must be as it was, byte for byte.
KEPT = f"sha256sum /etc/joblet/agent.yml {FLEET} {DROP_IN} $(find /etc/joblet/pki -type f | sort)"


@pytest.fixture(scope="module")
def load(machine: Machine) -> Iterator[Load]:
    """The version before, configured by hand and at work."""
    install(machine, previous_packages())
    machine.run("sh", "-ec", "echo '# ours' >>/etc/joblet/agent.yml; joblet-agent pki init")
    for path, text in (
        (FLEET, "retention:\n  keep_ended: 5000\n"),
        (DROP_IN, "[Service]\nEnvironment=OURS=1\n"),
    ):
        machine.run("install", "-D", "-m", "644", "/dev/stdin", path, stdin=text.encode())
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "joblet-agent")
    with at_work(machine) as load:
        yield load


def change_to(load: Load, packages: list[Path], version: str) -> None:
    machine = load.machine
    before = machine.run("sh", "-ec", KEPT).stdout
    install(machine, packages)
    assert installed(machine) == f"installed {version}"
    assert machine.run("systemctl", "is-active", "joblet-agent", "joblet-networks").stdout == "active\n" * 2
    assert "OURS=1" in machine.run("systemctl", "show", "-P", "Environment", "joblet-agent").stdout
    assert machine.run("sh", "-ec", KEPT).stdout == before
    # Of what the packages brought nothing is changed but the configuration that was changed before.
    changed = machine.run("dpkg", "--verify", "joblet-agent", "rnx").stdout.splitlines()
    assert [line.split()[1:] for line in changed] == [["c", "/etc/joblet/agent.yml"]]
    load.check()


def test_r15_an_upgrade_from_the_version_before_reaches_no_job_client_or_start(load: Load) -> None:
    change_to(load, build_packages(), __version__)
    assert "keep_ended: 5000" in load.machine.run("joblet-agent", "config", "show").stdout
    load.start_workflow()


def test_r5_the_version_before_takes_over_from_this_one_with_all_it_had(load: Load) -> None:
    change_to(load, previous_packages(), VERSION)
    load.end_short()


def test_r15_back_to_this_version_the_clients_have_seen_every_byte_once(load: Load) -> None:
    change_to(load, build_packages(), __version__)
    load.check_workflow()
    load.finish()


def test_r15_a_second_installation_of_the_same_changes_nothing(load: Load) -> None:
    machine = load.machine
    before = machine.run("systemctl", "show", "-P", "MainPID", "joblet-agent").stdout
    _, said = install(machine, build_packages())
    assert "0 upgraded, 0 newly installed, 0 to remove" in said
    assert machine.run("systemctl", "show", "-P", "MainPID", "joblet-agent").stdout == before
