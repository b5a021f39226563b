"""Workflows, their plans and their progress as rows and back. Pure; as records.py.

A condition is stored as a tree, not as its expression: ``when: failure`` makes conditions that no expression
says (one of none, one of one), and trees are faster to read.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TypeAlias

from joblet_agent.model.job import JobId
from joblet_agent.model.workflow import (
    Counts,
    Member,
    MemberPlan,
    MemberState,
    Progress,
    Wish,
    Workflow,
    WorkflowId,
    WorkflowState,
)
from joblet_agent.store.fields import (
    BrokenRecord,
    Fields,
    from_json,
    put_back,
    time_of,
    to_json,
    usec_of,
    without_nothing,
)
from joblet_agent.store.records import token_fields, token_of
from joblet_agent.workflow_file.expression import All, Any, Condition, End, Not, Test
from joblet_agent.workflow_file.values import NEVER, NO_RETRIES, NOTHING_REQUIRED, Retries

WorkflowRow: TypeAlias = tuple[str, str, str, int, bytes, bytes]
"""id, state, started_by, created_usec, record, group_names."""

UNREADABLE = (BrokenRecord, ValueError, TypeError, OverflowError, RecursionError)
"""What reading of a broken row raises."""

_MICROSECOND = timedelta(microseconds=1)
_COUNTS = ("total", "active", "completed", "skipped", "canceled", "stopped", "failed")


def ended_usec(workflow: Workflow) -> int | None:
    """Return what retention orders by: None until it has ended, its creation when nobody knows the end."""
    return usec_of(workflow.ended_at or workflow.created_at) if workflow.state.has_ended else None


def json_of_workflow(workflow: Workflow) -> bytes:
    """Return what of a workflow is in no column, but for its groups."""
    fields = without_nothing(
        name=workflow.name,
        file=workflow.file,
        description=workflow.description,
        role=workflow.role,
        max_parallel=workflow.max_parallel,
        is_paused=workflow.is_paused,
        wish=workflow.wish.value,
        has_files=workflow.has_files,
        schedule_id=workflow.schedule_id,
        token=token_fields(workflow.token),
    )
    fields |= _times(
        scheduled_at=workflow.scheduled_at, started_at=workflow.started_at, ended_at=workflow.ended_at
    )
    fields["counts"] = without_nothing(**{name: getattr(workflow.counts, name) for name in _COUNTS})
    put_back(fields, workflow.unknown)
    return to_json(fields)


def workflow_of(row: WorkflowRow) -> Workflow:
    """Return the workflow; raises what is in UNREADABLE."""
    workflow_id, state, started_by, created_usec, record, group_names = row
    stored = Fields(from_json(record))
    counts = stored.inner("counts") or Fields({})
    return Workflow(
        id=WorkflowId(workflow_id),
        created_at=time_of(created_usec),
        name=stored.take("name", str, ""),
        file=stored.take("file", str, ""),
        description=stored.take("description", str, ""),
        state=WorkflowState(state),
        started_by=started_by,
        role=stored.take("role", str, ""),
        scheduled_at=stored.time("scheduled_at"),
        started_at=stored.time("started_at"),
        ended_at=stored.time("ended_at"),
        counts=Counts(**{name: counts.take(name, int, 0) for name in _COUNTS}),
        max_parallel=stored.take("max_parallel", int, 0),
        groups=Fields(from_json(group_names)).all_texts(),
        is_paused=stored.take("is_paused", bool, False),
        wish=stored.word("wish", Wish.NONE),
        has_files=stored.take("has_files", bool, False),
        schedule_id=stored.take("schedule_id", str, ""),
        token=token_of(stored),
        unknown=stored.unknown(),
    )


def json_of_plan(plan: MemberPlan) -> bytes:
    """Return what of a plan is in no column: the same for all that wait for the same, so it is read once."""
    return to_json(
        without_nothing(
            group="" if plan.group == plan.name else plan.group,
            requires=[] if plan.requires == NOTHING_REQUIRED else [_tree(plan.requires)],
            is_for_failure=plan.is_for_failure,
            retries=None if plan.retries == NO_RETRIES else _retries_fields(plan.retries),
            max_wait_usec=plan.max_wait // _MICROSECOND,
            upload_files=plan.upload_files,
            upload_directories=plan.upload_directories,
            output_files=plan.output_files,
            has_outputs=plan.has_outputs,
            inputs=plan.inputs,
        )
    )


class MemberReader:
    """Reads the rows of one workflow's members; what is the same in many of them is there once."""

    def __init__(self) -> None:
        self._plans: dict[bytes, MemberPlan] = {}
        self._progress: dict[tuple[str, bytes], Progress] = {}

    def member(self, number: int, name: str, plan: bytes, state: str, progress: bytes) -> Member:
        """Return the member; raises what is in UNREADABLE."""
        known = self._plans.get(plan)
        if known is None:
            known = self._plans[plan] = _plan_of(plan)
        became = self._progress.get((state, progress))
        if became is None:
            became = self._progress[state, progress] = _progress_of(state, progress)
        return Member(replace(known, number=number, name=name, group=known.group or name), became)


def _plan_of(plan: bytes) -> MemberPlan:
    stored = Fields(from_json(plan))
    return MemberPlan(
        number=0,
        name="",
        group=stored.take("group", str, ""),
        requires=_requires(stored.take("requires", list, [])),
        is_for_failure=stored.take("is_for_failure", bool, False),
        retries=_retries(stored),
        max_wait=stored.take("max_wait_usec", int, 0) * _MICROSECOND,
        upload_files=stored.texts("upload_files"),
        upload_directories=stored.texts("upload_directories"),
        output_files=stored.texts("output_files"),
        has_outputs=stored.take("has_outputs", bool, False),
        inputs=stored.texts("inputs"),
    )


def _retries_fields(retries: Retries) -> dict[str, object]:
    return {
        "count": retries.count,
        "delay_usec": retries.delay // _MICROSECOND,
        "backoff": float(retries.backoff),
        "max_delay_usec": retries.max_delay // _MICROSECOND,
    }


def _retries(stored: Fields) -> Retries:
    retries = stored.inner("retries")
    if retries is None:
        return NO_RETRIES
    return Retries(
        count=retries.take("count", int, 0),
        delay=retries.take("delay_usec", int, 0) * _MICROSECOND or NEVER,
        backoff=retries.take("backoff", float, 1.0),
        max_delay=retries.take("max_delay_usec", int, 0) * _MICROSECOND or NEVER,
    )


def _tree(condition: Condition) -> object:
    match condition:
        case Test(job, ends):
            return [job, *(end.value for end in End if end in ends)]
        case Not(inner):
            return {"not": _tree(inner)}
        case All(several):
            return {"all": [_tree(each) for each in several]}
        case Any(several):
            return {"any": [_tree(each) for each in several]}


def _requires(trees: list[object]) -> Condition:
    return _condition(trees[0]) if trees else NOTHING_REQUIRED


def _condition(tree: object) -> Condition:
    match tree:
        case [str(job), *ends]:
            return Test(job, _ends(tuple(ends)))
        case {"not": inner, **others} if not others:
            return Not(_condition(inner))
        case {"all": [*several], **others} if not others:
            return All(tuple(_condition(each) for each in several))
        case {"any": [*several], **others} if not others:
            return Any(tuple(_condition(each) for each in several))
    raise BrokenRecord("requires is no condition")


@lru_cache(maxsize=64)  # as many sets as there are, and some more
def _ends(words: tuple[str, ...]) -> frozenset[End]:
    return frozenset(End(word) for word in words)


def progress_fields(progress: Progress) -> dict[str, object]:
    """Return what of a member's progress is in no column; None for a field that has its default."""
    fields: dict[str, object] = {
        "job_id": progress.job_id,
        "tries": progress.tries,
        "exit_code": progress.exit_code,
        "message": progress.message,
        # No object: json_patch (workflows.py) would merge the old outputs into the new ones.
        "outputs": [[key, value] for key, value in progress.outputs.items()],
    }
    times: dict[str, object] = {"not_before": None, "started_at": None, "ended_at": None}
    times |= _times(
        not_before=progress.not_before, started_at=progress.started_at, ended_at=progress.ended_at
    )
    return {**{key: value or None for key, value in fields.items()}, **times}


def _progress_of(state: str, progress: bytes) -> Progress:
    stored = Fields(from_json(progress))
    job_id = stored.take("job_id", str, "")
    return Progress(
        state=MemberState(state),
        job_id=JobId(job_id) if job_id else None,
        tries=stored.take("tries", int, 0),
        not_before=stored.time("not_before"),
        started_at=stored.time("started_at"),
        ended_at=stored.time("ended_at"),
        exit_code=stored.take("exit_code", int, 0),
        message=stored.take("message", str, ""),
        outputs=_outputs(stored.take("outputs", list, [])),
    )


def _outputs(pairs: list[object]) -> Mapping[str, str]:
    outputs = {}
    for pair in pairs:
        match pair:
            case [str(key), str(value)]:
                outputs[key] = value
            case _:
                raise BrokenRecord("outputs are no pairs of texts")
    return outputs


def _times(**times: datetime | None) -> dict[str, int]:
    return {key: usec_of(time) for key, time in times.items() if time is not None}
