"""``ports.EventLog`` in memory. tests/contract holds it to the real one."""

from collections.abc import Callable, Mapping, Sequence

from joblet_agent.errors import EventsGone
from joblet_agent.model.event import DELETED, JobEvent
from joblet_agent.model.job import JobId, JobRecord
from tests.fakes.clock import BEGINNING

FIRST = 1000


class MemoryEventLog:
    """Remembers what a store of these records tells it."""

    def __init__(self, records: Mapping[JobId, JobRecord]) -> None:
        self._records = records
        self._events: list[JobEvent] = []
        self._listeners: set[Callable[[], None]] = set()
        self.newest = FIRST

    def saved(self, *records: JobRecord) -> None:
        for record in records:
            before = self._records.get(record.id)
            if before is None or before.state is not record.state:
                self._add(record, record.state.value)
        self._wake()

    def deleted(self, record: JobRecord) -> None:
        self._add(record, DELETED)
        self._wake()

    def forget_before(self, number: int) -> None:
        self._events = [event for event in self._events if event.number >= number]

    def listen(self, wake: Callable[[], None]) -> None:
        self._listeners.add(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        self._listeners.discard(wake)

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    async def events(self, after: int, *, most: int) -> Sequence[JobEvent]:
        found = [event for event in self._events if event.number > after][:most]
        if found[0].number != after + 1 if found else after > self.newest:
            raise EventsGone("cannot watch jobs: gone", reason="EVENTS_GONE", hint="list the jobs")
        return found

    async def standing(self, ids: Sequence[JobId]) -> tuple[int, Sequence[JobEvent]]:
        records = [self._records[job_id] for job_id in ids if job_id in self._records]
        if not ids:
            records = [record for record in self._records.values() if not record.has_ended]
        return self.newest, [_event(0, record, record.state.value) for record in records]

    async def mentions(self, job_id: JobId, *, after: int) -> bool:
        return any(event.job_id == job_id and event.number > after for event in self._events)

    def _add(self, record: JobRecord, word: str) -> None:
        self.newest += 1
        self._events.append(_event(self.newest, record, word))

    def _wake(self) -> None:
        for wake in list(self._listeners):
            wake()


def _event(number: int, record: JobRecord, word: str) -> JobEvent:
    outcome = record.outcome if word != DELETED else None
    time = record.ended_at if outcome and record.ended_at else BEGINNING
    return JobEvent(number, time, record.id, record.spec.name, word, outcome)
