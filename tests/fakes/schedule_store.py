"""``ports.ScheduleStore`` in memory, beside the job store that gets the jobs of its starts."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from joblet_agent.model.job import JobRecord
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.workflow import NewWorkflow
from tests.fakes.job_store import MemoryJobStore
from tests.fakes.workflow_store import MemoryWorkflowStore


class MemoryScheduleStore:
    """Keeps schedules in a dict; refuses to write while the job store does."""

    def __init__(self, jobs: MemoryJobStore, workflows: MemoryWorkflowStore | None = None) -> None:
        self.schedules: dict[ScheduleId, Schedule] = {}
        self._jobs = jobs
        self._workflows = workflows

    async def save(self, schedule: Schedule) -> None:
        await self._write()
        self.schedules[schedule.id] = schedule

    async def claim(
        self,
        schedule: Schedule,
        *,
        due: datetime,
        job: JobRecord | None = None,
        workflow: NewWorkflow | None = None,
    ) -> bool:
        await self._write()
        stored = self.schedules.get(schedule.id)
        if stored is None or stored.next_at != due:
            return False
        self.schedules[schedule.id] = schedule
        if job is not None:
            await self._jobs.save(job)
        if workflow is not None:
            assert self._workflows is not None
            await self._workflows.create(workflow.workflow, workflow.text, workflow.members)
        return True

    async def delete(self, schedule_id: ScheduleId) -> None:
        await self._write()
        self.schedules.pop(schedule_id, None)

    async def all(self) -> Sequence[Schedule]:
        return sorted(self.schedules.values(), key=lambda each: (each.created_at, each.id))

    async def _write(self) -> None:
        await asyncio.sleep(0)  # a real one takes a moment, and so may lose its caller
        if self._jobs.failure is not None:
            raise self._jobs.failure
