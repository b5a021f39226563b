"""``ports.WorkflowStore`` on SQLite, in the threads of the job store.

What takes long for many members, to encode and to decode them, is done in a thread of its own: neither the
event loop waits for it nor those who want something else of the database.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TypeVar

from joblet_agent.errors import StoreFailed
from joblet_agent.model.job import JobId, JobRecord, JobState
from joblet_agent.model.workflow import (
    Member,
    NewMember,
    NewWorkflow,
    Progress,
    Workflow,
    WorkflowFilter,
    WorkflowId,
)
from joblet_agent.store import statements
from joblet_agent.store import workflow_statements as sql
from joblet_agent.store.fields import BrokenRecord, to_json, usec_of
from joblet_agent.store.records import json_of, record_of, row_of, submission_of
from joblet_agent.store.worker import Worker
from joblet_agent.store.workflow_records import (
    UNREADABLE,
    MemberReader,
    WorkflowRow,
    ended_usec,
    json_of_plan,
    json_of_workflow,
    progress_fields,
    workflow_of,
)

_FEW = 50
"""So many rows are encoded and decoded at once: that is faster than to ask a thread."""

T = TypeVar("T")

_log = logging.getLogger(__name__)


class SqliteWorkflowStore:
    """Workflows in the file of the job store, which owns the threads."""

    def __init__(self, writer: Worker, reader: Worker) -> None:
        self._writer = writer
        self._reader = reader

    async def create(self, workflow: Workflow, text: str, members: Sequence[NewMember]) -> None:
        """See ports.WorkflowStore."""
        rows = await new_rows(NewWorkflow(workflow, text, members))
        await self._writer.do(partial(sql.create, rows=rows))

    async def save(
        self,
        workflow: Workflow,
        progress: Mapping[int, Progress],
        jobs: Sequence[JobRecord] = (),
    ) -> None:
        """See ports.WorkflowStore."""
        rows = await _aside(partial(_changed_rows, workflow, progress, jobs), len(progress) + len(jobs))
        await self._writer.do(partial(sql.save, rows=rows))

    async def get(self, workflow_id: WorkflowId) -> Workflow | None:
        """See ports.WorkflowStore."""
        found = _sound(await self._reader.do(partial(sql.get, workflow_id=workflow_id)))
        return found[0] if found else None

    async def submitted(self, caller: str, token: str) -> Workflow | None:
        """See ports.WorkflowStore."""
        read = partial(sql.submitted, submission=submission_of(caller, token))
        found = _sound(await self._reader.do(read))
        return found[0] if found else None

    async def find(self, prefix: str, *, most: int) -> Sequence[WorkflowId]:
        """See ports.WorkflowStore."""
        read = partial(statements.find, prefix=prefix, most=most, table="workflows")
        return _workflow_ids(await self._reader.do(read))

    async def all(self, wanted: WorkflowFilter) -> Sequence[Workflow]:
        """See ports.WorkflowStore."""
        rows = await self._reader.do(partial(sql.all_wanted, wanted=wanted))
        return await _aside(partial(_sound, rows), len(rows))

    async def unfinished(self) -> Sequence[Workflow]:
        """See ports.WorkflowStore."""
        rows = await self._reader.do(sql.unfinished)
        return await _aside(partial(_sound, rows), len(rows))

    async def members(self, workflow_id: WorkflowId) -> Sequence[Member]:
        """See ports.WorkflowStore."""
        rows = await self._reader.do(partial(sql.members, workflow_id=workflow_id))
        return await _aside(partial(_members, workflow_id, rows), len(rows))

    async def templates(self, workflow_id: WorkflowId, numbers: Collection[int]) -> Mapping[int, JobRecord]:
        """See ports.WorkflowStore."""
        rows = await self._reader.do(partial(sql.templates, workflow_id=workflow_id, numbers=numbers))
        return await _aside(partial(_templates, workflow_id, rows), len(rows))

    async def text(self, workflow_id: WorkflowId) -> str:
        """See ports.WorkflowStore."""
        return await self._reader.do(partial(sql.text, workflow_id=workflow_id))

    async def ended_beyond(self, *, keep: int, before: datetime | None) -> Sequence[WorkflowId]:
        """See ports.WorkflowStore. The longest ended first."""
        read = partial(statements.ended_beyond, keep=keep, before=before, table="workflows")
        return _workflow_ids(await self._reader.do(read))

    async def oldest_end(self) -> datetime | None:
        """See ports.WorkflowStore."""
        return await self._reader.do(partial(statements.oldest_end, table="workflows"))

    async def jobs_of(self, workflow_id: WorkflowId) -> Sequence[JobId]:
        """See ports.WorkflowStore. The oldest first."""
        ids = await self._reader.do(partial(sql.jobs_of, workflow_id=workflow_id))
        return [JobId(each) for each in ids]

    async def delete(self, workflow_id: WorkflowId) -> None:
        """See ports.WorkflowStore."""
        await self._writer.do(partial(sql.delete, workflow_id=workflow_id))


async def new_rows(new: NewWorkflow) -> sql.NewRows:
    """Return the rows of a workflow that is to be stored."""
    return await _aside(partial(_new_rows, new.workflow, new.text, new.members), len(new.members))


async def _aside(work: Callable[[], T], rows: int) -> T:
    return work() if rows <= _FEW else await asyncio.to_thread(work)


def _new_rows(workflow: Workflow, text: str, members: Sequence[NewMember]) -> sql.NewRows:
    token = workflow.token
    return sql.NewRows(
        (
            workflow.id,
            workflow.state.value,
            workflow.started_by,
            submission_of(workflow.started_by, token.text) if token else "",
            usec_of(workflow.created_at),
            ended_usec(workflow),
            json_of_workflow(workflow),
        ),
        (workflow.id, to_json(dict(workflow.groups)), text),
        [
            (workflow.id, each.plan.number, each.plan.name, json_of_plan(each.plan), json_of(each.template))
            for each in members
        ],
    )


def _changed_rows(
    workflow: Workflow, progress: Mapping[int, Progress], jobs: Sequence[JobRecord]
) -> sql.ChangedRows:
    return sql.ChangedRows(
        (workflow.state.value, ended_usec(workflow), json_of_workflow(workflow), workflow.id),
        [
            (each.state.value, to_json(progress_fields(each)).decode(), workflow.id, number)
            for number, each in progress.items()
        ],
        [row_of(job) for job in jobs],
    )


def _sound(rows: Iterable[WorkflowRow]) -> list[Workflow]:
    """Return the workflows; a broken row stays where it is."""
    workflows = []
    for row in rows:
        try:
            workflows.append(workflow_of(row))
        except UNREADABLE as error:
            _log.error("workflow %r is broken and is left out: %s", row[0], error)
    return workflows


def _members(workflow_id: WorkflowId, rows: Iterable[sql.MemberRow]) -> list[Member]:
    reader = MemberReader()
    members = []
    for row in rows:
        try:
            members.append(reader.member(*row))
        except UNREADABLE as error:
            raise _broken(workflow_id, row[1], error) from error
    return members


def _templates(workflow_id: WorkflowId, rows: Iterable[sql.TemplateRow]) -> dict[int, JobRecord]:
    templates = {}
    for number, name, created_usec, template in rows:
        try:
            state = JobState.PENDING.value
            templates[number] = record_of(workflow_id, state, name, created_usec, template, workflow_id)
        except BrokenRecord as error:
            _log.error("what job %r of workflow %s is to run is broken: %s", name, workflow_id, error)
    return templates


def _broken(workflow_id: WorkflowId, name: str, error: Exception) -> StoreFailed:
    return StoreFailed(
        f"cannot read workflow {workflow_id}: what is stored of its job {name!r} is broken: {error}",
        reason="WORKFLOW_BROKEN",
        hint="delete the workflow and run it again: rnx workflow delete",
    )


def _workflow_ids(ids: Iterable[str]) -> list[WorkflowId]:
    return [WorkflowId(each) for each in ids]
