"""Workflows for the store's tests."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from joblet_agent.model.job import JobRecord, JobState, Token
from joblet_agent.model.workflow import (
    Counts,
    MemberPlan,
    MemberState,
    NewMember,
    Progress,
    Wish,
    Workflow,
    WorkflowId,
    WorkflowState,
)
from joblet_agent.workflow_file.expression import All, Any, End, Not, Test
from joblet_agent.workflow_file.values import Retries
from tests.contract.job_records import START, full_record, job_id, record


def workflow_id(number: int) -> WorkflowId:
    return WorkflowId(job_id(number))


def workflow(number: int, state: WorkflowState = WorkflowState.RUNNING, **more: object) -> Workflow:
    """A workflow made so many minutes after START, ended a second later if it has."""
    created = START + timedelta(minutes=number)
    made = Workflow(workflow_id(number), created, state=state)
    if state.has_ended:
        made = replace(made, ended_at=created + timedelta(seconds=1))
    return replace(made, **more)  # type: ignore[arg-type]


def member(number: int, name: str = "", **more: object) -> NewMember:
    name = name or f"job-{number}"
    plan = replace(MemberPlan(number, name, name), **more)  # type: ignore[arg-type]
    return NewMember(plan, record(number, JobState.PENDING, name=name))


def template(made: Workflow, each: NewMember) -> JobRecord:
    """What the store has of the member's template."""
    own_id = job_id(int(made.id[-4:], 16))
    return replace(each.template, id=own_id, created_at=made.created_at, workflow_id=made.id)


FULL = Workflow(
    id=workflow_id(9),
    created_at=START + timedelta(microseconds=1),
    name="näme",
    file="a b.yml",
    description='"\\\n\0',
    state=WorkflowState.STOPPED,
    started_by="somebody",
    role="admin",
    scheduled_at=datetime(1970, 1, 1, tzinfo=UTC),
    started_at=START,
    ended_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    counts=Counts(28, 1, 2, 3, 4, 5, 6),
    max_parallel=7,
    groups={"m": ("m (a)", "m (b)"), "none": ()},
    is_paused=True,
    wish=Wish.STOP,
    has_files=True,
    schedule_id=job_id(8),
    token=Token("täken", "ab" * 32),
)

A = Test("a", frozenset({End.COMPLETED}))
B = Test('and "b"\\\n', frozenset({End.FAILED, End.STOPPED}))
FULL_MEMBER = NewMember(
    MemberPlan(
        number=3,
        name="m (ä, b)",
        group="m",
        requires=All((Any((A,)), Not(Any((A, B))), Any(()), Not(Not(All(()))))),
        is_for_failure=True,
        retries=Retries(3, timedelta(microseconds=1), 1.5, timedelta(days=365)),
        max_wait=timedelta(hours=1),
        upload_files=("a", "b c"),
        upload_directories=("d",),
        output_files=("out/x",),
        has_outputs=True,
        inputs=("a",),
    ),
    replace(
        full_record(3),
        spec=replace(full_record(3).spec, name="m (ä, b)"),
        state=JobState.PENDING,
    ),
)
FULL_PROGRESS = Progress(
    state=MemberState.FAILED,
    job_id=job_id(77),
    tries=4,
    not_before=START,
    started_at=datetime(1970, 1, 1, tzinfo=UTC),
    ended_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    exit_code=-1,
    message='"\\\n\0ä\udc80',
    outputs={"K": "", "\udc80": "a\0b\n'\"😀"},
)
