"""Figures that need cgroup controllers: memory and block I/O."""

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

MIB = 1 << 20
WORK = """
import os, time
block = bytearray(os.urandom(1 << 20) * 100)
with open("/work/file", "wb") as file:
    file.write(block[: 8 << 20])
    os.fsync(file.fileno())
while time.process_time() < 1.5:
    pass
"""


def test_final_figures_are_what_the_job_used(rnx: Rnx) -> None:
    job = rnx.run("python3", "-I", "-c", WORK)
    rnx.log(job)
    status = rnx.status(job)
    assert status["status"] == "COMPLETED"
    usage = status["usage"]
    assert 1_000_000 < usage["cpuUsec"] < 60_000_000
    assert 100 * MIB < usage["memoryPeak"] < 400 * MIB
    assert usage["diskWriteBytes"] >= 8 * MIB
    assert usage["diskWriteOps"] > 0
    assert not usage["partial"]


def test_a_running_job_shows_its_memory(vm: VirtualMachine, rnx: Rnx) -> None:
    job = rnx.run("python3", "-I", "-c", "import time; b = bytearray(100 << 20); time.sleep(1000)")
    shown = vm.run("timeout", "60", "sh", "-c", f"rnx job metrics {job} | grep -m1 'Current: 1..[.]. MiB'")
    assert "MiB" in shown.stdout
    now = rnx.status(job)["metrics"]
    assert now["memoryBytes"] > now["memoryAnon"] > 100 * MIB
    assert now["memoryKernel"] > 0
    assert now["memoryPeak"] >= now["memoryBytes"]
    vm.run("rnx", "stop", job)
    assert rnx.status(job)["usage"]["memoryPeak"] > 100 * MIB


def test_out_of_memory_tells_the_peak(rnx: Rnx) -> None:
    job = rnx.run("--max-memory=64", "sh", "-c", "head -c 300M /dev/zero | tail")
    rnx.log(job)
    status = rnx.status(job)
    assert (status["status"], status["reason"]) == ("FAILED", "oom-kill")
    assert status["message"] == "out of memory, limit 64 MiB, peak 64 MiB"
    assert status["usage"]["memoryPeak"] >= 64 * MIB
