"""Which workflows are under way, and who drives each: from the agent's start to its end."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence

from joblet_agent.errors import JobletError
from joblet_agent.jobs.news import JobNews
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobRecord
from joblet_agent.model.workflow import Member, NewWorkflow, Workflow, WorkflowId
from joblet_agent.workflows.driver import Driver, Means

Listener = Callable[[WorkflowId], None]

_log = logging.getLogger(__name__)


class Drivers:
    """The drivers of workflows that something is left to do for."""

    def __init__(self, means: Means, news: JobNews) -> None:
        self._means = means
        self._drivers: dict[WorkflowId, Driver] = {}
        self._listeners: list[Listener] = []
        self._tasks = Tasks()
        news.listen(begun=self._on_begun, ended=self._on_ended)

    def __len__(self) -> int:
        return len(self._drivers)

    def __iter__(self) -> Iterator[Driver]:
        return iter(list(self._drivers.values()))

    def get(self, workflow_id: WorkflowId) -> Driver | None:
        """Return the driver of the workflow; None if nothing is left to do for it."""
        return self._drivers.get(workflow_id)

    def listen(self, left: Listener) -> None:
        """Call ``left`` whenever nothing is left to do for a workflow."""
        self._listeners.append(left)

    async def load(self) -> None:
        """Read what has not ended. Call once, before jobs are recovered: their outputs are expected then."""
        for workflow in await self._means.store.unfinished():
            try:
                self._add(workflow, await self._means.store.members(workflow.id))
            except JobletError as error:
                _log.error("workflow %s does not go on: %s", workflow.id, error)

    def open(self) -> None:
        """Go on with what was read. Call once, between the recovery of jobs and the start of their queue."""
        for driver in self:
            driver.hold()
            driver.start()
        self._tasks.start(self._sweep_slices(), "sweep-slices")

    async def close(self) -> None:
        """Drive nothing any more; jobs go on, and the next agent goes on with the workflows."""
        await self._tasks.close()
        await asyncio.gather(*(driver.close() for driver in self))
        await self._means.member_jobs.close()

    def adopt(self, new: NewWorkflow) -> None:
        """Drive a workflow that has just been stored."""
        self.go_on(new.workflow, [Member(each.plan) for each in new.members])

    def go_on(self, workflow: Workflow, members: Sequence[Member]) -> Driver:
        """Drive a workflow that is stored with this progress."""
        driver = self._add(workflow, members)
        driver.start()
        return driver

    def newest(self, workflow: Workflow) -> Workflow:
        """Return the workflow as it is now."""
        driver = self._drivers.get(workflow.id)
        return workflow if driver is None else driver.workflow

    def _add(self, workflow: Workflow, members: Sequence[Member]) -> Driver:
        driver = Driver(workflow, members, self._means, self._forget)
        self._drivers[workflow.id] = driver
        return driver

    def _forget(self, workflow_id: WorkflowId) -> None:
        self._drivers.pop(workflow_id, None)
        for left in self._listeners:
            left(workflow_id)

    def _on_begun(self, record: JobRecord) -> None:
        if (driver := self._drivers.get(WorkflowId(record.workflow_id))) is not None:
            driver.job_begun(record)

    def _on_ended(self, record: JobRecord) -> None:
        if (driver := self._drivers.get(WorkflowId(record.workflow_id))) is not None:
            driver.job_ended(record)

    async def _sweep_slices(self) -> None:
        """Remove slices that an agent before has left; what runs in one would be stopped with it."""
        present = await self._means.slices.present()
        # Of a workflow that could not be read, say.
        in_use = {job.record.workflow_id for job in self._means.registry}
        for workflow_id in present:
            if workflow_id in self._drivers or workflow_id in in_use:
                continue
            try:
                await self._means.slices.remove(workflow_id)
            except JobletError as error:
                _log.warning("the slice of workflow %s stays until the next start: %s", workflow_id, error)
