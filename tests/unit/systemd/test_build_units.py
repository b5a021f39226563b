"""Units of builds' steps and their places: ends of every kind, other agents' steps, what is refused."""

import asyncio
import os
import pwd
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from joblet_agent.errors import LaunchFailed, NotFound
from joblet_agent.ports import MountPlan
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, StepKind
from joblet_agent.systemd import build_units as module
from joblet_agent.systemd.build_units import SystemdBuildUnits
from joblet_agent.systemd.names import any_unit_path, build_of_unit, build_unit_name
from tests.fakes.file_watcher import FakeFileWatcher

UNIT = build_unit_name("abc", "pip")
STARTS = [{"ActiveState": "inactive"}, {"ActiveState": "activating", "SubState": "start"}]
RUNS = {"ActiveState": "active", "SubState": "running"}
EXITED = {"ActiveState": "active", "SubState": "exited"}
STOPPED = [{"ActiveState": "deactivating"}, {"ActiveState": "inactive", "SubState": "dead"}, "removed"]


class ScriptedBus:
    """Sends the changes of ``script`` while it handles a call; keeps every call."""

    def __init__(self, root: Path) -> None:
        self.awaited: set[str] = set()
        self.calls: list[tuple[str, str]] = []
        self.script: dict[str, list[Any]] = {"StopUnit": STOPPED}
        self.units: list[list[str]] = []
        self.unit: dict[str, Any] = {"LoadState": "loaded", "ActiveState": "active", "SubState": "exited"}
        self.service: dict[str, Any] = {"ExecMainStatus": 0, "ExecMainCode": 1, "Result": "success"}
        self.called = asyncio.Event()
        self.volumes = FakeVolumes()
        self.made = SystemdBuildUnits(self, _ready, self.volumes, lambda: 257)  # type: ignore[arg-type]
        self.made.open(root, FakeFileWatcher())
        self.says = b""
        self.properties_of: dict[str, Any] = {}

    async def manager(self, member: str, _signature: str = "", body: Sequence[Any] = ()) -> Sequence[Any]:
        if member == "ListUnitsByPatterns":
            return [self.units]
        name = body[0]
        self.calls.append((member, name))
        self.called.set()
        if member == "StartTransientUnit":
            self.properties_of = {key: variant.value for key, variant in body[2]}
            log = Path(self.properties_of["StandardOutputFileToAppend"])
            await asyncio.to_thread(log.write_bytes, self.says)
        for change in self.script.get(member, []):
            await asyncio.sleep(0)
            if change == "removed":
                self.made.on_removed(name)
                self.unit = {"LoadState": "not-found"}
            else:
                self.made.on_changed(any_unit_path(name), change)
        return ["/job/1"]

    async def properties(self, _path: str, interface: str) -> dict[str, Any]:
        return dict(self.unit if interface == "Unit" else self.service)


class FakeVolumes:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.fails = ""

    async def make_file_system(self, image: Path, _files: int) -> None:
        self.calls.append(f"make {image.name}")
        if self.fails:
            raise LaunchFailed(self.fails, reason="VOLUME_TOOL_FAILED")

    async def mount(self, plan: MountPlan) -> None:
        self.calls.append(f"mount {plan.type}")
        self.options = plan.options

    async def unmount(self, where: Path) -> None:
        self.calls.append(f"unmount {where.name}")


async def _ready() -> None:
    return None


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScriptedBus:
    own = SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid())
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: own)
    monkeypatch.setattr(module, "_first_subordinate", os.getuid)
    return ScriptedBus(tmp_path / "builds")


def run(bus: ScriptedBus, case: Callable[[SystemdBuildUnits, BuildPlace], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await case(bus.made, await bus.made.open_place("abc", size=1 << 30))
        assert bus.awaited == set()

    asyncio.run(main())


def step(place: BuildPlace) -> BuildStep:
    inputs, environment = {"options": "x"}, {"TOKEN": 'a "b"'}
    return BuildStep(
        name="pip", kind=StepKind.TREE, place=place, script="exit", inputs=inputs, environment=environment
    )


def test_a_step_that_ends_well_is_let_go_and_its_words_are_told(bus: ScriptedBus) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        bus.says = b"one\ntwo"
        bus.script["StartTransientUnit"] = [*STARTS, RUNS, EXITED]
        lines: list[str] = []
        end = await units.run(step(place), lines.append)
        assert (end.status, end.result, end.is_full, lines) == (0, "success", False, ["one", "two"])
        assert [member for member, _ in bus.calls] == ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]
        inputs = place.inputs("pip")
        assert {path.name: path.read_text() for path in inputs.iterdir()} == {"step": "exit", "options": "x"}

    run(bus, case)
    ((name, _),) = bus.properties_of["EnvironmentFiles"]
    environment = Path(name)
    assert 'TOKEN="a \\"b\\""\n' in environment.read_text()
    assert environment.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("code", "status", "result", "told"),
    [(1, 7, "exit-code", 7), (2, 9, "oom-kill", 137), (2, 9, "timeout", 137)],
)
def test_a_failure_is_told_with_systemds_word_and_the_last_lines(
    bus: ScriptedBus, code: int, status: int, result: str, told: int
) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        bus.says = b"tar: No space left on device\n" if status == 7 else b"x\n"
        failed = {"ActiveState": "failed", "SubState": "failed"}
        bus.script["StartTransientUnit"] = [*STARTS, RUNS, failed]
        bus.script["StopUnit"] = []
        bus.unit = {"LoadState": "loaded", **failed}
        bus.service = {"ExecMainStatus": status, "ExecMainCode": code, "Result": result}
        end = await units.run(step(place), lambda _line: None)
        assert (end.status, end.result, end.is_success) == (told, result, False)
        assert end.is_full is (status == 7)
        assert ("ResetFailedUnit", UNIT) in bus.calls

    run(bus, case)


def test_a_step_that_is_stopped_says_so_to_whoever_waits(bus: ScriptedBus) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        bus.script["StartTransientUnit"] = [*STARTS, RUNS]
        running = asyncio.create_task(units.run(step(place), lambda _line: None))
        await bus.called.wait()
        bus.units = [[UNIT]]
        await units.stop("abc")
        assert (await running).result == "stopped"

    run(bus, case)


def test_a_unit_that_nobody_of_us_has_stopped_is_gone(bus: ScriptedBus) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        bus.script["StartTransientUnit"] = [*STARTS, RUNS, *STOPPED]
        end = await units.run(step(place), lambda _line: None)
        assert (end.result, end.is_success) == ("gone", False)

    run(bus, case)


def test_another_agents_step_is_adopted_with_all_that_it_has_said(bus: ScriptedBus) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        place.log("pip").write_text("first\nlast\n")
        lines: list[str] = []
        end = await units.adopt(step(place), lines.append)
        assert end is not None
        assert (end.result, lines) == ("success", ["first", "last"])
        assert "StartTransientUnit" not in dict(bus.calls)
        bus.unit = {"LoadState": "not-found", "ActiveState": "inactive"}
        assert await units.adopt(step(place), lines.append) is None

    run(bus, case)


def test_where_nothing_can_be_mounted_from_a_file_the_space_is_memory_of_that_size(bus: ScriptedBus) -> None:
    bus.volumes.fails = "no loop devices"

    async def case(_units: SystemdBuildUnits, place: BuildPlace) -> None:
        assert bus.volumes.calls == ["make space.img", "mount tmpfs"]
        assert not place.image.exists()
        assert any(option.startswith("size=") for option in bus.volumes.options)
        assert place.tree.is_dir()

    run(bus, case)


def test_a_place_is_closed_once_and_for_all(bus: ScriptedBus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path).exists())

    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        assert await units.places() == ("abc",)
        await units.close_place("abc")
        await units.close_place("abc")
        assert (bus.volumes.calls[-1], place.root.exists()) == ("unmount space", False)
        assert bus.volumes.calls.count("unmount space") == 1

    run(bus, case)


def test_what_dead_builds_have_left_is_found_by_unit_and_by_directory(bus: ScriptedBus) -> None:
    async def case(units: SystemdBuildUnits, place: BuildPlace) -> None:
        (place.root.parent / "old").mkdir()
        (place.root.parent / "No id").mkdir()
        bus.units = [[build_unit_name("unit1", "base")]]
        assert await units.places() == ("abc", "old", "unit1")
        bus.units = []
        await units.keep_only({"abc"})
        assert await units.places() == ("abc",)

    run(bus, case)


def test_a_disk_that_is_full_is_told_before_anything_is_mounted(
    bus: ScriptedBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = SimpleNamespace(f_bavail=10, f_frsize=4096)
    monkeypatch.setattr(os, "statvfs", lambda _path: full)

    async def main() -> None:
        with pytest.raises(LaunchFailed, match="has less than") as raised:
            await bus.made.open_place("abc", size=1 << 30)
        assert raised.value.reason == "RUNTIME_BUILD_DISK_FULL"
        assert (bus.volumes.calls, await bus.made.places()) == ([], ())

    asyncio.run(main())


def test_a_host_without_the_user_of_builds_says_so(bus: ScriptedBus, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> None:
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", unknown)
    with pytest.raises(LaunchFailed, match="no user joblet-build"):
        asyncio.run(bus.made.open_place("abc", size=1 << 30))


@pytest.mark.parametrize("build_id", ["", "../x", "a-b", "A", "a/b", "a" * 65])
def test_ids_that_could_be_another_file_or_unit_are_none(bus: ScriptedBus, build_id: str) -> None:
    with pytest.raises(ValueError, match="no id"):
        bus.made.place(build_id)


def test_the_build_of_a_unit_is_known_by_its_name() -> None:
    assert build_of_unit(build_unit_name("abc", "post-install")) == "abc"


def test_a_unit_that_is_gone_already_is_no_error_to_stop(bus: ScriptedBus) -> None:
    async def gone(member: str, *_: Any) -> Sequence[Any]:
        if member == "ListUnitsByPatterns":
            return [[[UNIT]]]
        raise NotFound("gone", reason="UNIT_NOT_FOUND")

    bus.manager = gone  # type: ignore[method-assign,assignment]
    asyncio.run(bus.made.stop("abc"))
