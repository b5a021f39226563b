"""What the job core asks of the keeper of logs, written down."""

from joblet_agent.jobs.logs import JobEnd
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import JobId, JobRecord


class FakeLogKeeper:
    """Stands for jobs/log_keeper.py: remembers whose log is kept."""

    def __init__(self) -> None:
        self.kept: dict[JobId, JobEnd] = {}

    def keep(self, record: JobRecord, paths: JobPaths, end: JobEnd) -> None:
        self.kept.setdefault(record.id, end)

    async def finished(self, job_id: JobId) -> None:
        """Nothing is done about a log here."""

    async def close(self) -> None:
        self.kept.clear()
