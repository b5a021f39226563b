"""These tests have systemd for themselves: the installed agent would not know their units."""

import subprocess
from collections.abc import Iterator

import pytest

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
    listed = subprocess.run(
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-job-*"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    for line in listed:  # so that the next test is not blamed
        subprocess.run(["systemctl", "kill", "--signal=KILL", line.split()[0]], check=False)
        subprocess.run(["systemctl", "stop", line.split()[0]], check=False)
        subprocess.run(["systemctl", "reset-failed", line.split()[0]], check=False)
    assert listed == []
