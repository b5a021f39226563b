"""Recorded signal sequences of systemd 252 and 257, and what they mean."""

from datetime import UTC, datetime
from typing import Any

import pytest

from joblet_agent.ports import UnitPhase
from joblet_agent.systemd.view import WATCHED, UnitView
from tests.unit.systemd.plans import JOB

Signals = list[tuple[dict[str, Any], UnitPhase]]
INVOCATION = bytes(range(16))
STARTED, ENDED = 1_772_368_200_000_000, 1_772_368_201_500_000

LOADED = ({"ActiveState": "inactive", "SubState": "dead", "InvocationID": b""}, UnitPhase.STARTING)
STARTS = ({"ActiveState": "activating", "SubState": "start", "InvocationID": INVOCATION}, UnitPhase.STARTING)
FORKED = ({"MainPID": 77, "ExecMainStartTimestamp": STARTED, "Result": "success"}, UnitPhase.STARTING)
RUNS = ({"ActiveState": "active", "SubState": "running"}, UnitPhase.RUNNING)


def exited(code: int, status: int, result: str) -> dict[str, Any]:
    return {
        "MainPID": 0,
        "ExecMainCode": code,
        "ExecMainStatus": status,
        "ExecMainExitTimestamp": ENDED,
        "Result": result,
    }


SUCCESS: Signals = [
    LOADED,
    STARTS,
    FORKED,
    RUNS,
    (exited(1, 0, "success"), UnitPhase.RUNNING),
    ({"ActiveState": "active", "SubState": "exited"}, UnitPhase.ENDED),
]
FAILURE: Signals = [
    LOADED,
    STARTS,
    FORKED,
    RUNS,
    (exited(1, 3, "exit-code"), UnitPhase.RUNNING),
    ({"ActiveState": "failed", "SubState": "failed"}, UnitPhase.ENDED),
]
STOPPED: Signals = [
    LOADED,
    STARTS,
    FORKED,
    RUNS,
    ({"ActiveState": "deactivating", "SubState": "stop-sigterm"}, UnitPhase.STOPPING),
    (exited(2, 15, "success"), UnitPhase.STOPPING),
    ({"ActiveState": "inactive", "SubState": "dead"}, UnitPhase.ENDED),
]
NOT_STARTED: Signals = [
    LOADED,
    STARTS,
    (exited(1, 226, "exit-code"), UnitPhase.STARTING),
    ({"ActiveState": "failed", "SubState": "failed"}, UnitPhase.ENDED),
]
COALESCED: Signals = [
    (exited(1, 0, "success") | {"MainPID": 0}, UnitPhase.STARTING),
    ({"ActiveState": "active", "SubState": "exited", "InvocationID": INVOCATION}, UnitPhase.ENDED),
]


@pytest.mark.parametrize("signals", [SUCCESS, FAILURE, STOPPED, NOT_STARTED, COALESCED])
def test_phases(signals: Signals) -> None:
    view = UnitView(JOB)
    assert view.status().phase is UnitPhase.STARTING
    for changed, phase in signals:
        view.update(changed)
        assert view.status().phase is phase, changed


def told(signals: Signals) -> UnitView:
    view = UnitView(JOB)
    for changed, _ in signals:
        view.update(changed)
    return view


def test_a_whole_status() -> None:
    status = told(FAILURE).status()
    assert (status.job_id, status.invocation_id, status.main_pid) == (JOB, INVOCATION.hex(), 0)
    assert (status.exit_kind, status.exit_status, status.result) == ("exited", 3, "exit-code")
    assert status.started_at == datetime.fromtimestamp(STARTED / 1_000_000, UTC)
    assert status.ended_at == datetime.fromtimestamp(ENDED / 1_000_000, UTC)


@pytest.mark.parametrize(
    ("signals", "failed"), [(SUCCESS, False), (FAILURE, True), (STOPPED, False), (NOT_STARTED, True)]
)
def test_what_systemd_keeps_as_failed(signals: Signals, failed: bool) -> None:
    assert told(signals).has_failed is failed


@pytest.mark.parametrize(("code", "kind"), [(0, ""), (1, "exited"), (2, "killed"), (3, "dumped"), (4, "")])
def test_exit_kinds(code: int, kind: str) -> None:
    view = UnitView(JOB)
    view.update(exited(code, 9, "signal"))
    assert view.status().exit_kind == kind


def test_a_unit_that_is_gone_keeps_what_is_known_of_it() -> None:
    status = told(FAILURE).status(gone=True)
    assert (status.phase, status.exit_status) == (UnitPhase.GONE, 3)


def test_nothing_is_known_at_first() -> None:
    status = UnitView(JOB).status()
    assert (status.invocation_id, status.exit_kind, status.started_at, status.ended_at) == (
        "",
        "",
        None,
        None,
    )


def test_properties_that_nobody_watches_are_not_kept() -> None:
    view = UnitView(JOB)
    view.update({"Description": "x" * 1000, "ActiveState": "active", "SubState": "running"})
    assert view.status().phase is UnitPhase.RUNNING
    assert "Description" not in WATCHED


@pytest.mark.parametrize(
    "sub", ["stop-sigterm", "stop-sigkill", "final-sigterm", "final-sigkill", "stop-post"]
)
def test_every_way_down_is_stopping(sub: str) -> None:
    view = told(SUCCESS[:4])
    view.update({"ActiveState": "deactivating", "SubState": sub})
    assert view.status().phase is UnitPhase.STOPPING


def test_a_unit_that_is_reloaded_is_not_ended() -> None:
    view = told(SUCCESS[:4])
    view.update({"ActiveState": "active", "SubState": "running"})
    assert view.status().phase is UnitPhase.RUNNING
