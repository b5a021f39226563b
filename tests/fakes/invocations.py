"""A journal that remembers the ends it was told of."""

from joblet_agent.model.job import JobId
from joblet_agent.ports import UnitStatus


class FakeInvocations:
    """ports.EndedInvocations in memory."""

    def __init__(self) -> None:
        self.ends: dict[tuple[JobId, str], UnitStatus] = {}

    def remember(self, status: UnitStatus) -> None:
        self.ends[status.job_id, status.invocation_id] = status

    async def status(self, job_id: JobId, invocation_id: str) -> UnitStatus | None:
        return self.ends.get((job_id, invocation_id))
