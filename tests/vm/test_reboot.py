"""Jobs and their records when the host goes down under them."""

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def test_r7_job_that_ran_at_reboot_has_failed_for_that_reason(vm: VirtualMachine, rnx: Rnx) -> None:
    ended = rnx.run("echo", "before")
    assert rnx.log(ended) == "before\n"
    running = rnx.run("sh", "-c", "echo started; exec sleep 100000")
    vm.reboot()
    status = rnx.status(running)
    assert (status["status"], status["reason"]) == ("FAILED", "host-rebooted")
    # Seen by the agent that went down with it, not guessed by the one that came after.
    assert status["message"] == "the host was shut down or rebooted"
    assert rnx.log(running) == "started\n"
    assert rnx.status(ended)["status"] == "COMPLETED"
    assert rnx.log(ended) == "before\n"
    assert rnx.attach("echo", "after") == (0, "after\n")


def test_r7_starts_that_were_missed_during_a_reboot_happen_once(vm: VirtualMachine, rnx: Rnx) -> None:
    later = rnx.run("--schedule=2h30m", "true")
    schedule = rnx.run("--schedule=*:*:0/5", "--name=tick", "true")
    once = rnx.run("--schedule=10s", "echo", "once")
    vm.reboot()
    assert rnx.log(once) == "once\n"
    assert rnx.status(once)["status"] == "COMPLETED"
    assert rnx.status(later)["status"] == "SCHEDULED"
    timers = vm.run("systemctl", "list-timers", "--all", "joblet-*").stdout
    assert f"joblet-job@{later}.timer" in timers
    assert f"joblet-schedule@{schedule}.timer" in timers
    vm.run("rnx", "schedule", "remove", schedule)
    vm.run("rnx", "job", "cancel", later)
    times = [job["scheduled_time"] for job in rnx.jobs() if job.get("schedule_uuid") == schedule]
    assert len(times) >= 1
    assert len(times) == len(set(times))


def test_r7_job_that_ran_at_a_power_cut_has_failed_for_that_reason(vm: VirtualMachine, rnx: Rnx) -> None:
    ended = rnx.run("true")
    rnx.log(ended)
    running = rnx.run("sleep", "100000")
    # What reached the disk is there again; how soon a record does is not promised.
    vm.run("sync")
    vm.cut_power()
    vm.power_on()
    status = rnx.status(running)
    assert (status["status"], status["reason"]) == ("FAILED", "host-rebooted")
    assert rnx.status(ended)["status"] == "COMPLETED"
    assert rnx.attach("echo", "after") == (0, "after\n")
