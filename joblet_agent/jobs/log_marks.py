"""What a job's record says of its log: that it was cut, and how far it is copied."""

from dataclasses import replace

from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.saving import save_until_done
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobId
from joblet_agent.ports import JobStore


class LogMarks:
    """Stores what the keeper of logs reports."""

    def __init__(self, registry: JobRegistry, store: JobStore) -> None:
        self._registry = registry
        self._store = store
        self._tasks = Tasks()

    async def close(self) -> None:
        """Store no more; the keeper, which is closed before, finds out again."""
        await self._tasks.close()

    def log_was_truncated(self, job_id: JobId) -> None:
        """Mark in the record that output beyond the size limit was cut."""
        self._tasks.start(self._mark_truncated(job_id), f"truncated-{job_id}")

    async def _mark_truncated(self, job_id: JobId) -> None:
        job = self._registry.get(job_id)
        if job is not None:
            job.record = replace(job.record, log_truncated=True)
            await save_until_done(self._store, job)
        elif (record := await self._store.get(job_id)) is not None:
            await self._store.save(replace(record, log_truncated=True))

    def log_was_copied(self, job_id: JobId, offset: int) -> None:
        """Remember how far the journal's copy is; of a job that ends it is no longer needed."""
        job = self._registry.get(job_id)
        if job is not None and not job.is_finishing:
            job.record = replace(job.record, journal_offset=offset)
            self._tasks.start(save_until_done(self._store, job), f"copied-{job_id}")
