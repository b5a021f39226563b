"""Job records for the store's tests."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, Token
from joblet_agent.model.runtime import PinnedRuntime

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def job_id(number: int) -> JobId:
    """Ids whose last digits are the number, so that they sort by it."""
    return JobId(str(uuid.UUID(int=(4 << 76) | (2 << 62) | number)))


def record(
    number: int, state: JobState = JobState.RUNNING, *, name: str = "", minutes: int | None = None
) -> JobRecord:
    """A job made so many minutes after START (its number, if not told), ended a second later if it has."""
    created = START + timedelta(minutes=number if minutes is None else minutes)
    made = JobRecord(
        id=job_id(number), spec=JobSpec("echo", ("a", "b"), name=name), state=state, created_at=created
    )
    if not state.has_ended:
        return made
    return replace(made, ended_at=created + timedelta(seconds=1), outcome=Outcome(state))


def full_record(number: int) -> JobRecord:
    """A job with something in every field, and texts that are hard to keep."""
    return JobRecord(
        id=job_id(number),
        spec=JobSpec(
            command="/bin/sh",
            args=("-c", "", "a\0b\n'\"", "ü€😀", "\udc80"),
            name="näme",
            environment={"A": "", "B": "x" * 10_000, "C": "\x1b[0m"},
            network="none",
            work_dir="/srv/x",
            profile="",
            schedule="Mon..Fri 02:00",
            skip_missed=True,
            secret_environment=("KEY", "S"),
            secret_files=("key.pem",),
            runtime="python:3.11",
        ),
        state=JobState.FAILED,
        created_at=START + timedelta(microseconds=1),
        started_by="somebody",
        uid=2**32 - 2,
        boot_id="b" * 32,
        invocation_id="i" * 32,
        started_at=datetime(1970, 1, 1, tzinfo=UTC),
        ended_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        outcome=Outcome(JobState.FAILED, Reason.SIGNAL, exit_code=-1, signal=9, message="killed"),
        stop_requested=True,
        main_pid=4_194_304,
        log_truncated=True,
        journal_offset=2**62,
        scheduled_at=datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC),
        schedule_id="7f3a0000-0000-4000-8000-0000000000ff",
        workflow_id="7f3a0000-0000-4000-8000-0000000000fe",
        dependencies=("extract", "a b"),
        token=Token("täken", "ab" * 32),
        runtime=PinnedRuntime("python-3.11", "1.2.0", "cd" * 32, {"A": "ü"}),
    )
