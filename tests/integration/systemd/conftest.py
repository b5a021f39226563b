"""These tests have systemd for themselves: the installed agent would not know their units."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.e2e.agent import eventually

AGENT = "joblet-agent.service"


@pytest.fixture(scope="package", autouse=True)
def _no_agent() -> Iterator[None]:
    ran = subprocess.run(["systemctl", "is-active", "--quiet", AGENT], check=False).returncode == 0
    if ran:
        subprocess.run(["systemctl", "stop", AGENT], check=True)
    yield
    if ran:
        subprocess.run(["systemctl", "start", AGENT], check=True)


@pytest.fixture(autouse=True)
def _no_unit_is_left() -> Iterator[None]:
    yield
    try:
        eventually(_listed, lambda units: not units)
    finally:
        for unit in _listed():  # so that the next test is not blamed
            subprocess.run(["systemctl", "kill", "--signal=KILL", unit], check=False)
            subprocess.run(["systemctl", "stop", unit], check=False)
            subprocess.run(["systemctl", "reset-failed", unit], check=False)


def _listed() -> list[str]:
    words = ["systemctl", "list-units", "--all", "--plain", "--no-legend"]
    ours = ["joblet-job-*", "joblet-jobs-*", "joblet-build-*"]
    listed = subprocess.run([*words, *ours], check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in listed.splitlines()]
