"""systemd in memory: units that do what their command says. tests/contract holds it to the real one.

It outlives the agent, as the real one does: a second tracker that listens finds the units of the
first. What a unit does is told by the job's command::

    sleep              runs until it is stopped, killed or ended by the test
    exit N             ends at once with status N
    signal N           is killed at once by signal N
    missing            cannot be executed: no such program
    refused            systemd refuses the unit
    unanswered         the unit starts, but the answer to the start is lost
    lost               the start is lost on its way, and so is an answer
    stubborn           as sleep, but only a kill ends it
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from joblet_agent.errors import HostUnavailable, LaunchFailed, NotFound
from joblet_agent.model.ids import JobId, WorkflowId
from joblet_agent.model.job import Explanation
from joblet_agent.ports import Accounted, LaunchPlan, UnitListener, UnitPhase, UnitStatus
from tests.fakes.invocations import FakeInvocations
from tests.fakes.workflow_slices import FakeWorkflowSlices

STARTED_AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
ENDED_AT = datetime(2026, 3, 1, 12, 45, tzinfo=UTC)
_LAUNCHED = "0 launched\n"
_SIGTERM, _SIGKILL = 15, 9
_SUCCESS_SIGNALS = {1, 2, 13, 15}  # systemd.service(5), SuccessExitStatus=
_RUNNING_PHASES = {UnitPhase.STARTING, UnitPhase.RUNNING, UnitPhase.STOPPING}


class FakeUnitManager:
    """ports.UnitManager. ``failure`` is raised by every call; a deaf one loses its signals."""

    def __init__(self, journal: FakeInvocations | None = None, calls: list[str] | None = None) -> None:
        self.units: dict[JobId, UnitStatus] = {}
        self.commands: dict[JobId, str] = {}
        """What was ever started, by job."""
        self.plans: dict[JobId, LaunchPlan] = {}
        self.starts: list[JobId] = []
        self.calls = [] if calls is None else calls
        self.failure: HostUnavailable | None = None
        self.is_deaf = False
        self.holds_starts: asyncio.Event | None = None
        """While set and clear, starts wait."""
        self.holds_releases: asyncio.Event | None = None
        self.is_host_stopping = False
        self.accounts: dict[JobId, Accounted] = {}
        """What was counted for units, by job."""
        self.cgroups = Path("/nonexistent")
        """Where control groups are; they are made by the test."""
        self.limits: dict[JobId, dict[str, object]] = {}
        """What was changed of the limits of units that run."""
        self.refuses_limits = False
        self.slices = FakeWorkflowSlices(self._end_workflow)
        self._journal = journal or FakeInvocations()
        self._listener: UnitListener = _nobody
        self._resync: Callable[[], None] = _nothing

    # -- the port --------------------------------------------------------------------------------

    def listen(self, listener: UnitListener, resync: Callable[[], None]) -> None:
        self._listener, self._resync = listener, resync

    async def start(self, plan: LaunchPlan) -> None:
        if self.holds_starts is not None:
            await self.holds_starts.wait()
        self._called("start", plan.job_id)
        command = plan.spec.command
        if self.is_host_stopping:
            raise LaunchFailed(
                "systemd refused StartTransientUnit: the transaction is destructive", reason="SYSTEMD_REFUSED"
            )
        if command == "refused":
            raise LaunchFailed("systemd refused StartTransientUnit: no", reason="SYSTEMD_REFUSED")
        if plan.job_id in self.units:
            raise LaunchFailed("systemd refused StartTransientUnit: UnitExists", reason="SYSTEMD_REFUSED")
        if command != "lost":
            self._begin(plan)
        if command in {"unanswered", "lost"}:
            raise HostUnavailable("cannot ask systemd: no answer", reason="SYSTEMD_UNAVAILABLE")

    async def set_limits(self, plan: LaunchPlan, names: Collection[str]) -> None:
        self._called("limits", plan.job_id)
        if plan.job_id not in self.units:
            raise NotFound("systemd does not know the unit", reason="UNIT_NOT_FOUND")
        if self.refuses_limits:
            raise LaunchFailed("systemd refused SetUnitProperties: no", reason="SYSTEMD_REFUSED")
        self.limits.setdefault(plan.job_id, {}).update(
            {name: getattr(plan.spec.resources, name) for name in names}
        )

    async def ceilings(self) -> Mapping[str, str]:
        self._check()
        return {"MemoryMax": "8GiB"}

    async def stop(self, job_id: JobId) -> None:
        self._called("stop", job_id)
        status = self.units.get(job_id)
        if status is None or status.phase not in _RUNNING_PHASES:
            self.units.pop(job_id, None)
            return
        self._tell(replace(status, phase=UnitPhase.STOPPING, is_frozen=False))
        if self.commands[job_id] != "stubborn":
            self.end(job_id, "killed", _SIGTERM)

    async def kill(self, job_id: JobId, number: int = _SIGKILL) -> None:
        self._called("kill", job_id)
        if job_id in self.units:
            self.end(job_id, "killed", number, "signal")

    async def freeze(self, job_id: JobId) -> None:
        self._called("freeze", job_id)
        self._tell(replace(self._known(job_id), is_frozen=True))

    async def thaw(self, job_id: JobId) -> None:
        self._called("thaw", job_id)
        self._tell(replace(self._known(job_id), is_frozen=False))

    async def is_frozen(self, job_id: JobId) -> bool:
        self._check()
        return self._known(job_id).is_frozen

    async def release(self, job_id: JobId) -> None:
        if self.holds_releases is not None:
            await self.holds_releases.wait()
        self._called("release", job_id)
        status = self.units.get(job_id)
        if status is not None and status.phase in _RUNNING_PHASES:
            self.end(job_id, "killed", _SIGTERM)
        self.units.pop(job_id, None)

    async def status(self, job_id: JobId) -> UnitStatus:
        self._check()
        return self.units.get(job_id) or UnitStatus(job_id, UnitPhase.GONE)

    async def present(self) -> Sequence[UnitStatus]:
        self._check()
        return list(self.units.values())

    async def accounted(self, job_id: JobId) -> Accounted:
        self._called("accounted", job_id)
        return self.accounts.get(job_id, Accounted())

    def control_group(self, job_id: JobId, workflow_id: str = "") -> Path:
        group = (
            self.cgroups / self.slices.slice_name(WorkflowId(workflow_id)) if workflow_id else self.cgroups
        )
        return group / self.unit_name(job_id)

    async def tell_failure(self, job_id: JobId) -> None:
        self._called("hook", job_id)

    async def host_is_stopping(self) -> bool:
        self._check()
        return self.is_host_stopping

    def unit_name(self, job_id: JobId) -> str:
        return f"joblet-job-{job_id}.service"

    @property
    def slice_name(self) -> str:
        return "joblet-jobs.slice"

    def explain(self, plan: LaunchPlan) -> Explanation:
        return Explanation(unit=self.unit_name(plan.job_id), properties=(), systemd_run=plan.spec.command)

    # -- what the test does to units ---------------------------------------------------------------

    def end(self, job_id: JobId, kind: str, number: int, result: str = "success") -> None:
        """The command ends, told to the listener as systemd does; the unit stays unless it was stopped."""
        status = self.units[job_id]
        ended = replace(
            status,
            phase=UnitPhase.ENDED,
            main_pid=0,
            exit_kind=kind,
            exit_status=number,
            result=result,
            ended_at=ENDED_AT,
        )
        self._journal.remember(replace(ended, phase=UnitPhase.GONE))
        was_stopping = status.phase is UnitPhase.STOPPING
        self._tell(ended)
        if was_stopping and result == "success":
            self.units.pop(job_id)  # RemainAfterExit= keeps what ended by itself, not what was stopped

    def stopping(self, job_id: JobId) -> None:
        """Somebody else begins to stop the unit."""
        self._tell(replace(self.units[job_id], phase=UnitPhase.STOPPING))

    def vanish(self, job_id: JobId, *, remembered: bool = False) -> None:
        """The unit is gone without a word."""
        status = self.units.pop(job_id)
        if not remembered:
            self._journal.ends.pop((job_id, status.invocation_id), None)

    def reboot(self) -> None:
        """Nothing runs any more, and nobody is told."""
        self.units.clear()
        self.slices.titles.clear()

    def adopt(self, status: UnitStatus, command: str = "sleep") -> None:
        """Let there be a unit that this manager was not asked for."""
        self.units[status.job_id] = status
        self.commands[status.job_id] = command

    def tell(self, status: UnitStatus) -> None:
        """Send a signal, whatever is true."""
        self._listener(status)

    def reconnected(self) -> None:
        """The bus was away and is back."""
        self.is_deaf = False
        self._resync()

    # -- inside ------------------------------------------------------------------------------------

    def _begin(self, plan: LaunchPlan) -> None:
        job_id, command = plan.job_id, plan.spec.command
        self.starts.append(job_id)
        self.commands[job_id] = command
        self.plans[job_id] = plan
        if plan.workflow_id:
            self.slices.titles.setdefault(WorkflowId(plan.workflow_id), "")
        starting = UnitStatus(job_id, UnitPhase.STARTING, invocation_id=f"{len(self.starts):032x}")
        self._tell(starting)
        if plan.launch_report.parent.exists():  # unless the agent has let go of it meanwhile
            plan.launch_report.write_text(_LAUNCHED, encoding="utf-8")
        self._tell(replace(starting, phase=UnitPhase.RUNNING, main_pid=1000, started_at=STARTED_AT))
        number = int(plan.spec.args[0]) if command in {"exit", "signal"} else 0
        match command:
            case "exit":
                self.end(job_id, "exited", number, "exit-code" if number else "success")
            case "signal":
                self.end(job_id, "killed", number, "success" if number in _SUCCESS_SIGNALS else "signal")
            case "missing":
                plan.launch_report.write_text(f"{_LAUNCHED}2 No such file or directory\n", encoding="utf-8")
                self.end(job_id, "exited", 127, "exit-code")

    def _end_workflow(self, workflow_id: WorkflowId) -> None:
        for job_id, status in list(self.units.items()):
            if job_id in self.plans and self.plans[job_id].workflow_id == workflow_id:
                if status.phase in _RUNNING_PHASES:
                    self.end(job_id, "killed", _SIGTERM)
                self.units.pop(job_id, None)

    def _known(self, job_id: JobId) -> UnitStatus:
        if job_id not in self.units:
            raise NotFound("systemd does not know the unit", reason="UNIT_NOT_FOUND")
        return self.units[job_id]

    def _tell(self, status: UnitStatus) -> None:
        self.units[status.job_id] = status
        if not self.is_deaf:
            asyncio.get_running_loop().call_soon(self._listener, status)

    def _called(self, member: str, job_id: JobId) -> None:
        self._check()
        self.calls.append(f"{member} {job_id}")

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


def _nobody(_status: UnitStatus) -> None:
    """No agent listens."""


def _nothing() -> None:
    """No agent listens."""
