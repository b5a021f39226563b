"""Mount units and programs of volumes: signals in every order, failures, and nothing that stays behind."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.errors import HostUnavailable, LaunchFailed, NotFound
from joblet_agent.ports import MountPlan
from joblet_agent.systemd import awaited
from joblet_agent.systemd import volume_units as module
from joblet_agent.systemd.bus import UnitIsThere
from joblet_agent.systemd.names import any_unit_path, mount_unit_name
from joblet_agent.systemd.volume_units import SystemdVolumeUnits

WHERE = Path("/var/lib/joblet/volumes/my-data/mount")
NAME = mount_unit_name(WHERE)
PLAN = MountPlan(WHERE, "tmpfs", "tmpfs", ("size=1048576", "nosuid"), "Joblet volume my-data")
STARTS = [{"ActiveState": "inactive"}, {"ActiveState": "activating"}]
STOPS = [{"ActiveState": "active"}, {"ActiveState": "deactivating"}]


class ScriptedBus:
    """Sends the changes of ``script`` while it handles a call; keeps every call."""

    def __init__(self) -> None:
        self.awaited: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.script: dict[str, list[Any]] = {}
        self.errors: dict[str, Exception] = {}
        self.units: list[list[str]] = []
        self.unit = {"ActiveState": "inactive"}
        self.service = {"ExecMainStatus": 0, "ExecMainCode": 1, "Result": "success"}
        self.properties_of: dict[str, Any] = {}
        self.says: Path | None = None
        """Where programs leave their words."""
        self.made = SystemdVolumeUnits(self, self._ready)  # type: ignore[arg-type]

    async def _ready(self) -> None:
        return None

    async def manager(self, member: str, _signature: str = "", body: Sequence[Any] = ()) -> Sequence[Any]:
        if member == "ListUnitsByPatterns":
            return [self.units]
        name = body[0]
        self.calls.append((member, name))
        if member in self.errors:
            raise self.errors[member]
        if member == "StartTransientUnit":
            if self.says is not None:
                await asyncio.to_thread((self.says / name).write_text, "image: UNEXPECTED\nINCONSISTENCY\n")
            self.properties_of = {key: variant.value for key, variant in body[2]}
        assert any_unit_path(name) in self.awaited
        for change in self.script.get(member, []):
            await asyncio.sleep(0)
            if change == "removed":
                self.made.on_removed(name)
            else:
                self.made.on_changed(any_unit_path(name), change)
        return ["/job/1"]

    async def properties(self, _path: str, interface: str) -> dict[str, Any]:
        return dict(self.unit if interface == "Unit" else self.service)


def run(
    case: Callable[[ScriptedBus, SystemdVolumeUnits], Awaitable[None]], words: Path | None = None
) -> None:
    async def main() -> None:
        bus = ScriptedBus()
        if words is not None:
            bus.made = SystemdVolumeUnits(bus, bus._ready, words)  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            await case(bus, bus.made)
        assert bus.awaited == set()

    asyncio.run(main())


def test_a_mount_is_a_transient_unit_that_goes_after_the_jobs() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.errors["ResetFailedUnit"] = NotFound("no such unit", reason="UNIT_NOT_FOUND")
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "active"}]
        await units.mount(PLAN)
        assert bus.calls == [("ResetFailedUnit", NAME), ("StartTransientUnit", NAME)]
        told = bus.properties_of
        assert (told["What"], told["Type"], told["Options"]) == ("tmpfs", "tmpfs", "size=1048576,nosuid")
        assert told["Before"] == ["joblet-jobs.slice"]

    run(case)


def test_a_mount_that_fails_says_where_to_look() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.script["StartTransientUnit"] = [
            *STARTS,
            {"ActiveState": "failed", "Result": "exit-code"},
            "removed",
        ]
        with pytest.raises(LaunchFailed, match="exit-code") as caught:
            await units.mount(PLAN)
        assert (caught.value.reason, NAME in (caught.value.hint or "")) == ("CANNOT_MOUNT", True)

    run(case)


def test_the_end_of_an_earlier_unit_is_not_that_of_the_new_one() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.script["ResetFailedUnit"] = [{"ActiveState": "inactive"}, "removed"]
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "active"}]
        await units.mount(PLAN)

    run(case)


def test_a_unit_that_is_still_loaded_is_started_again() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.errors["StartTransientUnit"] = UnitIsThere("it was already loaded", reason="SYSTEMD_REFUSED")
        bus.script["StartUnit"] = [{"ActiveState": "activating"}, {"ActiveState": "active"}]
        await units.mount(PLAN)

    run(case)


@pytest.mark.parametrize("end", [{"ActiveState": "inactive"}, {"ActiveState": "failed"}, "removed"])
def test_an_unmount_waits_for_its_end(end: Any) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.unit = {"ActiveState": "active"}
        bus.script["StopUnit"] = [*STOPS, end]
        await units.unmount(WHERE)

    run(case)


def test_what_is_not_mounted_is_unmounted() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        await units.unmount(WHERE)  # loaded, inactive: no signal comes
        bus.errors["StopUnit"] = NotFound("no such unit", reason="UNIT_NOT_FOUND")
        await units.unmount(WHERE)

    run(case)


def test_what_somebody_uses_is_told() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.unit = {"ActiveState": "deactivating"}
        bus.script["StopUnit"] = [*STOPS, {"ActiveState": "active"}]
        with pytest.raises(LaunchFailed, match="uses it") as caught:
            await units.unmount(WHERE)
        assert caught.value.reason == "VOLUME_BUSY"

    run(case)


def test_changes_that_were_missed_are_asked_for() -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        work = asyncio.create_task(units.mount(PLAN))
        await asyncio.sleep(0.01)
        assert not work.done()
        bus.unit = {"ActiveState": "active"}
        units.look_again()
        await work

    run(case)


def test_a_unit_that_comes_to_no_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOUNT_USEC", 0)
    monkeypatch.setattr(awaited, "_LONGER", 0.01)

    async def case(_bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        with pytest.raises(HostUnavailable, match="not come to an end"):
            await units.mount(PLAN)

    run(case)


def test_a_program_has_nothing_but_its_file_and_leaves_no_unit(tmp_path: Path) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "active"}]
        await units.make_file_system(Path("/v/a/image.new"), 1024)
        ((_, name), *dismissed) = bus.calls
        assert name.startswith("joblet-volume-")
        assert dismissed == [("StopUnit", name), ("ResetFailedUnit", name)]
        told = bus.properties_of
        assert told["ExecStart"][0][1][-1] == "/v/a/image.new"
        assert "nodiscard" in told["ExecStart"][0][1]
        assert (told["CapabilityBoundingSet"], told["NoNewPrivileges"], told["ProtectSystem"]) == (
            0,
            True,
            "strict",
        )
        assert told["ReadWritePaths"] == ["/v/a"]
        assert (told["PrivateNetwork"], told["PrivateDevices"], told["Type"]) == (True, True, "oneshot")
        assert told["TimeoutStartUSec"] > 0

    run(case, tmp_path)


def test_what_a_program_says_is_told(tmp_path: Path) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.service = {"ExecMainStatus": 4, "ExecMainCode": 1, "Result": "exit-code"}
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "failed"}]
        bus.says = tmp_path
        with pytest.raises(LaunchFailed, match="image: UNEXPECTED INCONSISTENCY"):
            await units.check_file_system(Path("/v/a/image"))
        assert ("ResetFailedUnit", bus.calls[0][1]) in bus.calls

    run(case, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("status", "is_repaired"), [(0, False), (1, True)])
def test_a_repair_is_no_failure(tmp_path: Path, status: int, is_repaired: bool) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.service = {
            "ExecMainStatus": status,
            "ExecMainCode": 1,
            "Result": "exit-code" if status else "success",
        }
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "failed" if status else "active"}]
        assert await units.check_file_system(Path("/v/a/image")) is is_repaired

    run(case, tmp_path)


def test_a_program_that_was_killed_has_not_repaired_anything(tmp_path: Path) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.service = {"ExecMainStatus": 1, "ExecMainCode": 2, "Result": "signal"}  # SIGHUP is number 1
        bus.script["StartTransientUnit"] = [*STARTS, {"ActiveState": "failed"}]
        with pytest.raises(LaunchFailed, match="signal"):
            await units.check_file_system(Path("/v/a/image"))

    run(case, tmp_path)


def test_a_caller_that_goes_away_takes_the_program_along(tmp_path: Path) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        work = asyncio.create_task(units.grow_unmounted(Path("/v/a/image")))
        await asyncio.sleep(0.01)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert bus.calls[-2][0] == "StopUnit"

    run(case, tmp_path)


def test_programs_of_an_earlier_agent_are_stopped(tmp_path: Path) -> None:
    async def case(bus: ScriptedBus, units: SystemdVolumeUnits) -> None:
        bus.units = [["joblet-volume-1.service"], ["joblet-volume-2.service"]]
        bus.unit = {"ActiveState": "active"}
        bus.script["StopUnit"] = [{"ActiveState": "deactivating"}, {"ActiveState": "inactive"}]
        (tmp_path / "joblet-volume-1.service").touch()
        await units.stop_tools()
        assert [call for call in bus.calls if call[0] == "StopUnit"] == [
            ("StopUnit", "joblet-volume-1.service"),
            ("StopUnit", "joblet-volume-2.service"),
        ]

    run(case, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [  # as systemd-escape --path --suffix=mount says
        ("/var/lib/joblet/volumes/a/mount", "var-lib-joblet-volumes-a-mount.mount"),
        ("/var/lib/joblet/volumes/my-vol_1/mount", "var-lib-joblet-volumes-my\\x2dvol_1-mount.mount"),
        ("/srv/state dir/v/0/mount", "srv-state\\x20dir-v-0-mount.mount"),
        ("/ä/mount", "\\xc3\\xa4-mount.mount"),
        ("/.hidden/%i/mount", "\\x2ehidden-\\x25i-mount.mount"),
    ],
)
def test_a5_names_of_mount_units_are_systemds(path: str, name: str) -> None:
    assert mount_unit_name(Path(path)) == name
    assert any_unit_path("a-b\\x2d.mount") == "/org/freedesktop/systemd1/unit/a_2db_5cx2d_2emount"
