"""The unit of a command in a job: what of the job's unit is its own, and what the launcher needs to join."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.jobs.paths import ExecPaths
from joblet_agent.model.execution import TerminalSize
from joblet_agent.model.profile import Profile
from joblet_agent.ports import ExecPlan, LaunchPlan
from joblet_agent.systemd.exec_units import exec_properties
from joblet_agent.systemd.properties import unit_properties
from tests.unit.systemd.plans import RELEASES, WORKFLOW, WORKFLOW_SLICE, plan, settings

CAPABILITIES = {5: "KILL", 6: "SETGID", 7: "SETUID", 8: "SETPCAP", 18: "SYS_CHROOT", 21: "SYS_ADMIN"}


def both(
    version: int, profile: Profile = Profile.DEFAULT, of: LaunchPlan | None = None, **fields: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the job's properties and the command's, by name."""
    job = replace(of or plan("prog", "$x"), profile=profile)
    paths = ExecPaths(Path("/run/x"))
    command = ExecPlan("id", job, paths.output, paths.errors, paths.report, paths.orders, **fields)
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
    assert "$x" not in str(command)


def test_where_input_comes_from_and_output_goes() -> None:
    _, command = both(257)
    assert (command["StandardInput"], command["StandardOutputFileToAppend"]) == ("null", "/run/x/out")
    _, command = both(257, input=Path("/run/x/in"), terminal=TerminalSize(24, 80))
    assert (command["StandardInput"], command["StandardOutput"]) == ("null", "null")
    assert "StandardOutputFileToAppend" not in command


def test_a_command_in_a_privileged_job_is_as_privileged() -> None:
    job, command = both(257, Profile.PRIVILEGED)
    for name in ("NoNewPrivileges", "SystemCallFilter", "CapabilityBoundingSet", "RestrictNamespaces"):
        assert name not in job
        assert name not in command


def test_a_command_in_a_job_of_a_workflow_is_in_its_slice() -> None:
    job, command = both(257, of=replace(plan("prog"), workflow_id=WORKFLOW))
    assert job["Slice"] == command["Slice"] == WORKFLOW_SLICE
