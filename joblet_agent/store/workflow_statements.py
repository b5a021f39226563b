"""Workflows on a connection: the statements. Runs in the store's threads."""

import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from joblet_agent.errors import StoreFailed
from joblet_agent.model.workflow import WorkflowFilter, WorkflowId
from joblet_agent.store import statements
from joblet_agent.store.pages import prefix_range
from joblet_agent.store.records import Row
from joblet_agent.store.workflow_records import WorkflowRow

_INSERT = """
    INSERT INTO workflows (id, state, started_by, submission, created_usec, ended_usec, record)
    VALUES (?, ?, ?, ?, ?, ?, ?)
"""
_INSERT_TEXT = "INSERT INTO workflow_texts (workflow_id, group_names, text) VALUES (?, ?, ?)"
_INSERT_MEMBER = (
    "INSERT INTO workflow_members (workflow_id, number, state, progress) VALUES (?, ?, 'WAITING', x'7b7d')"
)
_INSERT_PLAN = "INSERT INTO workflow_plans (workflow_id, number, name, plan, template) VALUES (?, ?, ?, ?, ?)"
_UPDATE = "UPDATE workflows SET state = ?, ended_usec = ?, record = ? WHERE id = ?"
# What a newer agent has added to the progress stays.
_UPDATE_MEMBER = """
    UPDATE workflow_members SET state = ?1, progress = CAST(json_patch(
    CASE WHEN json_valid(CAST(progress AS TEXT)) THEN CAST(progress AS TEXT) ELSE '{}' END, ?2) AS BLOB)
    WHERE workflow_id = ?3 AND number = ?4
"""
# A row that has lost its other half is a broken one: nothing is no JSON.
_SELECT = """
    SELECT id, state, started_by, created_usec, record, coalesce(group_names, x'')
    FROM workflows LEFT JOIN workflow_texts ON workflow_id = id
"""
_MEMBERS = """
    SELECT number, name, plan, coalesce(state, ''), coalesce(progress, x'')
    FROM workflow_plans LEFT JOIN workflow_members USING (workflow_id, number)
    WHERE workflow_id = ? ORDER BY number
"""
_TEMPLATE = """
    SELECT number, name, created_usec, template FROM workflow_plans JOIN workflows ON id = workflow_id
    WHERE workflow_id = ? AND number = ?
"""

PlanRow: TypeAlias = tuple[str, int, str, bytes, bytes]
"""workflow_id, number, name, plan, template."""
ProgressRow: TypeAlias = tuple[str, str, str, int]
"""state, progress as a patch, workflow_id, number."""
MemberRow: TypeAlias = tuple[int, str, bytes, str, bytes]
"""number, name, plan, state, progress."""
TemplateRow: TypeAlias = tuple[int, str, int, bytes]
"""number, name, created_usec of the workflow, template."""


@dataclass(frozen=True, slots=True)
class NewRows:
    """All of a new workflow."""

    workflow: tuple[str, str, str, str, int, int | None, bytes]
    """id, state, started_by, submission, created_usec, ended_usec, record."""
    text: tuple[str, bytes, str]
    """workflow_id, group_names, text."""
    plans: Sequence[PlanRow]


@dataclass(frozen=True, slots=True)
class ChangedRows:
    """What has changed of a workflow."""

    workflow: tuple[str, int | None, bytes, str]
    """state, ended_usec, record, id."""
    progress: Sequence[ProgressRow]
    jobs: Sequence[Row]


def create(connection: sqlite3.Connection, rows: NewRows) -> None:
    """Insert all of it."""
    connection.execute(_INSERT, rows.workflow)
    connection.execute(_INSERT_TEXT, rows.text)
    connection.executemany(_INSERT_PLAN, rows.plans)
    connection.executemany(_INSERT_MEMBER, [row[:2] for row in rows.plans])


def save(connection: sqlite3.Connection, rows: ChangedRows) -> None:
    """Replace what has changed and insert the jobs."""
    changed = connection.execute(_UPDATE, rows.workflow).rowcount
    if rows.progress:
        changed += connection.executemany(_UPDATE_MEMBER, rows.progress).rowcount
    if changed != 1 + len(rows.progress):
        raise StoreFailed(
            f"cannot write to the state database: workflow {rows.workflow[-1]}, or a job of it, is not there",
            reason="WORKFLOW_NOT_STORED",
            hint="please report this",
        )
    statements.save(connection, rows.jobs)


def get(connection: sqlite3.Connection, workflow_id: WorkflowId) -> list[WorkflowRow]:
    """Read the row of this id."""
    return connection.execute(f"{_SELECT} WHERE id = ?", (workflow_id,)).fetchall()


def submitted(connection: sqlite3.Connection, submission: str) -> list[WorkflowRow]:
    """Read the row that a submission made."""
    # The second half tells the planner that the partial index serves.
    where = "WHERE submission = ? AND submission <> ''"
    return connection.execute(f"{_SELECT} {where}", (submission,)).fetchall()


def unfinished(connection: sqlite3.Connection) -> list[WorkflowRow]:
    """Read the rows of those that have not ended, oldest first."""
    return connection.execute(f"{_SELECT} WHERE ended_usec IS NULL ORDER BY created_usec, id").fetchall()


def all_wanted(connection: sqlite3.Connection, wanted: WorkflowFilter) -> list[WorkflowRow]:
    """Read the rows, newest first."""
    terms = ["TRUE"]
    values: list[str] = []
    if not wanted.include_ended:
        terms.append("ended_usec IS NULL")
    if wanted.id_prefix:
        terms.append("id >= ? AND id < ?")
        values += prefix_range(wanted.id_prefix)
    if wanted.started_by:
        terms.append("started_by = ?")
        values.append(wanted.started_by)
    where = f"WHERE {' AND '.join(terms)} ORDER BY created_usec DESC, id DESC"
    return connection.execute(f"{_SELECT} {where}", values).fetchall()


def members(connection: sqlite3.Connection, workflow_id: WorkflowId) -> list[MemberRow]:
    """Read all of a workflow's, by number."""
    return connection.execute(_MEMBERS, (workflow_id,)).fetchall()


def templates(
    connection: sqlite3.Connection, workflow_id: WorkflowId, numbers: Collection[int]
) -> list[TemplateRow]:
    """Read those that there are."""
    found = (connection.execute(_TEMPLATE, (workflow_id, number)).fetchone() for number in numbers)
    return [row for row in found if row is not None]


def text(connection: sqlite3.Connection, workflow_id: WorkflowId) -> str:
    """Read the text; empty if there is none."""
    row = connection.execute(
        "SELECT text FROM workflow_texts WHERE workflow_id = ?", (workflow_id,)
    ).fetchone()
    return "" if row is None else str(row[0])


def jobs_of(connection: sqlite3.Connection, workflow_id: WorkflowId) -> list[str]:
    """Read the ids of its jobs, oldest first."""
    sql = "SELECT id FROM jobs WHERE workflow_id = ? AND workflow_id <> '' ORDER BY created_usec, id"
    return [job_id for (job_id,) in connection.execute(sql, (workflow_id,))]


def delete(connection: sqlite3.Connection, workflow_id: WorkflowId) -> None:
    """Delete all rows but those of jobs."""
    for table in ("workflow_members", "workflow_plans", "workflow_texts"):
        connection.execute(f"DELETE FROM {table} WHERE workflow_id = ?", (workflow_id,))  # noqa: S608
    connection.execute("DELETE FROM workflows WHERE id = ?", (workflow_id,))
