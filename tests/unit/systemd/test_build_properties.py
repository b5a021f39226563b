"""Units of builds' steps: what each kind may do, and that nothing else is the host's."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, StepKind
from joblet_agent.systemd.build_properties import HOST_DIRECTORIES, HOST_FILES, HOST_LINKS, step_properties

PLACE = BuildPlace("abc", Path("/state/builds/abc"))
STEP = BuildStep(
    name="pip",
    kind=StepKind.TREE,
    place=PLACE,
    script="exit",
    environment={"TOKEN": "secret word"},
    deadline=timedelta(minutes=3),
)
RELEASES = [252, 255, 257]
KINDS = list(StepKind)


def properties(kind: StepKind, version: int = 257, **fields: Any) -> dict[str, Any]:
    step = replace(STEP, kind=kind, **fields)
    found = step_properties(step, Path("/state/environment"), version)
    assert len({entry.name for entry in found}) == len(found)
    return {entry.name: entry.value for entry in found}


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_step_has_a_capability_or_a_secret_in_its_properties_or_outlives_its_stop(
    kind: StepKind, version: int
) -> None:
    found = properties(kind, version)
    assert "secret word" not in repr(found)
    assert (found["KillMode"], found["KillSignal"]) == ("control-group", 9)
    assert found["RuntimeMaxUSec"] == 180_000_000
    assert found["Slice"] == "joblet-builds.slice"
    assert found["ProtectSystem"] == "strict"
    assert found["PrivateDevices"]
    assert found["RestrictAddressFamilies"] == [True, ["AF_INET", "AF_INET6", "AF_NETLINK"]]
    assert {"User", "CapabilityBoundingSet"} & found.keys()
    assert "AmbientCapabilities" not in found


def test_what_installs_packages_has_exactly_what_newuidmap_takes_up() -> None:
    found = properties(StepKind.PACKAGES)
    bits = {bit for bit in range(41) if found["CapabilityBoundingSet"] >> bit & 1}
    assert bits == {1, 6, 7, 21}  # DAC_OVERRIDE, SETGID, SETUID, SYS_ADMIN
    assert not found["NoNewPrivileges"]
    assert "User" not in found  # 252 would not let newuidmap be what it is
    (command,) = found["ExecStart"]
    assert command[1][:5] == [
        "/usr/bin/setpriv",
        "--reuid=joblet-build",
        "--regid=joblet-build",
        "--clear-groups",
        "--inh-caps=-all",
    ]
    # What would lie over parts of /proc: no namespace could mount its own.
    hiding = {"ProtectProc", "ProcSubset", "ProtectKernelTunables", "ProtectKernelLogs", "InaccessiblePaths"}
    assert hiding & found.keys() == set()


def test_what_installs_packages_sees_programs_of_the_host_and_no_state_of_it() -> None:
    found = properties(StepKind.PACKAGES)
    assert found["RootDirectory"] == "/state/builds/abc/host"
    shown = {entry[0] for entry in found["BindReadOnlyPaths"]}
    assert shown == {"/usr", *HOST_FILES, "/state/builds/abc/inputs/pip"}
    assert found["BindPaths"] == [["/state/builds/abc/space", "/space", False, 0]]
    assert found["ReadWritePaths"] == ["+/space"]
    secrets = ("shadow", "gshadow", "joblet", "ssl/private", "apt", "ssh", "machine-id")
    assert not [name for name in HOST_FILES if name.startswith(tuple(f"/etc/{each}" for each in secrets))]
    # Each has a place to be mounted at in the skeleton: a directory above it.
    places = {"", *(f"/{name}" for name in HOST_DIRECTORIES)}
    assert {name.rpartition("/")[0] for name in HOST_FILES} <= places
    assert all(f"/{name}".rpartition("/")[0] in places for name in HOST_LINKS)


@pytest.mark.parametrize("is_writable", [True, False])
def test_what_runs_in_the_tree_is_nobody_and_writes_where_it_may(is_writable: bool) -> None:
    found = properties(StepKind.TREE, is_writable=is_writable)
    assert (found["User"], found["CapabilityBoundingSet"], found["NoNewPrivileges"]) == (
        "joblet-build",
        0,
        True,
    )
    assert found["RootDirectory"] == "/state/builds/abc/space/tree"
    assert found["ReadWritePaths"] == [*(["+/opt/runtime"] if is_writable else []), "+/run/joblet-out"]
    assert found["RestrictNamespaces"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_can_be_taken_away_and_a_certificate_given(kind: StepKind) -> None:
    assert not properties(kind)["PrivateNetwork"]
    found = properties(kind, network=False, ca_file=Path("/etc/company.pem"))
    assert found["PrivateNetwork"]
    assert ["/etc/company.pem", "/run/joblet-build.crt", False, 0] in found["BindReadOnlyPaths"]


def test_only_properties_that_this_systemd_knows_are_told() -> None:
    assert "BindLogSockets" not in properties(StepKind.TREE, 252)
    assert "BindLogSockets" in properties(StepKind.TREE, 257)


@pytest.mark.parametrize("kind", KINDS)
def test_no_property_loses_the_status_of_a_step(kind: StepKind) -> None:
    assert "PrivatePIDs" not in properties(kind, 257)
