"""Records that have to be stored, whatever the disk says."""

import asyncio
import logging

from joblet_agent.errors import StoreFailed
from joblet_agent.jobs.registry import ActiveJob
from joblet_agent.ports import JobStore

_RETRY_FIRST, _RETRY_MOST = 0.2, 5.0

_log = logging.getLogger(__name__)


async def save_until_done(store: JobStore, job: ActiveJob) -> None:
    """Store the job's record, the newest; a full disk delays it, but the unit keeps the result meanwhile."""
    retry = _RETRY_FIRST
    while True:
        try:
            await store.save(job.record)
        except StoreFailed as error:
            _log.error("job %s is not recorded yet, trying again: %s", job.record.id, error)
            await asyncio.sleep(retry)
            retry = min(retry * 2, _RETRY_MOST)
        else:
            return
