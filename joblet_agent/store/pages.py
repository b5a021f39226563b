"""Which rows a page of jobs has, newest first. Pure.

A page continues by key and not by number, so that jobs that come and go meanwhile neither repeat a row
nor hide one.
"""

import base64
import re
from dataclasses import dataclass

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.job import JobFilter, JobState
from joblet_agent.store.fields import usec_of

_TOKEN = re.compile(r"(-?[0-9]{1,18}) ([0-9a-f-]{36})", re.ASCII)
SELECT = "SELECT number, id, state, name, workflow_id, created_usec, record FROM jobs"
"""Begins every query for records."""

_RECORD = "CAST(record AS TEXT)"
_ID_LENGTH = 36
_ABOVE_ANY_TEXT = "\U0010ffff"


@dataclass(frozen=True, slots=True)
class Position:
    """The last row of a page."""

    created_usec: int
    job_id: str

    def token(self) -> str:
        """Return the text that ``position_of`` reads; callers must not look inside."""
        return base64.urlsafe_b64encode(f"{self.created_usec} {self.job_id}".encode()).decode().rstrip("=")


def position_of(token: str) -> Position | None:
    """Return where the page begins: None at the newest. Raises InvalidRequest for any other text."""
    if not token:
        return None
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode(
            "ascii"
        )
    except ValueError as error:
        raise _not_ours() from error
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise _not_ours()
    return Position(int(match[1]), match[2])


def _not_ours() -> InvalidRequest:
    return InvalidRequest(
        "cannot list jobs: the page token is not one of this agent",
        reason="INVALID_PAGE_TOKEN",
        hint="pass next_page_token of the page before, or none for the first page",
    )


@dataclass(frozen=True, slots=True)
class Query:
    """A statement and its parameters."""

    sql: str
    parameters: tuple[str | int, ...]


def page_query(wanted: JobFilter, position: Position | None, most: int) -> Query:
    """Return the query for up to ``most`` rows after the position.

    The inner query finds the row numbers in an index alone; only those rows are then read. For states
    it asks one by one, as each state is in the wanted order in its index while several are not.
    """
    states: list[JobState | None] = [*sorted(wanted.states)] or [None]
    parts = [_numbers(wanted, state, position, most) for state in states]
    numbers = " UNION ALL ".join(f"SELECT number FROM ({part.sql})" for part in parts)  # noqa: S608
    sql = f"{SELECT} WHERE number IN ({numbers}) ORDER BY created_usec DESC, id DESC LIMIT ?"
    return Query(sql, (*(value for part in parts for value in part.parameters), most))


def prefix_range(prefix: str) -> tuple[str, str]:
    """Return the bounds, the upper one exclusive, between which an index has the texts with the prefix."""
    return prefix, prefix + _ABOVE_ANY_TEXT


def _numbers(wanted: JobFilter, state: JobState | None, position: Position | None, most: int) -> Query:
    terms: list[tuple[str, tuple[str | int, ...]]] = []
    if state is not None:
        terms.append(("state = ?", (state.value,)))
    if wanted.name:
        # The second half tells the planner that the partial index serves.
        terms.append(("name = ? AND name <> ''", (wanted.name,)))
    if len(wanted.schedule_prefix) == _ID_LENGTH:  # whose jobs are in the wanted order in the index
        terms.append(("schedule_id = ? AND schedule_id <> ''", (wanted.schedule_prefix,)))
    elif wanted.schedule_prefix:
        bounds = prefix_range(wanted.schedule_prefix)
        terms.append(("schedule_id >= ? AND schedule_id < ? AND schedule_id <> ''", bounds))
    if wanted.workflow_id:
        terms.append(("workflow_id = ? AND workflow_id <> ''", (wanted.workflow_id,)))
    if wanted.created_since is not None:
        terms.append(("created_usec >= ?", (usec_of(wanted.created_since),)))
    if wanted.id_prefix:
        terms.append(("id >= ? AND id < ?", prefix_range(wanted.id_prefix)))
    if wanted.started_by:
        # No index: who sees only their own looks through everybody's. A broken record belongs to nobody.
        terms.append(
            (
                f"CASE WHEN json_valid({_RECORD}) THEN json_extract({_RECORD}, '$.started_by') END = ?",
                (wanted.started_by,),
            )
        )
    if position is not None:
        terms.append(("(created_usec, id) < (?, ?)", (position.created_usec, position.job_id)))
    where = " AND ".join(term for term, _ in terms) or "TRUE"
    sql = f"SELECT number FROM jobs WHERE {where} ORDER BY created_usec DESC, id DESC LIMIT ?"  # noqa: S608
    return Query(sql, (*(value for _, values in terms for value in values), most))
