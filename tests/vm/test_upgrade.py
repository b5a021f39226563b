"""The packages' life on a host with running jobs. Last: it ends with a purge.

What needs no limits and no kernel of its own is tried in containers of both releases (tests/package).
"""

import pytest

from tests.package.packages import install, installed
from tests.package.traces import traces
from tests.testbed.install import TESTS, build_packages
from tests.testbed.previous import VERSION, previous_packages
from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

OF_TESTS = (TESTS, "joblet.testbed", "process sh -c", "-printf")
"""Words in the lines of what the tests themselves have in the machine."""

COUNT = "n=0; while :; do n=$((n+1)); echo $n; sleep 0.2; done"


def _main_pid(vm: VirtualMachine, unit: str) -> int:
    return int(vm.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout)


def test_r15_a_limited_job_and_who_follows_it_stand_a_downgrade_and_an_upgrade(
    vm: VirtualMachine, rnx: Rnx
) -> None:
    vm.run(
        "install",
        "-D",
        "/dev/stdin",
        "/etc/joblet/agent.d/10-fleet.yml",
        stdin=b"retention:\n  keep_ended: 50\n",
    )
    job = rnx.run("--max-memory=64M", "sh", "-c", COUNT)
    unit = rnx.status(job)["unit"]
    vm.run("systemd-run", "--unit=follower", "sh", "-c", f"exec rnx log {job} >/root/followed")
    group = f"/sys/fs/cgroup/joblet.slice/joblet-jobs.slice/{unit}"
    agent, pid = (_main_pid(vm, each) for each in ("joblet-agent.service", unit))
    for packages in (previous_packages(), build_packages()):
        install(vm, packages)
        before, agent = agent, _main_pid(vm, "joblet-agent.service")
        assert agent not in (0, before)
        assert _main_pid(vm, unit) == pid
        assert rnx.status(job)["status"] == "RUNNING"
        assert vm.run("cat", f"{group}/memory.max").stdout == f"{64 * 2**20}\n"
        if packages == previous_packages():
            assert installed(vm) == f"installed {VERSION}"
    assert "keep_ended: 50" in vm.run("joblet-agent", "config", "show").stdout
    assert vm.run("dpkg", "--verify", "joblet-agent", "rnx").stdout == ""
    vm.run("rnx", "stop", job)
    vm.run("timeout", "60", "sh", "-c", "while systemctl is-active --quiet follower; do sleep 1; done")
    followed = vm.run("cat", "/root/followed").stdout
    assert followed == rnx.log(job)
    assert followed.split() == [str(number) for number in range(1, len(followed.split()) + 1)]


def test_r15_a_purge_ends_running_jobs_and_leaves_nothing(vm: VirtualMachine, rnx: Rnx) -> None:
    job = rnx.run("--max-memory=64M", "--network=bridge", "sleep", "100000")
    unit = rnx.status(job)["unit"]
    vm.run("dpkg", "--purge", "joblet-agent", "rnx")
    assert vm.run("systemctl", "is-active", unit, check=False).stdout == "inactive\n"
    found = {line for line in traces(vm) if "joblet" in line or "link jb" in line}
    left = {line for line in found if not any(own in line for own in OF_TESTS)}
    staying = {"group joblet", "group joblet-build", "user joblet-build"}
    assert {line.partition(":")[0] for line in left} == staying
