"""``ports.WorkflowStore`` in memory, beside the job store that gets the jobs of its members."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobId, JobRecord, JobState
from joblet_agent.model.workflow import Member, NewMember, Progress, Workflow, WorkflowFilter, WorkflowId
from tests.fakes.job_store import MemoryJobStore


class MemoryWorkflowStore:
    """Keeps workflows in dicts; refuses to write while the job store does."""

    def __init__(self, jobs: MemoryJobStore) -> None:
        self.workflows: dict[WorkflowId, Workflow] = {}
        self.progress: dict[WorkflowId, dict[int, Progress]] = {}
        self.broken: set[WorkflowId] = set()
        """Their members cannot be read."""
        self._members: dict[WorkflowId, dict[int, NewMember]] = {}
        self._texts: dict[WorkflowId, str] = {}
        self._jobs = jobs

    async def create(self, workflow: Workflow, text: str, members: Sequence[NewMember]) -> None:
        await self._write()
        submissions = [_submission(each) for each in self.workflows.values() if each.token]
        if workflow.id in self.workflows or (workflow.token and _submission(workflow) in submissions):
            raise StoreFailed("cannot write to the state database: it is there", reason="STORE_FAILED")
        self.workflows[workflow.id] = workflow
        self.progress[workflow.id] = {each.plan.number: Progress() for each in members}
        self._members[workflow.id] = {each.plan.number: each for each in members}
        self._texts[workflow.id] = text

    async def save(
        self,
        workflow: Workflow,
        progress: Mapping[int, Progress],
        jobs: Sequence[JobRecord] = (),
    ) -> None:
        await self._write()
        if not progress.keys() <= self.progress.get(workflow.id, {}).keys():
            raise _not_stored(workflow.id)
        try:
            stored = self.workflows[workflow.id]
        except KeyError as error:
            raise _not_stored(workflow.id) from error
        self.workflows[workflow.id] = replace(
            workflow,
            groups=stored.groups,
            started_by=stored.started_by,
            created_at=stored.created_at,
        )
        self.progress[workflow.id] |= progress
        self._jobs.put(*jobs)

    async def get(self, workflow_id: WorkflowId) -> Workflow | None:
        return self.workflows.get(workflow_id)

    async def submitted(self, caller: str, token: str) -> Workflow | None:
        for each in self.workflows.values():
            if each.token and _submission(each) == (caller, token):
                return each
        return None

    async def find(self, prefix: str, *, most: int) -> Sequence[WorkflowId]:
        return sorted(each for each in self.workflows if each.startswith(prefix))[:most]

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        found = (each for each in self.workflows.values() if _is_wanted(each, wanted))
        return sorted(found, key=_creation, reverse=True)

    async def unfinished(self) -> Sequence[Workflow]:
        return sorted((each for each in self.workflows.values() if not each.state.has_ended), key=_creation)

    async def members(self, workflow_id: WorkflowId) -> Sequence[Member]:
        if workflow_id in self.broken:
            raise StoreFailed(f"cannot read workflow {workflow_id}", reason="WORKFLOW_BROKEN")
        progress = self.progress.get(workflow_id, {})
        members = self._members.get(workflow_id, {})
        return [Member(members[number].plan, progress[number]) for number in sorted(members)]

    async def templates(self, workflow_id: WorkflowId, numbers: Collection[int]) -> Mapping[int, JobRecord]:
        members = self._members.get(workflow_id, {})
        return {
            number: self._template(workflow_id, members[number]) for number in numbers if number in members
        }

    async def text(self, workflow_id: WorkflowId) -> str:
        return self._texts.get(workflow_id, "")

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[WorkflowId]:
        ended = sorted((each for each in self.workflows.values() if each.state.has_ended), key=_end)
        beyond = len(ended) - keep
        return [
            each.id
            for number, each in enumerate(ended)
            if number < beyond or (before is not None and _end(each)[0] < before)
        ]

    async def oldest_end(self) -> datetime | None:
        ends = (_end(each)[0] for each in self.workflows.values() if each.state.has_ended)
        return min(ends, default=None)

    async def jobs_of(self, workflow_id: WorkflowId) -> Sequence[JobId]:
        jobs = [each for each in self._jobs.records.values() if each.workflow_id == workflow_id]
        return [each.id for each in sorted(jobs, key=lambda each: (each.created_at, each.id))]

    async def delete(self, workflow_id: WorkflowId) -> None:
        await self._write()
        self.workflows.pop(workflow_id, None)
        self.progress.pop(workflow_id, None)
        self._members.pop(workflow_id, None)
        self._texts.pop(workflow_id, None)

    async def _write(self) -> None:
        await asyncio.sleep(0)  # a real one takes a moment, and so may lose its caller
        self._jobs.refuse()

    def _template(self, workflow_id: WorkflowId, member: NewMember) -> JobRecord:
        template = member.template
        return replace(
            template,
            id=JobId(workflow_id),
            spec=replace(template.spec, name=member.plan.name),
            state=JobState.PENDING,
            created_at=self.workflows[workflow_id].created_at,
            workflow_id=workflow_id,
        )


def _not_stored(workflow_id: WorkflowId) -> StoreFailed:
    return StoreFailed(
        f"cannot write to the state database: workflow {workflow_id}, or a job of it, is not there",
        reason="WORKFLOW_NOT_STORED",
    )


def _submission(workflow: Workflow) -> tuple[str, str]:
    return workflow.started_by, workflow.token.text if workflow.token else ""


def _creation(workflow: Workflow) -> tuple[datetime, str]:
    return workflow.created_at, workflow.id


def _end(workflow: Workflow) -> tuple[datetime, str]:
    return workflow.ended_at or workflow.created_at, workflow.id


def _is_wanted(workflow: Workflow, wanted: WorkflowFilter) -> bool:
    return (
        (wanted.include_ended or not workflow.state.has_ended)
        and workflow.id.startswith(wanted.id_prefix)
        and wanted.started_by in {"", workflow.started_by}
    )
