"""The unit of a command in a job: what of the job's unit is its own, and what the launcher needs to join."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.model.profile import Profile
from joblet_agent.ports import ExecPlan
from joblet_agent.systemd.exec_units import exec_properties
from joblet_agent.systemd.properties import unit_properties
from tests.unit.systemd.plans import RELEASES, plan, settings

CAPABILITIES = {5: "KILL", 6: "SETGID", 7: "SETUID", 8: "SETPCAP", 18: "SYS_CHROOT", 21: "SYS_ADMIN"}


def both(version: int, profile: Profile = Profile.DEFAULT) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the job's properties and the command's, by name."""
    job = replace(plan("prog", "$x"), profile=profile)
    command = ExecPlan("id", job, Path("/run/x/out"), Path("/run/x/err"), Path("/run/x/report"))
    return (
        {entry.name: entry.value for entry in unit_properties(job, settings(version))},
        {entry.name: entry.value for entry in exec_properties(command, settings(version))},
    )


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("profile", [Profile.DEFAULT, Profile.STRICT])
def test_a_command_is_kept_as_its_job_is(version: int, profile: Profile) -> None:
    job, command = both(version, profile)
    same = [name for name in command if name in job and command[name] == job[name]]
    assert {
        "NoNewPrivileges",
        "RestrictAddressFamilies",
        "RestrictRealtime",
        "RestrictSUIDSGID",
        "SystemCallArchitectures",
        "SystemCallErrorNumber",
        "LockPersonality",
        "KeyringMode",
        "LimitCORE",
        "Slice",
        "UMask",
    } <= set(same)
    if profile is Profile.STRICT:
        assert "MemoryDenyWriteExecute" in same


@pytest.mark.parametrize("profile", [Profile.DEFAULT, Profile.STRICT])
def test_the_launcher_may_join_and_nothing_else(profile: Profile) -> None:
    job, command = both(257, profile)
    is_allowed, calls = command["SystemCallFilter"]
    is_allowed_in_job, calls_of_job = job["SystemCallFilter"]
    assert is_allowed == is_allowed_in_job
    assert set(calls) ^ set(calls_of_job) == {"setns", "chroot"}
    mask = command["CapabilityBoundingSet"]
    assert {bit for bit in range(64) if mask >> bit & 1} == set(CAPABILITIES)
    assert not command["RestrictNamespaces"] & (0x1000_0000 | 0x0200_0000)  # user, cgroup


def test_a_command_has_no_mounts_and_no_limits_of_its_own() -> None:
    _, command = both(257)
    assert not {name for name in command if "Path" in name or "Mount" in name or name.startswith("Private")}
    assert not {"TasksMax", "MemoryMax", "RootDirectory", "TemporaryFileSystem"} & set(command)
    assert command["ExecStart"][0][1][1:4] == ["100001", "100001", "2"]
    assert command["ExecStart"][0][1][-1] == "join"
    assert "$x" not in str(command)
