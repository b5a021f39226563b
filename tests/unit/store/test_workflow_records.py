"""Workflows as rows: nothing is lost, and what is none is said to be none."""

from dataclasses import fields
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.ids import JobId, WorkflowId
from joblet_agent.model.job import Token
from joblet_agent.model.workflow import (
    Counts,
    Member,
    MemberPlan,
    MemberState,
    Progress,
    Wish,
    Workflow,
    WorkflowState,
)
from joblet_agent.store.fields import to_json, usec_of
from joblet_agent.store.workflow_records import (
    UNREADABLE,
    MemberReader,
    json_of_plan,
    json_of_workflow,
    progress_fields,
    workflow_of,
)
from joblet_agent.workflow_file.expression import All, Any, Condition, End, Not, Test
from joblet_agent.workflow_file.values import Retries

TEXT = st.text(st.characters(), max_size=8)
TEXTS = st.lists(TEXT).map(tuple)
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC))
SPANS = st.timedeltas(timedelta(0))
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    st.builds(Test, TEXT, st.frozensets(st.sampled_from(End))),
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(All, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Any, st.lists(inner, max_size=3).map(tuple)),
    ),
)
WORKFLOW = {
    "id": st.uuids(version=4).map(str).map(WorkflowId),
    "created_at": TIMES,
    "name": TEXT,
    "file": TEXT,
    "description": TEXT,
    "state": st.sampled_from(WorkflowState),
    "started_by": TEXT,
    "role": TEXT,
    "scheduled_at": st.none() | TIMES,
    "started_at": st.none() | TIMES,
    "ended_at": st.none() | TIMES,
    "counts": st.builds(Counts, *[INT64] * 7),
    "max_parallel": INT64,
    "groups": st.dictionaries(TEXT, TEXTS),
    "is_paused": st.booleans(),
    "wish": st.sampled_from(Wish),
    "has_files": st.booleans(),
    "schedule_id": TEXT,
    "token": st.none() | st.builds(Token, TEXT, TEXT),
    "unknown": st.just({}),  # a record of this version has none
}
PLAN = {
    "number": st.integers(0, 2**31),
    "name": TEXT,
    "group": TEXT.filter(bool),
    "requires": CONDITIONS,
    "is_for_failure": st.booleans(),
    "retries": st.builds(Retries, INT64, SPANS, st.floats(allow_nan=False), SPANS),
    "max_wait": SPANS,
    "upload_files": TEXTS,
    "upload_directories": TEXTS,
    "output_files": TEXTS,
    "has_outputs": st.booleans(),
    "inputs": TEXTS,
}
PROGRESS = {
    "state": st.sampled_from(MemberState),
    "job_id": st.none() | st.uuids(version=4).map(str).map(JobId),
    "tries": INT64,
    "not_before": st.none() | TIMES,
    "started_at": st.none() | TIMES,
    "ended_at": st.none() | TIMES,
    "exit_code": INT64,
    "message": TEXT,
    "outputs": st.dictionaries(TEXT, TEXT),
}


def stored(progress: Progress) -> bytes:
    """As json_patch leaves it: without what is nothing."""
    return to_json({key: value for key, value in progress_fields(progress).items() if value is not None})


def test_every_field_is_tried() -> None:
    for kind, tried in ((Workflow, WORKFLOW), (MemberPlan, PLAN), (Progress, PROGRESS)):
        assert [field.name for field in fields(kind)] == list(tried)


@given(st.builds(Workflow, **WORKFLOW))
def test_a_workflow_survives_its_row(workflow: Workflow) -> None:
    row = (
        workflow.id,
        workflow.state.value,
        workflow.started_by,
        usec_of(workflow.created_at),
        json_of_workflow(workflow),
        to_json(dict(workflow.groups)),
    )
    assert workflow_of(row) == workflow


@given(st.lists(st.tuples(st.builds(MemberPlan, **PLAN), st.builds(Progress, **PROGRESS)), max_size=4))
def test_members_survive_their_rows(members: list[tuple[MemberPlan, Progress]]) -> None:
    reader = MemberReader()
    for plan, progress in members:
        row = (plan.number, plan.name, json_of_plan(plan), progress.state.value, stored(progress))
        assert reader.member(*row) == Member(plan, progress)


def test_what_is_the_same_in_many_members_is_there_once() -> None:
    reader = MemberReader()
    requires = Test("a", frozenset({End.COMPLETED}))
    plans = [MemberPlan(number, f"b{number}", f"b{number}", requires) for number in (1, 2)]
    first, second = (
        reader.member(each.number, each.name, json_of_plan(each), "WAITING", b"{}") for each in plans
    )
    assert [first.plan, second.plan] == plans
    assert first.plan.requires is second.plan.requires
    assert first.progress is second.progress


def test_what_a_newer_agent_stored_stays_in_the_workflow() -> None:
    newer = b'{"owner":"x","wish":"hurry","counts":{"total":1,"lost":2}}'
    workflow = workflow_of(("id", "RUNNING", "", usec_of(datetime(2026, 1, 1, tzinfo=UTC)), newer, b"{}"))
    assert (workflow.wish, workflow.counts) == (Wish.NONE, Counts(total=1))
    again = workflow_of(("id", "RUNNING", "", 0, json_of_workflow(workflow), b"{}"))
    assert again.unknown == {("owner",): "x", ("wish",): "hurry", ("counts", "lost"): 2}


JSON = st.recursive(
    st.none() | st.integers() | st.floats() | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["requires", "retries", "outputs", "all", "not", "counts", "wish"]), inner
        )
    ),
).map(to_json)


@given(st.binary() | JSON, st.binary() | JSON)
def test_any_bytes_are_a_row_or_unreadable(one: bytes, other: bytes) -> None:
    for read in (
        lambda: workflow_of(("id", "RUNNING", "", 0, one, other)),
        lambda: MemberReader().member(0, "a", one, "WAITING", other),
    ):
        try:
            read()
        except UNREADABLE as error:
            assert isinstance(error, Exception)  # noqa: PT017 - most bytes are none, some are
