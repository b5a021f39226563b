"""One virtual machine for all tests here, with the project's packages installed.

$JOBLET_TEST_VM names its release; the default is the newest.
"""

import os
from collections.abc import Iterator

import pytest

from tests.testbed import Release
from tests.testbed.install import install_package
from tests.testbed.vm import VirtualMachine, boot_vm
from tests.vm.rnx import Rnx


@pytest.fixture(scope="session")
def vm() -> Iterator[VirtualMachine]:
    with boot_vm(Release(os.environ.get("JOBLET_TEST_VM", Release.TRIXIE.value))) as booted:
        install_package(booted)
        yield booted


@pytest.fixture
def rnx(vm: VirtualMachine) -> Rnx:
    return Rnx(vm)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests that take the package away come last: all have one machine."""
    items.sort(key=lambda item: item.path.stem == "test_upgrade")
