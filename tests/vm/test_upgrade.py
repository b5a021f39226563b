"""The packages' life on a host with running jobs. Last: it ends with a purge."""

import pytest

from tests.testbed.install import build_packages, install_package
from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def _main_pid(vm: VirtualMachine, unit: str) -> int:
    return int(vm.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout)


def test_upgrade_restarts_the_agent_and_no_job(vm: VirtualMachine, rnx: Rnx) -> None:
    job = rnx.run("sh", "-c", "echo one; sleep 100000")
    unit = rnx.status(job)["unit"]
    before = _main_pid(vm, "joblet-agent.service"), _main_pid(vm, unit)
    install_package(vm, build_packages("0.1.0+upgrade"))
    after = _main_pid(vm, "joblet-agent.service"), _main_pid(vm, unit)
    assert after[0] not in (0, before[0])
    assert after[1] == before[1]
    assert rnx.status(job)["status"] == "RUNNING"
    vm.run("rnx", "stop", job)
    assert rnx.log(job) == "one\n"


def test_remove_keeps_jobs_and_data_and_purge_takes_them(vm: VirtualMachine, rnx: Rnx) -> None:
    job = rnx.run("sleep", "100000")
    unit = rnx.status(job)["unit"]
    vm.run("dpkg", "--remove", "joblet-agent")
    assert vm.run("systemctl", "is-active", unit).stdout == "active\n"
    vm.run("test", "-e", "/var/lib/joblet/state.db")
    install_package(vm)
    assert rnx.status(job)["status"] == "RUNNING"
    vm.run("dpkg", "--purge", "joblet-agent")
    assert vm.run("systemctl", "is-active", unit, check=False).stdout == "inactive\n"
    for path in ("/var/lib/joblet", "/etc/joblet", "/run/joblet"):
        vm.run("test", "!", "-e", path)
    assert vm.run("systemctl", "list-units", "--all", "--no-legend", "joblet-*").stdout == ""
