"""Ten hosts, five of each release, with the version before; two of them have it from a repository."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fleet.ansible import Control
from tests.fleet.hosts import Count, Fleet
from tests.fleet.repository import offer
from tests.testbed import DEBIAN, Machine, boot
from tests.testbed.install import build_packages
from tests.testbed.previous import previous_packages

HOSTS_OF_EACH_RELEASE = 5


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The hosts, and the machine that manages them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-")))
        releases = [release for release in DEBIAN for _ in range(HOSTS_OF_EACH_RELEASE)]
        machines = [stack.enter_context(boot(release)) for release in releases]
        with_repository = _last_of_each(machines)
        for machine in with_repository:
            offer(machine, [*previous_packages(), *build_packages()])
        hosts = Fleet(machines, Control(folder, machines, with_repository))
        # It knows neither drop-ins nor `joblet-agent check`.
        played = hosts.control.play("site.yml", packages=previous_packages(), joblet_agent_check=False)
        assert played.status == 0
        assert played.hosts == hosts.names
        yield hosts


@pytest.fixture(scope="session")
def counts(fleet: Fleet) -> Iterator[dict[str, Count]]:
    """On each host a job that was started by the version before, and somebody who follows it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="followed-")))
        started = fleet.each(lambda machine: Count(machine, folder))
        for count in started.values():
            stack.callback(count.close)
        yield started


def _last_of_each(machines: list[Machine]) -> list[Machine]:
    return list({machine.release: machine for machine in machines}.values())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the upgrade come first: all have the same hosts."""
    items.sort(key=lambda item: item.path.stem != "test_upgrade")
