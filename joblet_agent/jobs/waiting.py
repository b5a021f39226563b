"""Jobs that are stored and have not started: the queue, and those that start later.

What came with a job is stored before its record, and the record before the job is in the queue; the
recovery fills the queue again from the store. Their start is in jobs/launch.py.
"""

import asyncio
import logging
from collections.abc import Callable

from joblet_agent.errors import StoreFailed
from joblet_agent.jobs import files
from joblet_agent.jobs.belongings import Belongings, NotDelivered
from joblet_agent.jobs.files import Delivery
from joblet_agent.jobs.launch import JobLauncher
from joblet_agent.jobs.news import JobNews
from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.jobs.registry import JobRegistry
from joblet_agent.jobs.retention import Retention
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.ports import JobStore

_RETRY = 5.0

_log = logging.getLogger(__name__)


class WaitingJobs:
    """Keeps jobs until they start, and launches those of the queue while there is room."""

    def __init__(
        self,
        *,
        registry: JobRegistry,
        store: JobStore,
        launcher: JobLauncher,
        belongings: Belongings,
        retention: Retention,
        news: JobNews,
        paths: AgentPaths,
    ) -> None:
        self._registry = registry
        self._store = store
        self._launcher = launcher
        self._belongings = belongings
        self._retention = retention
        self._news = news
        self._paths = paths
        self._edits = asyncio.Lock()
        self._tasks = Tasks()

    def open(self) -> None:
        """Begin to launch from the queue. Call once, when the recovery has filled it."""
        self._tasks.start(self._pump(), "queue")
        self._registry.room_wanted.set()

    async def close(self) -> None:
        """Launch no more; what waits is found again by the next recovery."""
        await self._tasks.close()

    def enqueue(
        self, record: JobRecord, delivery: Delivery | None = None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[None]:
        """Store the job, the files of ``delivery`` and its secrets, and let it wait.

        In a task of its own, which raises what refused; the job is unknown then.
        """
        return self._tasks.start(self._enqueue(record, delivery, secrets), f"enqueue-{record.id}")

    async def _enqueue(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets) -> None:
        await self._store_unstarted(record, delivery, secrets)
        self.take_in(record.id)

    def take_in(self, job_id: JobId) -> None:
        """Let a job wait in the queue that is stored as PENDING already."""
        self._registry.queue.append(job_id)
        self._registry.room_wanted.set()

    def store_unstarted(
        self, record: JobRecord, delivery: Delivery | None, secrets: Secrets = NO_SECRETS
    ) -> asyncio.Task[None]:
        """Store a job that starts later, and what came with it; as ``enqueue``, but it is in no queue."""
        return self._tasks.start(self._store_unstarted(record, delivery, secrets), f"store-{record.id}")

    async def _store_unstarted(self, record: JobRecord, delivery: Delivery | None, secrets: Secrets) -> None:
        try:
            await self._belongings.bring(record, delivery, secrets, lasting=True)
            await self._store.save(record)
        except (StoreFailed, NotDelivered):
            await self._belongings.take_back(record)
            raise

    async def unstore(self, record: JobRecord) -> None:
        """Forget a job that was stored and then refused, with what came with it. Raises StoreFailed."""
        await self._belongings.discard_secrets(record)
        await self._retention.delete([record.id])

    def change(self, job_id: JobId, edit: Callable[[JobRecord], JobRecord]) -> asyncio.Task[JobRecord | None]:
        """Store another record of a job that waits; in a task of its own.

        The task returns the new record, or None if the job no longer waits; it raises StoreFailed, and what
        ``edit`` raises.
        """
        return self._tasks.start(self._change(job_id, edit), f"edit-{job_id}")

    async def _change(self, job_id: JobId, edit: Callable[[JobRecord], JobRecord]) -> JobRecord | None:
        async with self._edits:  # or it is launched with what it was before
            record = await self._store.get(job_id)
            if record is None or job_id not in self._registry.queue:  # last: it may be withdrawn meanwhile
                return None
            record = edit(record)
            await self._store.save(record)
            return record

    def withdraw(self, record: JobRecord) -> asyncio.Task[None]:
        """Store the end of a job that was taken out of the queue; it waits again if that fails."""
        return self._tasks.start(self._withdraw(record), f"withdraw-{record.id}")

    async def _withdraw(self, record: JobRecord) -> None:
        try:
            await self._end_unstarted(record)
        except StoreFailed:
            self.take_in(record.id)
            raise

    def end_unstarted(self, record: JobRecord) -> asyncio.Task[None]:
        """Store the end of a job that never started. The task raises StoreFailed; the job waits on then."""
        return self._tasks.start(self._end_unstarted(record), f"end-{record.id}")

    async def _end_unstarted(self, record: JobRecord) -> None:
        await self._store.save(record)
        await self._belongings.discard_secrets(record)
        self._registry.announce_end(record.id)
        self._news.ended(record)
        await asyncio.to_thread(files.remove_work, self._paths.job(record.id))
        self._retention.job_ended(record, has_files=False)

    async def _pump(self) -> None:
        while True:
            await self._registry.room_wanted.wait()
            self._registry.room_wanted.clear()
            try:
                await self._launch_waiting()
            except StoreFailed as error:
                _log.error("jobs from the queue cannot start now, trying again: %s", error)
                await asyncio.sleep(_RETRY)
                self._registry.room_wanted.set()

    async def _launch_waiting(self) -> None:
        queue = self._registry.queue
        async with self._edits:
            while self._registry.has_room and len(queue):
                job_id = queue.first()
                record = await self._store.get(job_id)
                if queue.remove(job_id) and record is not None and not record.has_ended:
                    self._launcher.launch(record)
