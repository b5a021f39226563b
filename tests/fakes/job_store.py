"""``ports.JobStore`` in memory, for tests of those who use one. tests/contract holds it to the real one."""

from collections.abc import Sequence
from datetime import datetime

from joblet_agent.errors import InvalidRequest, StoreFailed
from joblet_agent.model.job import JobFilter, JobId, JobPage, JobRecord
from tests.fakes.event_log import MemoryEventLog


class MemoryJobStore:
    """Keeps records in a dict; refuses to write while ``failure`` is set."""

    def __init__(self) -> None:
        self.records: dict[JobId, JobRecord] = {}
        self.failure: StoreFailed | None = None
        self.events = MemoryEventLog(self.records)

    async def save(self, *records: JobRecord) -> None:
        self.refuse()
        self.put(*records)

    def refuse(self) -> None:
        """Raise what a save raises now; beside ``put`` for stores that save jobs with something else."""
        self._check()

    def put(self, *records: JobRecord) -> None:
        """What a save does, in one step: nobody sees half of it."""
        self.events.saved(*records)
        self.records |= {record.id: record for record in records}

    async def delete(self, ids: Sequence[JobId]) -> None:
        self._check()
        for job_id in ids:
            if (record := self.records.pop(job_id, None)) is not None:
                self.events.deleted(record)

    async def get(self, job_id: JobId) -> JobRecord | None:
        return self.records.get(job_id)

    async def submitted(self, caller: str, token: str) -> JobRecord | None:
        for record in self.records.values():
            if record.token and (record.started_by, record.token.text) == (caller, token):
                return record
        return None

    async def find(self, prefix: str, *, most: int) -> Sequence[JobId]:
        return sorted(job_id for job_id in self.records if job_id.startswith(prefix))[:most]

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        last = _position(token) if token else None
        jobs = sorted(filter(lambda record: _is_wanted(record, wanted), self.records.values()), key=_creation)
        jobs = [record for record in reversed(jobs) if last is None or _creation(record) < last]
        return JobPage(tuple(jobs[:size]), _token(jobs[size - 1]) if len(jobs) > size else "")

    async def unfinished(self) -> Sequence[JobRecord]:
        return sorted((record for record in self.records.values() if not record.has_ended), key=_creation)

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[JobId]:
        ended = sorted((record for record in self.records.values() if record.has_ended), key=_end)
        beyond = len(ended) - keep
        return [
            record.id
            for number, record in enumerate(ended)
            if number < beyond or (before is not None and _end(record)[0] < before)
        ]

    async def oldest_end(self) -> datetime | None:
        self._check()
        return min((_end(record)[0] for record in self.records.values() if record.has_ended), default=None)

    async def ended_count(self) -> int:
        return sum(record.has_ended for record in self.records.values())

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure


def _token(record: JobRecord) -> str:
    return f"{record.created_at.isoformat()} {record.id}"


def _position(token: str) -> tuple[datetime, str]:
    try:
        created, job_id = token.split(" ")
        return datetime.fromisoformat(created), job_id
    except ValueError as error:
        raise InvalidRequest(
            "cannot list jobs: the page token is not one of this agent", reason="INVALID_PAGE_TOKEN"
        ) from error


def _creation(record: JobRecord) -> tuple[datetime, str]:
    return record.created_at, record.id


def _end(record: JobRecord) -> tuple[datetime, str]:
    return record.ended_at or record.created_at, record.id


def _is_wanted(record: JobRecord, wanted: JobFilter) -> bool:
    return (
        (not wanted.states or record.state in wanted.states)
        and record.id.startswith(wanted.id_prefix)
        and wanted.name in {"", record.spec.name}
        and record.schedule_id.startswith(wanted.schedule_prefix)
        and wanted.workflow_id in {"", record.workflow_id}
        and (wanted.created_since is None or record.created_at >= wanted.created_since)
    )
