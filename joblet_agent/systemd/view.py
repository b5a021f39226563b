"""What systemd's signals have told of one unit so far, and what it means.

Pure. systemd sends changed properties in pieces, the Service interface before the Unit interface;
a unit that has not begun is also ``dead``, so the end is known only by what went before it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from joblet_agent.model.job import JobId
from joblet_agent.ports import UnitPhase, UnitStatus

WATCHED = frozenset(
    {
        "ActiveState",
        "SubState",
        "InvocationID",
        "MainPID",
        "FreezerState",
        "Result",
        "ExecMainCode",
        "ExecMainStatus",
        "ExecMainStartTimestamp",
        "ExecMainExitTimestamp",
    }
)

WATCHED_OF_TIMERS = frozenset({"SubState", "NextElapseUSecRealtime"})

_EXIT_KINDS = {1: "exited", 2: "killed", 3: "dumped"}  # CLD_EXITED, CLD_KILLED, CLD_DUMPED of waitid(2)
_FROZEN = {"frozen", "frozen-by-parent"}
_PHASES = {
    ("activating", "start"): UnitPhase.STARTING,
    ("active", "running"): UnitPhase.RUNNING,
    ("active", "exited"): UnitPhase.ENDED,
    ("failed", "failed"): UnitPhase.ENDED,
}


class UnitView:
    """The properties of one unit as far as they are known."""

    __slots__ = ("_has_begun", "_values", "job_id")

    def __init__(self, job_id: JobId) -> None:
        self.job_id = job_id
        self._values: dict[str, Any] = {}
        self._has_begun = False

    @property
    def has_failed(self) -> bool:
        """True when systemd keeps the unit as failed."""
        return self._values.get("ActiveState") == "failed"

    @property
    def is_frozen(self) -> bool:
        """True when the unit's processes stand still."""
        return self._values.get("FreezerState", "") in _FROZEN

    def update(self, changed: Mapping[str, Any]) -> None:
        """Take over the watched ones of the changed properties (plain values)."""
        for name in WATCHED & changed.keys():
            self._values[name] = changed[name]
        if self._values.get("ActiveState") in {"activating", "active", "deactivating", "failed"}:
            self._has_begun = True

    def status(self, *, gone: bool = False) -> UnitStatus:
        """Say what the properties mean; ``gone`` when systemd has unloaded the unit."""
        value = self._values.get
        return UnitStatus(
            job_id=self.job_id,
            phase=UnitPhase.GONE if gone else self._phase(),
            invocation_id=bytes(value("InvocationID", b"")).hex(),
            main_pid=value("MainPID", 0),
            is_frozen=self.is_frozen,
            exit_kind=_EXIT_KINDS.get(value("ExecMainCode", 0), ""),
            exit_status=value("ExecMainStatus", 0),
            result=value("Result", ""),
            started_at=_time(value("ExecMainStartTimestamp", 0)),
            ended_at=_time(value("ExecMainExitTimestamp", 0)),
        )

    def _phase(self) -> UnitPhase:
        active, sub = self._values.get("ActiveState", ""), self._values.get("SubState", "")
        if active == "deactivating":
            return UnitPhase.STOPPING
        if active == "inactive":
            return UnitPhase.ENDED if self._has_begun else UnitPhase.STARTING
        return _PHASES.get((active, sub), UnitPhase.STARTING)


class Meanwhile:
    """What signals told of units while they were being read.

    A reply is taken up some turns of the event loop after it came, and a signal may have come between:
    put on top of what the replies say, the signals give what is true in the end.
    """

    def __init__(self) -> None:
        self._changed: dict[JobId, dict[str, Any]] = {}
        self._removed: set[JobId] = set()

    def note(self, job_id: JobId, changed: Mapping[str, Any]) -> None:
        """Keep changed properties of a unit; later ones replace earlier ones."""
        self._changed.setdefault(job_id, {}).update(changed)

    def note_removed(self, job_id: JobId) -> None:
        """Keep that systemd has unloaded the unit."""
        self._removed.add(job_id)

    def changed(self, job_id: JobId) -> Mapping[str, Any]:
        """Return the newest values of what has changed."""
        return self._changed.get(job_id, {})

    def is_removed(self, job_id: JobId) -> bool:
        """Say whether systemd has unloaded the unit."""
        return job_id in self._removed


def _time(realtime_usec: int) -> datetime | None:
    return datetime.fromtimestamp(realtime_usec / 1_000_000, UTC) if realtime_usec else None
