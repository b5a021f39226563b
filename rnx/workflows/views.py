"""Workflows for the eye and for programs: wire messages to tables, texts and JSON objects.

The keys of the objects are an interface (the tables of the specification); our own come after the given ones
and only when they say something.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rnx.output import Column, clean, status_word, table
from rnx.times import show_duration
from rnx.workflows.job_rows import job_data, job_lines
from rnx.workflows.moments import local_time, put_time, show_moment, wire_moment
from rnx.workflows.watching import ENDED

_ENDING = {"stop": "stopping", "cancel": "canceling"}


def list_data(workflow: Any, *, first_form: bool) -> dict[str, object]:
    """Return one element of ``workflow list --json``."""
    given = {
        "uuid": workflow.uuid,
        **({"workflow": workflow.workflow} if first_form else {}),
        **_counts(workflow),
    }
    times = {name: show_moment(workflow, name) for name in ("created_at", "started_at", "completed_at")}
    return given | {name: text for name, text in (times | _ours(workflow)).items() if text}


def list_table(workflows: Sequence[Any], *, first_form: bool) -> str:
    """Return the table of ``workflow list``; no cell is empty, because scripts count words."""
    if not workflows:
        return "No workflows found"
    state = Column("STATUS", paint=status_word)
    if first_form:
        rows = [[each.uuid, each.workflow, workflow_state(each), _progress(each)] for each in workflows]
        return table((Column("UUID"), Column("WORKFLOW"), state, Column("PROGRESS")), rows)
    rows = [
        [each.uuid, workflow_state(each), _progress(each), local_time(each, "created_at"), title(each)]
        for each in workflows
    ]
    return table((Column("UUID"), state, Column("PROGRESS"), Column("CREATED"), Column("NAME")), rows)


def status_data(workflow: Any, jobs: Sequence[Any], *, first_form: bool, detail: bool) -> dict[str, object]:
    """Return the object of ``workflow status --json``."""
    data: dict[str, object] = {
        "uuid": workflow.uuid,
        **({"workflow": workflow.workflow} if first_form else {}),
        **_counts(workflow),
    }
    for name in ("created_at", "started_at", "completed_at"):
        put_time(data, workflow, name)
    data["jobs"] = [job_data(job) for job in jobs]
    data |= {name: value for name, value in _ours(workflow).items() if value}
    if detail:
        data["yaml_content"] = workflow.yaml_content
    return data


def status_text(
    workflow: Any,
    jobs: Sequence[Any],
    *,
    first_form: bool = False,
    detail: bool = False,
    now: datetime | None = None,
) -> str:
    """Return the text of ``workflow status``: sections with a title, each only when it has content."""
    now = now or datetime.now(UTC)
    name = workflow.workflow if first_form else title(workflow)
    head = [f"Workflow UUID: {clean(workflow.uuid)}", *([f"Workflow: {clean(name)}"] if name else [])]
    yaml = ["YAML Content:", *(f"  {clean(line)}".rstrip() for line in workflow.yaml_content.splitlines())]
    blocks = [
        head,
        yaml if detail else [],
        [f"Status: {status_word(workflow_state(workflow))}", f"Progress: {progress_line(workflow)}"],
        ["Timing:", *(f"  {line}" for line in _timing(workflow, now))],
        ["Host:", f"  Slice: {clean(workflow.slice)}"] if detail and workflow.slice else [],
        ["Jobs in Workflow:", *job_lines(jobs, now, detail=detail)],
        ["Available Actions:", *(f"  {line}" for line in _actions(workflow))],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def progress_line(workflow: Any) -> str:
    """Return ``a/b jobs completed (n failed)``."""
    failed = f" ({workflow.failed_jobs} failed)" if workflow.failed_jobs else ""
    return f"{_progress(workflow)} jobs completed{failed}"


def title(workflow: Any) -> str:
    """Return its name for people, or that of its file."""
    return str(workflow.name or workflow.workflow)


def workflow_state(workflow: Any) -> str:
    """Return the state, and behind it what somebody wants of it: scripts take one word."""
    if workflow.status in ENDED:
        return str(workflow.status)
    more = _ENDING.get(workflow.ending) or ("paused" if workflow.paused else "")
    return f"{workflow.status} ({more})" if more else str(workflow.status)


def _counts(workflow: Any) -> dict[str, object]:
    return {
        "status": workflow.status,
        "total_jobs": workflow.total_jobs,
        "completed_jobs": workflow.completed_jobs,
        "failed_jobs": workflow.failed_jobs,
    }


def _ours(workflow: Any) -> dict[str, object]:
    names = (
        "name",
        "description",
        "paused",
        "ending",
        "started_by",
        "slice",
        "scheduled_time",
        "schedule_uuid",
    )
    counts = ("canceled_jobs", "running_jobs", "stopped_jobs", "skipped_jobs")
    return {name: getattr(workflow, name) for name in (*counts, *names)}


def _progress(workflow: Any) -> str:
    return f"{workflow.completed_jobs}/{workflow.total_jobs}"


def _timing(workflow: Any, now: datetime) -> list[str]:
    form = "%Y-%m-%d %H:%M:%S %Z"
    names = {"Created": "created_at", "Started": "started_at", "Completed": "completed_at"}
    times = {name: local_time(workflow, field, form) for name, field in names.items()}
    lines = [f"{name}: {text}" for name, text in times.items() if text]
    if workflow.scheduled_time:
        from rnx.times import show_time  # noqa: PLC0415

        lines.append(f"Scheduled Time: {clean(show_time(workflow.scheduled_time, zone=True))}")
    start, end = wire_moment(workflow, "started_at"), wire_moment(workflow, "completed_at")
    if start is not None:
        lines.append(f"Duration: {show_duration((end or now) - start)}")
    return lines


def _actions(workflow: Any) -> list[str]:
    form = f"rnx workflow {{}} {clean(workflow.uuid)}"
    if workflow.status in ENDED:
        words = ["logs", "retry", "delete"]
        if workflow.completed_jobs and workflow.completed_jobs < workflow.total_jobs:
            words.insert(1, "retry --failed")
    else:
        words = ["logs", "status --watch", "resume" if workflow.paused else "pause", "cancel", "stop"]
    return [form.format(word) for word in words]
