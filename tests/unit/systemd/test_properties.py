"""Promises of the unit's properties. What they do is looked at in tests/integration/systemd."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dbus_next.constants import MessageType
from dbus_next.message import Message
from dbus_next.signature import Variant

from joblet_agent.config import AgentConfig, HooksConfig
from joblet_agent.jobs.limits import FIXED_AT_START, LIMITS
from joblet_agent.model.resources import Resources
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.ports import LaunchPlan, PlacedVolume
from joblet_agent.systemd.limits import ceilings_of, limit_properties
from joblet_agent.systemd.properties import LAUNCHER, UnitSettings, launcher_words, unit_properties
from joblet_agent.systemd.property import Property
from tests.unit.systemd.plans import JOB, RELEASES, WORKFLOW, WORKFLOW_SLICE, plan, settings

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
    assert properties(of, version)["ExecStart"] == [[LAUNCHER, [LAUNCHER], False]]
    told = marshalled(unit_properties(of, settings(version)))
    assert b"the-command" not in told
    assert b"an-argument" not in told


@pytest.mark.parametrize("version", RELEASES)
def test_the_result_stays_until_it_is_stored(version: int) -> None:
    values = properties(plan(), version)
    assert (values["Type"], values["RemainAfterExit"]) == ("exec", True)
    assert values["Slice"] == "joblet-jobs.slice"


@pytest.mark.parametrize(
    ("name", "shown"), [("x y\\", "x y"), ("x \\ \\\\", "x"), ("\\x41", "\\x41"), ("\\", ""), ("", "")]
)
def test_a5_a_name_takes_no_other_setting_in(name: str, shown: str) -> None:
    values = properties(replace(plan(), spec=replace(plan().spec, name=name)), 257)
    assert values["Description"] == f"Joblet job {shown or JOB[:8]}"
    assert values["SyslogIdentifier"] == (shown or "joblet")


@pytest.mark.parametrize("version", RELEASES)
def test_jobs_of_a_workflow_are_in_its_slice(version: int) -> None:
    values = properties(replace(plan(), workflow_id=WORKFLOW), version)
    assert values["Slice"] == WORKFLOW_SLICE
    (group,) = [source for source, target, *_ in values["BindReadOnlyPaths"] if target == "/mnt"]
    assert group.endswith(f"/joblet.slice/joblet-jobs.slice/{WORKFLOW_SLICE}/joblet-job-{JOB}.service")


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


@pytest.mark.parametrize("version", RELEASES)
def test_b4_every_memory_file_system_of_a_job_has_room_for_so_many_files_only(version: int) -> None:
    of = plan()
    spec = replace(of.spec, resources=Resources(work_size=1 << 20), work_in_memory=True)
    values = properties(replace(of, spec=spec), version)
    files = {
        target: [option for option in options.split(",") if option.startswith("nr_inodes=")]
        for target, options in values["TemporaryFileSystem"]
    }
    usual = [f"nr_inodes={(1 << 30) // (16 << 10)}"]
    assert files == {"/tmp": usual, "/dev/shm": usual, "/work": ["nr_inodes=1024"]}


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
    with_hook = UnitSettings(AgentConfig(hooks=HooksConfig(hook)), 257)
    assert {entry.name: entry.value for entry in unit_properties(plan(), with_hook)}["OnFailure"] == [unit]


def test_without_a_hook_nothing_is_started() -> None:
    assert "OnFailure" not in {entry.name for entry in unit_properties(plan(), settings(257))}


def test_a_job_sees_the_resolver_of_its_network() -> None:
    launched = replace(plan(), resolver=Path("/run/joblet/dns/bridge/resolv.conf"))
    (binds,) = [each for each in unit_properties(launched, settings(257)) if each.name == "BindReadOnlyPaths"]
    assert binds.value[-1] == ["/run/joblet/dns/bridge/resolv.conf", "/etc/resolv.conf", True, 0]  # type: ignore[index]
    (plain,) = [each for each in unit_properties(plan(), settings(257)) if each.name == "BindReadOnlyPaths"]
    assert "/etc/resolv.conf" not in str(plain.value)


def with_volumes(*volumes: tuple[str, bool]) -> LaunchPlan:
    placed = tuple(
        PlacedVolume(Path(f"/v/{number}"), target, is_read_only)
        for number, (target, is_read_only) in enumerate(volumes)
    )
    return replace(plan(), volumes=placed, groups=(70_000, 70_001))


@pytest.mark.parametrize("version", RELEASES)
def test_volumes_are_mounted_where_nobody_else_sees_them(version: int) -> None:
    told = properties(
        with_volumes(("/volumes/a", False), ("/data", True), ("/var/lib/db", False), ("/srv/x/y", True)),
        version,
    )
    assert told["BindPaths"] == [
        [str(plan().work), "/work", False, 0],
        ["/v/0", "/volumes/a", False, 0],
        ["/v/2", "/var/lib/db", False, 0],
    ]
    assert ["/v/1", "/data", False, 0] in told["BindReadOnlyPaths"]
    assert ["/v/3", "/srv/x/y", False, 0] in told["BindReadOnlyPaths"]
    assert told["ReadWritePaths"] == ["+/work", "+/volumes/a", "+/var/lib/db"]
    # Directories for them are made in memory of the job's own, not in the root that all jobs share.
    places = [target for target, options in told["TemporaryFileSystem"] if options.startswith("ro,")]
    assert places == ["/srv", "/var/lib", "/volumes"]


def test_without_volumes_a_unit_is_as_it_was() -> None:
    told = properties(plan())
    assert [target for target, _ in told["TemporaryFileSystem"]] == ["/tmp", "/dev/shm"]
    assert told["BindPaths"] == [[str(plan().work), "/work", False, 0]]
    assert not any("--volume" in entry.origin for entry in unit_properties(plan(), settings(257)))


def test_with_a_workspace_in_memory_volumes_are_all_that_is_bound() -> None:
    of = with_volumes(("/data", False))
    of = replace(of, spec=replace(of.spec, work_in_memory=True, resources=Resources(work_size=1 << 20)))
    told = properties(of)
    assert told["BindPaths"] == [["/v/0", "/data", False, 0]]
    assert told["ReadWritePaths"] == ["+/data"]


def test_the_launcher_is_told_the_groups_of_volumes() -> None:
    assert launcher_words(with_volumes(("/data", False)), settings(257))[3:] == ["+70000", "+70001"]


def with_runtime() -> LaunchPlan:
    runtime = PinnedRuntime("tools", "1.0.0", "ab" * 32)
    return replace(plan(), runtime=runtime, kit=Path("/kit"), root=Path("/tree"))


@pytest.mark.parametrize("version", RELEASES)
def test_with_a_runtime_nothing_of_the_hosts_programs_is_mounted(version: int) -> None:
    has, had = properties(with_runtime(), version), properties(plan(), version)
    assert has["RootDirectory"] == "/tree"
    assert has["BindReadOnlyPaths"][0] == ["/kit", "/usr/lib/joblet", False, 0]
    assert not [source for source, *_ in has["BindReadOnlyPaths"] if source == "/usr"]
    # The command is the same: the drop-in of all jobs has it, too.
    changed = {name for name in has | had if has.get(name) != had.get(name)}
    assert changed == {"RootDirectory", "BindReadOnlyPaths", "ProtectHome"}


def test_the_root_tells_which_runtime_it_is() -> None:
    (root,) = [
        each for each in unit_properties(with_runtime(), settings(257)) if each.name == "RootDirectory"
    ]
    assert root.origin == f"--runtime=tools@1.0.0: tools@1.0.0, sha256:{'ab' * 32}"
