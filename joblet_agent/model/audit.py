"""What is recorded of who did what."""

from dataclasses import dataclass
from enum import StrEnum

from joblet_agent.model.job import JobRecord
from joblet_agent.model.workflow import Workflow


class AuditResult(StrEnum):
    """How a call ended, or that it has begun."""

    BEGUN = "begun"
    """A stream; a second record tells its end."""
    DONE = "done"
    FAILED = "failed"
    DENIED = "denied"
    CANCELLED = "cancelled"
    """The caller went away; what had begun may have been done all the same."""
    NOT_RECORDED = "not-recorded"
    """Stands for as many denied calls as ``count`` says."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What a call is about, as far as it is known: ids, or what the caller gave for one."""

    job_id: str = ""
    schedule_id: str = ""
    workflow_id: str = ""
    name: str = ""
    """Of a network, a volume, a runtime or the file of a workflow."""
    command: str = ""
    """The program, never its arguments: people write passwords there."""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One record. Texts may hold whatever a caller sent."""

    caller: str
    """Empty if nobody knows."""
    role: str
    address: str
    rpc: str
    """``Service/Method``; for what the agent starts by itself TIMER."""
    result: AuditResult
    reason: str = ""
    """The stable word of an error."""
    subject: Subject = Subject()
    count: int = 1


TIMER = "timer"
"""In place of a method: a start that was due. The caller is who asked for it, at an earlier time."""


def start_by_timer(record: JobRecord) -> AuditEntry:
    """Return the record of a start that was due."""
    return AuditEntry(
        caller=record.started_by,
        role="",
        address="",
        rpc=TIMER,
        result=AuditResult.DONE,
        subject=Subject(job_id=record.id, schedule_id=record.schedule_id, command=record.spec.command),
    )


def start_of_workflow_by_timer(workflow: Workflow) -> AuditEntry:
    """Return the record of a workflow that was due."""
    return AuditEntry(
        caller=workflow.started_by,
        role="",
        address="",
        rpc=TIMER,
        result=AuditResult.DONE,
        subject=Subject(workflow_id=workflow.id, schedule_id=workflow.schedule_id, name=workflow.file),
    )
