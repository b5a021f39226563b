"""Limits that only a host with cgroup controllers enforces."""

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def test_job_over_the_ceiling_of_all_jobs_is_killed_and_says_so(vm: VirtualMachine, rnx: Rnx) -> None:
    vm.run("systemctl", "set-property", "--runtime", "joblet-jobs.slice", "MemoryMax=64M")
    try:
        job = rnx.run("sh", "-c", "head -c 300M /dev/zero | tail")
        rnx.log(job)
        status = rnx.status(job)
        assert (status["status"], status["reason"]) == ("FAILED", "oom-kill")
    finally:
        vm.run("systemctl", "set-property", "--runtime", "joblet-jobs.slice", "MemoryMax=infinity")
