"""Workflows that answer as they are told, for a server in this process."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from joblet_agent.model.files import NO_UPLOADS, Uploads
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Token
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.workflow import (
    Change,
    Counts,
    Member,
    MemberPlan,
    MemberState,
    Progress,
    Workflow,
    WorkflowFilter,
    WorkflowId,
    WorkflowState,
)
from joblet_agent.workflow_file.expression import End, Test
from joblet_agent.workflows.wanted import Planned, WantedWorkflow

WORKFLOW_ID = WorkflowId("9c1d0000-0000-4000-8000-000000000007")
JOB_ID = JobId("7f3a0000-0000-4000-8000-000000000008")
NOW = datetime(2026, 1, 31, 12, 0, 0, 987654, tzinfo=UTC)
RECORD = JobRecord(JOB_ID, JobSpec(command="make"), JobState.STOPPING, NOW, started_at=NOW)

WORKFLOW = Workflow(
    id=WORKFLOW_ID,
    created_at=NOW,
    name="nightly",
    file="nightly.yml",
    state=WorkflowState.RUNNING,
    started_by="bob",
    started_at=NOW,
    counts=Counts(total=2, active=1),
)
MEMBERS = (
    Member(MemberPlan(0, "build", "build"), Progress(MemberState.ACTIVE, JOB_ID, tries=1)),
    Member(MemberPlan(1, "test", "test", Test("build", frozenset({End.COMPLETED})))),
)
PLANNED = Planned("build", 1, "", None)


class FakeChanges:
    """Yields what it was made with, then ends, or never comes to an end with ``goes_on``."""

    def __init__(self, *changes: Change, goes_on: bool = False) -> None:
        self._left = list(changes)
        self._goes_on = goes_on
        self.closed = asyncio.Event()

    def __aiter__(self) -> "FakeChanges":
        return self

    async def __anext__(self) -> Change:
        if self._left:
            return self._left.pop(0)
        if self._goes_on:
            await asyncio.Event().wait()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed.set()


@dataclass
class FakeWorkflows:
    """Answers every call with ``workflow`` (``run`` with ``made``), or raises ``error``; keeps its calls."""

    workflow: Workflow = WORKFLOW
    made: Workflow | Schedule = WORKFLOW
    member_list: Sequence[Member] = MEMBERS
    listed: Sequence[Workflow] = (WORKFLOW,)
    planned: Sequence[Planned] = (PLANNED,)
    record: JobRecord | None = RECORD
    changes: "FakeChanges | None" = None
    error: BaseException | None = None
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def run(
        self,
        wanted: WantedWorkflow,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        token: Token | None = None,
    ) -> Workflow | Schedule:
        self._called("run", wanted, caller, uploads, token)
        return self.made

    async def check(
        self, wanted: WantedWorkflow, caller: Identity, paths: Collection[str], *, explain: bool
    ) -> Sequence[Planned]:
        self._called("check", wanted, caller, set(paths), explain)
        return self.planned

    async def get(self, given: str) -> Workflow:
        self._called("get", given)
        return self.workflow

    async def members(self, workflow: Workflow) -> Sequence[Member]:
        return self.member_list

    async def job(self, job_id: JobId) -> JobRecord | None:
        return self.record

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        self._called("all", wanted)
        return self.listed

    async def text(self, workflow: Workflow) -> str:
        return "jobs: {}"

    def slice_name(self, workflow_id: WorkflowId) -> str:
        return f"joblet-jobs-{workflow_id.replace('-', '')}.slice"

    async def watch(self, given: str) -> "FakeChanges":
        self._called("watch", given)
        assert self.changes is not None
        return self.changes

    async def stop(self, given: str) -> Workflow:
        self._called("stop", given)
        return self.workflow

    async def cancel(self, given: str) -> Workflow:
        self._called("cancel", given)
        return self.workflow

    async def pause(self, given: str) -> Workflow:
        self._called("pause", given)
        return self.workflow

    async def resume(self, given: str) -> Workflow:
        self._called("resume", given)
        return self.workflow

    async def retry(self, given: str, *, failed_only: bool) -> Workflow:
        self._called("retry", given, failed_only)
        return self.workflow

    async def delete(self, given: str) -> tuple[WorkflowId, int]:
        self._called("delete", given)
        return self.workflow.id, 2
