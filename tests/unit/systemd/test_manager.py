"""Units that end while they are read: replies and signals in every order the bus allows."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from joblet_agent.config import AgentConfig
from joblet_agent.ports import UnitPhase, UnitStatus
from joblet_agent.systemd import manager as module
from joblet_agent.systemd.manager import SystemdUnitManager
from joblet_agent.systemd.names import unit_name, unit_path
from joblet_agent.systemd.properties import UnitSettings
from joblet_agent.systemd.signals import Signal
from tests.unit.systemd.plans import JOB

INVOCATION = bytes(range(16))
PATH = unit_path(JOB)
EXITED = Signal(
    PATH,
    "PropertiesChanged",
    [{"MainPID": 0, "ExecMainCode": 1, "ExecMainStatus": 143, "Result": "exit-code"}],
)
FAILED = Signal(PATH, "PropertiesChanged", [{"ActiveState": "failed", "SubState": "failed"}])
REMOVED = Signal("/org/freedesktop/systemd1", "UnitRemoved", [unit_name(JOB), PATH])


class ScriptedBus:
    """Answers like systemd for one running unit; signals arrive before the reply to a given call."""

    def __init__(self, on_signal: Any, _on_connected: Any) -> None:
        self._on_signal = on_signal
        self.before: dict[str, Sequence[Signal]] = {}
        self.state = ("active", "running")
        self.load_state = "loaded"

    async def manager(self, member: str, _signature: str = "", _body: Sequence[Any] = ()) -> Sequence[Any]:
        await self._pass("list")
        assert member == "ListUnitsByPatterns"
        return [[[unit_name(JOB), "", "loaded", *self.state, "", PATH, 0, "", "/"]]]

    async def property(self, _path: str, _interface: str, name: str) -> Any:
        await self._pass(name)
        values = {"InvocationID": INVOCATION, "MainPID": 77, "FreezerState": "running"}
        return {**values, "LoadState": self.load_state}[name]

    async def properties(self, _path: str, interface: str) -> dict[str, Any]:
        await self._pass(interface)
        if interface == "Unit":
            active, sub = self.state
            return {
                "LoadState": "loaded",
                "ActiveState": active,
                "SubState": sub,
                "InvocationID": INVOCATION,
            }
        return {"MainPID": 77, "ExecMainCode": 0, "ExecMainStatus": 0, "Result": "success"}

    async def _pass(self, step: str) -> None:
        for signal in self.before.pop(step, ()):
            self._on_signal(signal)
        await asyncio.sleep(0)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> tuple[SystemdUnitManager, ScriptedBus]:
    monkeypatch.setattr(module, "SystemBus", ScriptedBus)
    manager = SystemdUnitManager(UnitSettings(AgentConfig(), 257))
    bus: Any = manager._bus
    return manager, bus


ORDERS: list[dict[str, Sequence[Signal]]] = [
    {"list": [EXITED, FAILED]},
    {"InvocationID": [EXITED, FAILED]},
    {"InvocationID": [EXITED], "MainPID": [FAILED]},
    {"MainPID": [EXITED, FAILED]},
]


@pytest.mark.parametrize("before", ORDERS)
def test_a_unit_that_ends_while_it_is_read_has_ended_with_its_status(
    scripted: tuple[SystemdUnitManager, ScriptedBus], before: dict[str, Sequence[Signal]]
) -> None:
    manager, bus = scripted
    bus.before = dict(before)
    (status,) = asyncio.run(manager.present())
    assert (status.phase, status.exit_kind, status.exit_status) == (UnitPhase.ENDED, "exited", 143)
    assert status.invocation_id == INVOCATION.hex()


@pytest.mark.parametrize("step", ["Unit", "Service"])
def test_a_unit_that_ends_while_it_is_stopping_has_ended_with_its_status(
    scripted: tuple[SystemdUnitManager, ScriptedBus], step: str
) -> None:
    manager, bus = scripted
    bus.state = ("deactivating", "stop-sigterm")
    bus.before = {step: [EXITED, FAILED]}
    (status,) = asyncio.run(manager.present())
    assert (status.phase, status.exit_kind, status.exit_status) == (UnitPhase.ENDED, "exited", 143)


def test_a_unit_that_is_unloaded_while_it_is_read_is_gone(
    scripted: tuple[SystemdUnitManager, ScriptedBus],
) -> None:
    manager, bus = scripted
    bus.before = {"InvocationID": [EXITED, FAILED], "MainPID": [REMOVED]}
    bus.load_state = "not-found"
    (status,) = asyncio.run(manager.present())
    assert (status.phase, status.exit_status) == (UnitPhase.GONE, 143)


def test_what_comes_after_the_reading_is_told_to_the_listener(
    scripted: tuple[SystemdUnitManager, ScriptedBus],
) -> None:
    manager, bus = scripted
    told: list[UnitStatus] = []
    manager.listen(told.append, lambda: None)
    bus.before = {"MainPID": [EXITED]}
    (status,) = asyncio.run(manager.present())
    assert status.phase is UnitPhase.RUNNING
    assert told == []
    bus._on_signal(FAILED)
    assert [(status.phase, status.exit_status) for status in told] == [(UnitPhase.ENDED, 143)]


@pytest.mark.parametrize(("load_state", "phases"), [("loaded", []), ("not-found", [UnitPhase.GONE])])
def test_r8_a_unit_is_gone_when_systemd_says_so_and_not_when_a_signal_does(
    scripted: tuple[SystemdUnitManager, ScriptedBus], load_state: str, phases: list[UnitPhase]
) -> None:
    """A reload whose beginning was missed removes all units, too."""
    manager, bus = scripted
    told: list[UnitStatus] = []
    asked_again: list[bool] = []

    async def main() -> None:
        await manager.present()
        manager.listen(told.append, lambda: asked_again.append(True))
        bus.load_state = load_state
        bus._on_signal(REMOVED)
        await asyncio.gather(*manager._checks)

    asyncio.run(main())
    assert [status.phase for status in told] == phases
    assert bool(asked_again) == (load_state == "loaded")


def test_r8_a_unit_that_is_removed_while_it_is_read_and_is_there_runs(
    scripted: tuple[SystemdUnitManager, ScriptedBus],
) -> None:
    manager, bus = scripted
    bus.before = {"MainPID": [REMOVED]}
    (status,) = asyncio.run(manager.present())
    assert status.phase is UnitPhase.RUNNING
