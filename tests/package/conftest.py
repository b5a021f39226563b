"""A machine for each file of tests and each release, without the project's packages."""

from collections.abc import Iterator

import pytest

from tests.package.host import Host
from tests.testbed import DEBIAN, boot
from tests.testbed.install import build_packages
from tests.testbed.machine import Machine


@pytest.fixture(scope="module", params=DEBIAN, ids=str)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with boot(request.param) as booted:
        yield booted


@pytest.fixture(scope="module")
def administered(machine: Machine) -> Host:
    """The machine, with the packages on its disk."""
    host = Host(machine)
    host.bring(build_packages())
    return host


@pytest.fixture
def host(administered: Host) -> Host:
    """The same, without the agent or anything of it."""
    administered.purge()
    return administered
