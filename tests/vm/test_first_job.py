import json

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def test_first_job_runs_and_its_output_is_read_back(rnx: Rnx) -> None:
    job = rnx.run("echo", "Hello, Joblet!")
    assert rnx.log(job) == "Hello, Joblet!\n"
    assert rnx.status(job)["status"] == "COMPLETED"


def test_attached_job_gives_its_output_and_exit_status(rnx: Rnx) -> None:
    assert rnx.attach("sh", "-c", "echo out; exit 7") == (7, "out\n")


def test_check_finds_this_host_fit_with_everything_that_jobs_are_limited_by(vm: VirtualMachine) -> None:
    done = vm.run("joblet-agent", "check", "--json", check=False)
    told = json.loads(done.stdout)
    results = {each["id"]: each["result"] for each in told["findings"]}
    assert (told["fit"], done.returncode) == (True, 0), done.stdout
    assert told["counts"]["unknown"] == 0, done.stdout
    for name in ("CPU", "CPUSET", "IO", "MEMORY", "PIDS"):
        assert results[f"CGROUP_CONTROLLER_{name}"] == "ok"
    for name in ("KERNEL_NETWORKS", "KERNEL_BANDWIDTH", "KERNEL_IMAGES", "DISK_IO_LIMITS", "AGENT_SERVICE"):
        assert results[name] == "ok"
    # What Debian comes without.
    assert {results[name] for name in ("DISK_QUOTAS", "DISK_IO_WEIGHT")} == {"warning"}
