"""A workflow when the host goes down under it, orderly or not."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.testbed.install import TESTS, push_tests
from tests.testbed.vm import VirtualMachine

pytestmark = pytest.mark.vm


def act(vm: VirtualMachine, *words: str) -> Any:
    """Do something with the workflow (tests/vm/workflow.py)."""
    return json.loads(vm.run("python3", "-m", "tests.vm.workflow", *words, cwd=TESTS).stdout)


def go_down(vm: VirtualMachine, *, orderly: bool) -> None:
    if orderly:
        vm.reboot()
        return
    vm.run("sync")  # how soon a record reaches the disk is not promised
    vm.cut_power()
    vm.power_on()


@pytest.mark.parametrize("orderly", [True, False], ids=["reboot", "power cut"])
def test_r7_a_workflow_goes_on_by_its_rules_after_the_host_went_down(
    vm: VirtualMachine, *, orderly: bool
) -> None:
    push_tests(vm)
    workflow_id = act(vm, "start")
    go_down(vm, orderly=orderly)
    found = act(vm, "end", workflow_id)
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
    slices = (
        "systemctl list-units --all --plain --no-legend 'joblet-jobs-*.slice'; ls /var/lib/joblet/workflows"
    )
    assert vm.run("sh", "-c", slices).stdout == ""
