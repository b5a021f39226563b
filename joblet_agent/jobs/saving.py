"""Records that have to be stored, whatever the disk says."""

import logging

from joblet_agent.errors import StoreFailed
from joblet_agent.jobs.registry import ActiveJob
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import JobStore

_log = logging.getLogger(__name__)


async def save_until_done(store: JobStore, job: ActiveJob) -> None:
    """Store the job's record, the newest; a full disk delays it, but the unit keeps the result meanwhile."""
    pause = GrowingPause()
    while True:
        try:
            await store.save(job.record)
        except StoreFailed as error:
            _log.error("job %s is not recorded yet, trying again: %s", job.record.id, error)
            await pause.wait()
        else:
            return
