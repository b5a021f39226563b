"""Promises of the unit's properties. What they do is looked at in tests/integration/systemd."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from joblet_agent.jobs.limits import FIXED_AT_START, LIMITS
from joblet_agent.model.resources import Resources
from joblet_agent.ports import LaunchPlan
from joblet_agent.systemd.limits import ceilings_of, limit_properties
from joblet_agent.systemd.properties import LAUNCHER, unit_properties
from joblet_agent.systemd.property import Property
from tests.unit.systemd.plans import JOB, RELEASES, plan, settings

HOSTILE = (
    "$X",
    "${X}",
    "$$",
    "%n",
    "%%",
    "-x",
    "@x",
    "+",
    "!",
    ";",
    "a;b",
    '"',
    "'",
    "\n",
    "\\",
    "",
    "ü",
    " ",
)


def properties(of: LaunchPlan, version: int = 257) -> dict[str, Any]:
    return {entry.name: entry.value for entry in unit_properties(of, settings(version))}


def marshalled(entries: list[Property]) -> bytes:
    body: list[Any] = ["x.service", "fail", [[e.name, Variant(e.signature, e.value)] for e in entries], []]
    message = Message(
        destination="a.b", path="/", interface="a.b", member="M", signature="ssa(sv)a(sa(sv))", body=body
    )
    message.message_type = MessageType.METHOD_CALL
    message.serial = 1
    return bytes(message._marshall())  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("version", RELEASES)
def test_every_property_has_the_type_it_says(version: int) -> None:
    for entry in unit_properties(plan("echo", *HOSTILE), settings(version)):
        assert marshalled([entry]), entry.name


@pytest.mark.parametrize("version", RELEASES)
def test_every_property_is_there_once_and_says_where_it_comes_from(version: int) -> None:
    entries = unit_properties(plan(), settings(version))
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names))
    assert all(entry.origin and entry.manual.endswith(")") for entry in entries)


@pytest.mark.parametrize("version", RELEASES)
def test_no_variable_of_the_job_is_in_any_property(version: int) -> None:
    """Every local user reads properties."""
    secret = {"API_TOKEN": "s3cr3t-value", "OTHER": "0th3r-value"}
    told = marshalled(unit_properties(plan("env", environment=secret), settings(version)))
    for word in (*secret, *secret.values()):
        assert word.encode() not in told


@pytest.mark.parametrize("version", RELEASES)
def test_no_word_of_the_command_is_in_any_property(version: int) -> None:  # A7
    """What travels in ExecStart= is changed or lost by a reload at the wrong moment."""
    of = plan("the-command", "an-argument", *HOSTILE)
    assert properties(of, version)["ExecStart"] == [
        [LAUNCHER, [LAUNCHER, "100001", "100001", str(2 + len(HOSTILE))], False]
    ]
    told = marshalled(unit_properties(of, settings(version)))
    assert b"the-command" not in told
    assert b"an-argument" not in told


@pytest.mark.parametrize("version", RELEASES)
def test_the_result_stays_until_it_is_stored(version: int) -> None:
    values = properties(plan(), version)
    assert (values["Type"], values["RemainAfterExit"]) == ("exec", True)
    assert values["Slice"] == "joblet-jobs.slice"


@pytest.mark.parametrize("version", RELEASES)
def test_no_control_command_runs_with_rights_the_job_has_not(version: int) -> None:
    started = {name for name in properties(plan(), version) if name.startswith("Exec")}
    assert len(started) == 1


@pytest.mark.parametrize("version", RELEASES)
def test_the_sandbox(version: int) -> None:
    values = properties(plan(), version)
    for name in ("NoNewPrivileges", "PrivateNetwork", "PrivateIPC", "ProtectHostname", "PrivateDevices"):
        assert values[name] is True, name
    assert values["RestrictSUIDSGID"] is True
    assert values["SystemCallArchitectures"] == ["native"]
    assert values["SystemCallFilter"][0] is False
    assert {"bpf", "io_uring_setup", "userfaultfd", "@module", "@keyring"} <= set(
        values["SystemCallFilter"][1]
    )
    assert values["RestrictAddressFamilies"] == [True, ["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]]
    assert values["CapabilityBoundingSet"] == 1 << 6 | 1 << 7 | 1 << 8 | 1 << 21
    assert values["StandardInput"] == "null"


@pytest.mark.parametrize("version", RELEASES)
def test_what_a_job_can_write_to(version: int) -> None:
    values = properties(plan(), version)
    assert values["RootDirectory"] == "/run/joblet/root"
    assert values["ProtectSystem"] == "strict"
    assert [bind[1] for bind in values["BindPaths"]] == ["/work"]
    assert values["ReadWritePaths"] == ["+/work"]
    for _target, options in values["TemporaryFileSystem"]:
        assert {f"size={1 << 30}", "nosuid", "nodev"} <= set(options.split(","))


def limited(**limits: Any) -> LaunchPlan:
    of = plan()
    resources = Resources(**limits)
    return replace(of, spec=replace(of.spec, resources=resources), disks=(Path("/usr"), Path("/w")))


LIMITED = {
    "cpu": ({"max_cpu": 250}, {"CPUQuotaPerSecUSec": 2_500_000}),
    "memory": ({"max_memory": 64 << 20}, {"MemoryMax": 64 << 20, "MemorySwapMax": 0}),
    "io": (
        {"max_io_bps": 5000},
        {
            "IOReadBandwidthMax": [["/usr", 5000], ["/w", 5000]],
            "IOWriteBandwidthMax": [["/usr", 5000], ["/w", 5000]],
        },
    ),
    "cores": ({"cpu_cores": "0-1,9"}, {"AllowedCPUs": b"\x03\x02"}),
    "time": ({"timeout": timedelta(seconds=1.5)}, {"RuntimeMaxUSec": 1_500_000}),
    "nice": ({"nice": 7}, {"Nice": 7}),
    "weights": ({"cpu_weight": 7, "io_weight": 8}, {"CPUWeight": 7, "IOWeight": 8}),
}


@pytest.mark.parametrize("version", RELEASES)
@pytest.mark.parametrize(("limits", "added"), LIMITED.values(), ids=LIMITED)
def test_a_limit_that_is_set_is_a_property_and_no_other_is(
    version: int, limits: dict[str, Any], added: dict[str, Any]
) -> None:
    before = properties(plan(), version)
    assert properties(limited(**limits), version) == before | added
    for entry in unit_properties(limited(**limits), settings(version)):
        assert marshalled([entry]), entry.name


def test_the_task_limit_is_the_one_of_the_job() -> None:
    assert properties(limited(max_tasks=9))["TasksMax"] == 9


def test_a_change_says_infinity_for_what_is_not_set() -> None:
    infinity = 2**64 - 1
    names = [name for name in LIMITS if name not in FIXED_AT_START]
    changed = limit_properties(Resources(), (Path("/usr"),), names)
    assert {entry.name: entry.value for entry in changed} == {
        "CPUQuotaPerSecUSec": infinity,
        "AllowedCPUs": b"",
        "MemoryMax": infinity,
        "MemorySwapMax": infinity,
        "IOReadBandwidthMax": [["/usr", infinity]],
        "IOWriteBandwidthMax": [["/usr", infinity]],
        "TasksMax": infinity,
        "CPUWeight": infinity,
        "IOWeight": infinity,
    }
    assert marshalled(changed)


def test_ceilings_are_told_in_the_spelling_of_unit_files() -> None:
    infinity = 2**64 - 1
    read = {
        "MemoryMax": 8 << 30,
        "CPUQuotaPerSecUSec": 1_500_000,
        "TasksMax": infinity,
        "AllowedCPUs": b"\x05",
    }
    read |= {"IOReadBandwidthMax": [["/dev/sda", 1000]], "IOWriteBandwidthMax": [], "MemoryHigh": infinity}
    assert ceilings_of(read) == {
        "CPUQuota": "150%",
        "AllowedCPUs": "0,2",
        "MemoryMax": "8GiB",
        "IOReadBandwidthMax": "/dev/sda 1000",
    }


def test_limits_come_from_the_configuration() -> None:
    values = properties(plan())
    assert (values["TimeoutStopUSec"], values["TasksMax"]) == (10_000_000, 4096)
    assert (values["KillMode"], values["OOMPolicy"]) == ("control-group", "kill")


def test_the_sockets_of_journald_are_kept_out_where_systemd_would_mount_them() -> None:
    assert properties(plan(), 257)["BindLogSockets"] is False
    assert "BindLogSockets" not in properties(plan(), 255)


@pytest.mark.parametrize(
    ("hook", "unit"),
    [
        ("tell@.service", f"tell@{JOB}.service"),
        ("tell.service", "tell.service"),
        ("a@b.service", "a@b.service"),
    ],
)
def test_a_hook_is_started_by_systemd_when_the_unit_fails(hook: str, unit: str) -> None:
    with_hook = replace(settings(257), on_failure=hook)
    assert {entry.name: entry.value for entry in unit_properties(plan(), with_hook)}["OnFailure"] == [unit]


def test_without_a_hook_nothing_is_started() -> None:
    assert "OnFailure" not in {entry.name for entry in unit_properties(plan(), settings(257))}
