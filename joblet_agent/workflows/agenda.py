"""Workflows with a start time of their own: a timer wakes the agent, the store says what is to start."""

import logging

from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.agenda import calendar_of
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.jobs.timers import TimerKeeper
from joblet_agent.model.audit import start_of_workflow_by_timer
from joblet_agent.model.workflow import Workflow, WorkflowId, WorkflowState
from joblet_agent.ports import AuditLog, Clock, TimerId, TimerKind, TimerStatus
from joblet_agent.workflows.driver import Driver
from joblet_agent.workflows.drivers import Drivers

_log = logging.getLogger(__name__)


class WorkflowAgenda:
    """Lets each scheduled workflow begin once, when it is due."""

    def __init__(self, drivers: Drivers, timers: TimerKeeper, clock: Clock, audit: AuditLog) -> None:
        self._drivers = drivers
        self._timers = timers
        self._clock = clock
        self._audit = audit
        self._beginning: set[WorkflowId] = set()
        self._tasks = Tasks()
        timers.listen(TimerKind.WORKFLOW, self._on_timer)
        drivers.listen(self.forget)

    def recover(self) -> None:
        """Take over what was read. Call once, before the timers' ``recover``."""
        for driver in self._drivers:
            self._expect(driver.workflow)

    async def close(self) -> None:
        """Let nothing begin any more; what is due is found again by the next ``recover``."""
        await self._tasks.close()

    async def add(self, workflow: Workflow) -> None:
        """Wake for a workflow that is about to be stored, if it waits for a time.

        Raises as TimerKeeper.start; but if systemd does not answer it gets its timer later.
        """
        if workflow.state is not WorkflowState.SCHEDULED or workflow.scheduled_at is None:
            return
        calendar = calendar_of(workflow.scheduled_at)
        try:
            await self._timers.start(_timer(workflow.id), calendar, _title(workflow))
        except HostUnavailable as error:
            _log.warning("workflow %s is scheduled, its timer comes later: %s", workflow.id, error)
            self._expect(workflow)
            self._timers.request_resync()

    def forget(self, workflow_id: WorkflowId) -> None:
        """Wake for the workflow no more."""
        self._timers.stop(_timer(workflow_id))

    def look(self, workflow_id: WorkflowId) -> None:
        """Let the workflow begin if it is due."""
        driver = self._drivers.get(workflow_id)
        if driver is None or driver.workflow.state is not WorkflowState.SCHEDULED:
            return
        due = driver.workflow.scheduled_at
        if workflow_id not in self._beginning and (due is None or self._clock.now() >= due):
            self._beginning.add(workflow_id)
            self._tasks.start(self._begin(driver), f"due-{workflow_id}")

    def _expect(self, workflow: Workflow) -> None:
        if workflow.state is WorkflowState.SCHEDULED and workflow.scheduled_at is not None:
            self._timers.expect(_timer(workflow.id), calendar_of(workflow.scheduled_at), _title(workflow))

    def _on_timer(self, status: TimerStatus) -> None:
        self.look(WorkflowId(status.timer.id))

    async def _begin(self, driver: Driver) -> None:
        try:
            await driver.begin()
        finally:
            self._beginning.discard(driver.id)
        self._audit.write(start_of_workflow_by_timer(driver.workflow))
        self.forget(driver.id)


def _timer(workflow_id: WorkflowId) -> TimerId:
    return TimerId(TimerKind.WORKFLOW, workflow_id)


def _title(workflow: Workflow) -> str:
    return f"Start of Joblet workflow {workflow.name or workflow.id[:8]}"
