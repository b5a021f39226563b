"""Isolation where no container is around the host: its kernel as it is, and control groups that count."""

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

LAUNCHER = "/usr/lib/joblet/joblet-launch"
CONFIG = "/etc/joblet/agent.d/50-test.yml"
CAPABILITIES = "sed -n 's/^\\(CapEff\\|NoNewPrivs\\|Seccomp\\):.//p' /proc/self/status"


def test_b7_a_job_without_a_filter_of_system_calls_does_not_start(vm: VirtualMachine) -> None:
    """As on a kernel without seccomp, where systemd passes over SystemCallFilter= without a word."""
    done = vm.run(
        *("systemd-run", "--wait", "--pipe", "--collect", "--quiet", "--property=NoNewPrivileges=yes"),
        *("--setenv=JOBLET_ARG_0=/usr/bin/touch", "--setenv=JOBLET_ARG_1=/root/ran"),
        *("--", LAUNCHER, "100001", "100001", "2"),
        check=False,
    )
    assert done.returncode == 125
    assert "0 cannot isolate the job: it has no filter of system calls" in done.stderr
    assert vm.run("test", "-e", "/root/ran", check=False).returncode == 1


def test_a_privileged_job_is_root_with_everything_but_more_than_its_limits(
    vm: VirtualMachine, rnx: Rnx
) -> None:
    vm.run("sh", "-c", f"printf 'profiles:\\n  privileged: true\\n' > {CONFIG}")
    vm.run("systemctl", "restart", "joblet-agent")
    try:
        every = vm.run("sh", "-c", "sed -n 's/^CapBnd:.//p' /proc/1/status").stdout.strip()
        assert rnx.attach("--profile=privileged", "sh", "-c", CAPABILITIES) == (0, f"{every}\n0\n0\n")
        fork = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & wait"
        status, output = rnx.attach("--profile=privileged", "--max-tasks=5", "sh", "-c", fork)
        assert (status, "Cannot fork" in output) == (2, True)
        hidden = "test ! -e /dev/kmsg && test ! -d /sys/class"
        assert rnx.attach("sh", "-c", hidden)[0] == 0
        assert (
            rnx.attach("--profile=privileged", "sh", "-c", "test -c /dev/kmsg && test -d /sys/class")[0] == 0
        )
    finally:
        vm.run("rm", CONFIG)
        vm.run("systemctl", "restart", "joblet-agent")
