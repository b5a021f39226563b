"""Jobs and their records, workflows, schedules, networks and volumes when the host goes down under them.

It goes down twice for all of them, in an orderly way and by a power cut: a boot takes a minute.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.testbed.install import TESTS, push_tests
from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

_DOWN_BY = 90
"""Seconds within which the machine is surely down, on a busy host as well."""

Found = dict[str, Any]


@dataclass(frozen=True)
class Boots:
    """What was there before a boot, and right after it."""

    ended: str
    running: str
    before: Found
    after: Found
    workflow: Found
    timers: str = ""


def lasting(vm: VirtualMachine, *acts: str) -> Found:
    """Do something with networks and volumes (tests/vm/lasting.py)."""
    found: Found = json.loads(vm.run("python3", "-m", "tests.vm.lasting", *acts, cwd=TESTS).stdout)
    return found


def workflow(vm: VirtualMachine, *words: str) -> Any:
    """Do something with the workflow (tests/vm/workflow.py)."""
    return json.loads(vm.run("python3", "-m", "tests.vm.workflow", *words, cwd=TESTS).stdout)


@dataclass(frozen=True)
class Starts:
    """Jobs that are due while the machine is down, every five seconds, and long after it is up again."""

    missed: str
    schedule: str
    later: str
    due: float

    def wait(self) -> None:
        """Let the time pass at which the first is due."""
        assert time.monotonic() < self.due, "the machine took too long to go down for a start that it misses"
        time.sleep(max(self.due + 1 - time.monotonic(), 0))


@pytest.fixture(scope="module")
def starts(vm: VirtualMachine) -> Starts:
    rnx = Rnx(vm)
    later = rnx.run("--schedule=2h30m", "true")
    schedule = rnx.run("--schedule=*:*:0/5", "--name=tick", "--network=none", "true")
    due = time.monotonic() + _DOWN_BY
    return Starts(rnx.run(f"--schedule={_DOWN_BY}s", "echo", "once"), schedule, later, due)


@pytest.fixture(scope="module")
def rebooted(vm: VirtualMachine, request: pytest.FixtureRequest) -> Iterator[Boots]:
    """The machine after it was shut down in an orderly way, and switched on again."""
    rnx = Rnx(vm)
    push_tests(vm)
    before = lasting(vm, "make")
    ended = rnx.run("echo", "before")
    assert rnx.log(ended) == "before\n"
    running = rnx.run("sh", "-c", "echo started; exec sleep 100000")
    waiting = workflow(vm, "start")
    starts: Starts = request.getfixturevalue("starts")  # last: its time runs
    vm.shut_down()
    starts.wait()
    vm.power_on()
    rnx.log(starts.missed)  # until it has ended, with its namespace
    timers = vm.run("systemctl", "list-timers", "--all", "joblet-*").stdout
    vm.run("rnx", "schedule", "remove", starts.schedule)
    done = workflow(vm, "end", waiting)
    yield Boots(ended, running, before, lasting(vm, "look"), done, timers)
    left = lasting(vm, "remove")
    assert (left["volumes"], left["namespaces"]) == ({}, [])
    assert set(left["links"]) == {"joblet0", "joblet-isolated"}
    files = "losetup -a; findmnt | grep volumes; ls /var/lib/joblet/volumes; true"
    assert vm.run("sh", "-c", files).stdout == ""


def test_r7_starts_that_were_missed_during_a_reboot_happen_once(
    rebooted: Boots, starts: Starts, vm: VirtualMachine, rnx: Rnx
) -> None:
    said, job = rnx.log(starts.missed), rnx.status(starts.missed)
    assert (said, job["status"], job.get("reason"), job.get("message")) == ("once\n", "COMPLETED", None, None)
    assert rnx.status(starts.later)["status"] == "SCHEDULED"
    assert f"joblet-job@{starts.later}.timer" in rebooted.timers
    assert f"joblet-schedule@{starts.schedule}.timer" in rebooted.timers
    vm.run("rnx", "job", "cancel", starts.later)
    times = [job["scheduled_time"] for job in rnx.jobs() if job.get("schedule_uuid") == starts.schedule]
    assert len(times) >= 1
    assert len(times) == len(set(times))


def test_r7_job_that_ran_at_reboot_has_failed_for_that_reason(rebooted: Boots, rnx: Rnx) -> None:
    status = rnx.status(rebooted.running)
    assert (status["status"], status["reason"]) == ("FAILED", "host-rebooted")
    # Seen by the agent that went down with it, not guessed by the one that came after.
    assert status["message"] == "the host was shut down or rebooted"
    assert rnx.log(rebooted.running) == "started\n"
    assert rnx.status(rebooted.ended)["status"] == "COMPLETED"
    assert rnx.log(rebooted.ended) == "before\n"
    assert rnx.attach("echo", "after") == (0, "after\n")
    assert rnx.status(rebooted.before["job"])["reason"] == "host-rebooted"


def test_r7_networks_are_as_before_the_reboot_and_jobs_have_left_nothing(rebooted: Boots) -> None:
    for what in ("networks", "links", "rules", "namespaces"):
        assert rebooted.after[what] == rebooted.before[what], what
    names = [network["name"] for network in rebooted.after["networks"]]
    assert {"bridge", "isolated", "kept", "inner"} <= set(names)
    assert rebooted.after["namespaces"] == []


def test_r7_volumes_keep_their_files_over_a_reboot_or_say_that_they_are_empty(
    rebooted: Boots, vm: VirtualMachine
) -> None:
    files, fleeting = (rebooted.after["volumes"][name] for name in ("files", "fleeting"))
    # Jobs end before what they write to is unmounted, so there was nothing to repair.
    assert (files["backing"], files.get("warning")) == ("image", None)
    assert fleeting["warning"] == "it was empty again after a reboot or an unmount: it is memory"
    # The same port again, and no more room than before.
    used = lasting(vm, "use")
    for found in (rebooted.before, used):
        assert found["served"] == found["asked"] == "of-before\n"
    for output, kept in ((rebooted.before["output"], "nothing"), (used["output"], "of-before")):
        from_files, files_full, from_memory, memory_full, *_ = output
        assert (from_files, from_memory) == (kept, "nothing")
        assert 8 <= int(files_full) < int(memory_full) == 16


@pytest.fixture(scope="module")
def cut(vm: VirtualMachine, rebooted: Boots) -> Boots:
    """The machine after a power cut."""
    rnx = Rnx(vm)
    ended = rnx.run("true")
    rnx.log(ended)
    running = lasting(vm, "write")["job"]
    waiting = workflow(vm, "start")
    # What reached the disk is there again; how soon a record does is not promised.
    vm.run("sync")
    vm.cut_power()
    vm.power_on()
    done = workflow(vm, "end", waiting)
    return Boots(ended, running, rebooted.before, lasting(vm, "look", "use"), done)


def test_r7_job_that_ran_at_a_power_cut_has_failed_for_that_reason(cut: Boots, rnx: Rnx) -> None:
    status = rnx.status(cut.running)
    assert (status["status"], status["reason"]) == ("FAILED", "host-rebooted")
    assert rnx.status(cut.ended)["status"] == "COMPLETED"
    assert rnx.attach("echo", "after") == (0, "after\n")


def test_r4_a_volume_is_repaired_after_a_power_cut(cut: Boots) -> None:
    warning = cut.after["volumes"]["files"]["warning"]
    assert warning.endswith("(a crash or power cut); its file system was checked and repaired")
    assert (cut.after["output"][0], cut.after["asked"]) == ("of-before", "of-before\n")


def test_r7_networks_are_as_before_the_power_cut(cut: Boots) -> None:
    for what in ("networks", "links", "rules", "namespaces"):
        assert cut.after[what] == cut.before[what], what


@pytest.mark.parametrize("how", ["rebooted", "cut"])
def test_r7_a_workflow_goes_on_by_its_rules_after_the_host_went_down(
    how: str, request: pytest.FixtureRequest
) -> None:
    found = request.getfixturevalue(how).workflow
    assert found["jobs"] == {
        "before": ["COMPLETED", 1],
        "again": ["COMPLETED", 2],
        "once": ["FAILED", 1],
        "goes-on": ["COMPLETED", 1],
        "cannot": ["CANCELED", 0],
        "instead": ["COMPLETED", 1],
        "tidy": ["COMPLETED", 1],
    }
    assert (found["state"], found["reason"]) == ("FAILED", "host-rebooted")
    assert Counter(found["notes"]) == {
        "again": 2,
        **dict.fromkeys(found["jobs"].keys() - {"again", "cannot"}, 1),
    }
