"""Who uses runtimes: whatever has one in its record and may still start or run with it.

The store of records is asked, so nothing is counted and nothing can disagree. Whoever is about to be stored
holds the tree meanwhile (RuntimeStore.hold).
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence

from joblet_agent.model.job import JobFilter, JobRecord, JobState
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import Workflow
from joblet_agent.ports import JobStore, WorkflowStore

_ACTIVE = frozenset(state for state in JobState if not state.has_ended)
_PAGE = 500
_WHAT = {JobState.SCHEDULED: "scheduled", JobState.PENDING: "queued"}


class RuntimeUsers:
    """Tells who uses which digest. Methods raise StoreFailed."""

    def __init__(
        self, *, jobs: JobStore, workflows: WorkflowStore, schedules: Callable[[], Iterable[Schedule]]
    ) -> None:
        """``schedules`` returns those that there are."""
        self._jobs = jobs
        self._workflows = workflows
        self._schedules = schedules

    async def digests(self) -> Collection[str]:
        """Return every digest that is in use (RuntimeStore.users)."""
        return {digest async for digest, _ in self._uses()}

    async def users_of(self, digest: str) -> Sequence[str]:
        """Return the names of those who use it, for people: ``running job 7f3a1b2c``."""
        return list(dict.fromkeys([name async for used, name in self._uses() if used == digest]))

    async def _uses(self) -> AsyncIterator[tuple[str, str]]:
        """Yield each digest with the name of one who uses it."""
        token = ""
        while True:
            page = await self._jobs.page(JobFilter(states=_ACTIVE), size=_PAGE, token=token)
            for record in page.jobs:
                if record.runtime is not None:
                    yield record.runtime.digest, _name_of_job(record)
            token = page.next_token
            if not token:
                break
        for schedule in self._schedules():
            for digest in _digests_of(schedule.template):
                yield digest, f"schedule {_called(schedule.id, schedule.spec.name)}"
        for workflow in await self._workflows.unfinished():
            # Jobs that are not made yet: each begins with its template.
            templates = await self._workflows.templates(workflow.id, range(workflow.counts.total))
            for digest in {each.runtime.digest for each in templates.values() if each.runtime is not None}:
                yield digest, _name_of_workflow(workflow)


def _digests_of(template: JobRecord) -> Iterator[str]:
    if template.runtime is not None:
        yield template.runtime.digest
    yield from {each.digest for each in template.pins.values()}


def _name_of_job(record: JobRecord) -> str:
    return f"{_WHAT.get(record.state, 'running')} job {_called(record.id, record.spec.name)}"


def _name_of_workflow(workflow: Workflow) -> str:
    return f"workflow {_called(workflow.id, workflow.name)}"


def _called(whole_id: str, name: str) -> str:
    return f"{whole_id[:8]} ({name})" if name else whole_id[:8]
