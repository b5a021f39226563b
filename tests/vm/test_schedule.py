"""Schedules when the clock of the host jumps: attack case C7."""

import json
import time
from datetime import datetime
from typing import Any

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm


def starts(rnx: Rnx, schedule: str) -> list[str]:
    return sorted(job["scheduled_time"] for job in rnx.jobs() if job.get("schedule_uuid") == schedule)


def shown(vm: VirtualMachine, schedule: str) -> dict[str, Any]:
    return dict(json.loads(vm.run("rnx", "schedule", "show", schedule, "--json").stdout))


def jump(vm: VirtualMachine, by: str) -> None:
    vm.run("date", "--set", by)


def test_c7_a_clock_that_jumps_by_an_hour_neither_loses_nor_repeats_a_start(
    vm: VirtualMachine, rnx: Rnx
) -> None:
    once = rnx.run("--schedule=30min", "echo", "once")
    # Ten minutes away: whether the hour jumps over it, and not the test's own time, is what counts.
    minute = (int(vm.run("date", "+%M").stdout) + 10) % 20
    schedule = rnx.run(f"--schedule=*:{minute}/20", "true")
    first = shown(vm, schedule)["next_time"]
    jump(vm, "+1 hour")
    try:
        assert rnx.log(once) == "once\n"
        deadline = time.monotonic() + 60
        while not starts(rnx, schedule):
            assert time.monotonic() < deadline
            time.sleep(1)
        assert starts(rnx, schedule) == [first]  # one for all that the jump left out
        after = shown(vm, schedule)["next_time"]
        assert datetime.fromisoformat(after) > datetime.fromisoformat(first)
    finally:
        jump(vm, "-1 hour")
    assert rnx.status(once)["status"] == "COMPLETED"
    time.sleep(3)
    assert starts(rnx, schedule) == [first]
    assert shown(vm, schedule)["next_time"] == after
    vm.run("rnx", "schedule", "remove", schedule)
