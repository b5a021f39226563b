"""Upgrades that fail: what was there goes on, and the next one succeeds (R15)."""

from collections.abc import Iterator

import pytest

from joblet_agent import __version__
from tests.package.load import Load, at_work
from tests.package.packages import another_version, install, installed
from tests.testbed.install import build_packages
from tests.testbed.machine import Machine

pytestmark = pytest.mark.package

FAILING = "#!/bin/sh\nexit 1\n"
CODE = "/usr/lib/python3/dist-packages/joblet_agent"
# The code's directory on a file system of its own, with next to nothing free, also once byte code is removed.
FILL = f"""
cp -a {CODE} /root/code
find /root/code -name __pycache__ -prune -exec rm -r {{}} +
mount -t tmpfs -o size=$(($(du -sk /root/code | cut -f1) + 200))k code {CODE}
cp -a /root/code/. {CODE}/
"""


@pytest.fixture(scope="module")
def load(machine: Machine) -> Iterator[Load]:
    install(machine, build_packages())
    with at_work(machine) as load:
        yield load


def fails(load: Load, version: str, scripts: dict[str, str]) -> str:
    with another_version(version, scripts) as packages:
        status, said = install(load.machine, packages, check=False)
    assert status != 0
    assert load.machine.run("systemctl", "is-active", "joblet-agent").stdout == "active\n"
    load.check()
    return said


def succeeds(load: Load, version: str, scripts: dict[str, str] | None = None) -> None:
    with another_version(version, scripts) as packages:
        install(load.machine, packages)
    assert installed(load.machine) == f"installed {version}"
    assert load.machine.run("dpkg", "--verify", "joblet-agent", "rnx").stdout == ""
    load.check()


def test_r15_a_package_that_refuses_to_be_unpacked_leaves_the_old_one(load: Load) -> None:
    fails(load, "0.3.1", {"preinst": FAILING})
    assert installed(load.machine) == f"installed {__version__}"


def test_r15_a_full_disk_leaves_the_old_one_and_with_space_the_next_is_installed(load: Load) -> None:
    load.machine.run("sh", "-ec", FILL)
    try:
        said = fails(load, "0.3.2", {})
    finally:
        load.machine.run("sh", "-ec", f"umount {CODE}; rm -r /root/code")
    assert "No space left on device" in said
    # Of the old one there is everything but byte code, for which there was no space either.
    assert installed(load.machine).split()[0] in {"installed", "unpacked"}
    assert installed(load.machine).split()[1] == __version__
    succeeds(load, "0.3.3")


def test_r15_jobs_go_on_under_a_package_that_cannot_be_configured_until_the_next(load: Load) -> None:
    fails(load, "0.3.4", {"postinst": FAILING})
    assert installed(load.machine) == "half-configured 0.3.4"
    succeeds(load, "0.3.5", {"prerm": FAILING})


def test_r15_a_prerm_that_fails_is_made_up_for_by_the_next_one(load: Load) -> None:
    succeeds(load, "0.3.6")
    load.finish()
