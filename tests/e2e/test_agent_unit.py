"""The agent's own unit: what it keeps the agent from, and what `systemd-analyze security` says is left."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.agent import Client, command, main_pid, wait_for_agent
from tests.e2e.host import AGENT

pytestmark = [pytest.mark.systemd, pytest.mark.both]

EXPOSURE = 2.3
"""Of 10; why the rest is as it is, says units/joblet-agent.service."""
LEFT = {
    # Only root may manage units and give files away; see the unit.
    "UserOrDynamicUser",
    "PrivateUsers",
    "CapabilityBoundingSet_CAP_SYS_ADMIN",
    "CapabilityBoundingSet_CAP_CHOWN_FSETID_SETFCAP",
    "CapabilityBoundingSet_CAP_DAC_FOWNER_IPC_OWNER",
    "SystemCallFilter_privileged",  # chown and quotactl_fd alone
    # What it starts is the host's, and it tells jobs what the host's is.
    "RootDirectoryOrRootImage",
    "ProtectHostname",
    "ProcSubset",
    # Bus, journal and local sockets; the network listener, whose callers the administrator may limit.
    "PrivateNetwork",
    "IPAddressDeny",
    "RestrictAddressFamilies_AF_INET_INET6",
    "RestrictAddressFamilies_AF_UNIX",
    # Of ProtectClock=: the real time clock, to read; it is not in the agent's /dev.
    "DeviceAllow",
}
CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "SYS_ADMIN": 21}


@pytest.fixture(autouse=True)
def _agent_runs(client: Client) -> None:
    wait_for_agent(client)


def inside(*words: str) -> int:
    """Run a command in the agent's mount namespace and return its exit status."""
    return command("nsenter", "-m", "-t", str(main_pid()), "--", *words, check=False).returncode


def test_the_exposure_of_the_agent() -> None:
    words = ("systemd-analyze", "security", "--no-pager")
    rows = json.loads(command(*words, "--json=short", AGENT, check=False).stdout)
    assert {row["json_field"] for row in rows if float(row["exposure"] or 0) and not row["set"]} == LEFT
    level = re.search(r": ([0-9.]+) ", command(*words, AGENT, check=False).stdout.splitlines()[-1])
    assert level is not None
    assert float(level[1]) == EXPOSURE


def test_the_agent_has_four_capabilities_and_gets_no_others() -> None:
    status = Path(f"/proc/{main_pid()}/status").read_text(encoding="ascii")
    told = dict(re.findall(r"^(\w+):\t(\w+)$", status, re.MULTILINE))
    expected = sum(1 << bit for bit in CAPABILITIES.values())
    assert {told[name] for name in ("CapPrm", "CapEff", "CapBnd")} == {f"{expected:016x}"}
    assert (told["CapAmb"], told["NoNewPrivs"], told["Seccomp"]) == ("0" * 16, "1", "2")


def test_the_agent_writes_to_its_own_places_only() -> None:
    for place in ("/", "/etc", "/usr", "/usr/lib/joblet", "/var/lib", "/var/log", "/boot", "/run/systemd"):
        mark = Path(place, "joblet-was-here")
        status, is_there = inside("touch", str(mark)), mark.exists()
        mark.unlink(missing_ok=True)
        assert (status, is_there) == (1, False), place
    for place in ("/root", "/home"):
        assert inside("sh", "-c", f'[ -z "$(ls -A {place} 2>/dev/null)" ]') == 0, place
    for place in ("/var/lib/joblet", "/run/joblet", "/run/userdb", "/run/systemd/units"):
        assert inside("sh", "-c", f"touch {place}/was-here && rm {place}/was-here") == 0, place


def test_the_agent_sees_its_own_processes_only() -> None:
    options = Path(f"/proc/{main_pid()}/mountinfo").read_text(encoding="utf-8")
    assert re.search(r" /proc \S+ .* proc \S*hidepid=invisible", options)
