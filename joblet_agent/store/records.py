"""A job record as a row and back. Pure.

Of a record, what queries ask for is in columns; the rest is one compact JSON object whose keys are the
field names of model/job.py and which leaves out what has its default. So a record of an older agent gets
the defaults of fields that came later; whoever gives a key another meaning adds a migration (schema.py).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, Token
from joblet_agent.model.metrics import FIGURES, Usage
from joblet_agent.model.resources import NOTHING, Resources

Row = tuple[str, str, str, str, str, int, int | None, bytes]
"""id, state, name, schedule_id, submission, created_usec, ended_usec, record."""

T = TypeVar("T")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# With the default escapes the text is ASCII, so that even a lone surrogate comes back as it was.
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode


class BrokenRecord(Exception):
    """What is stored is not a job record."""


def row_of(record: JobRecord) -> Row:
    """Return the record's row."""
    ended = record.ended_at or record.created_at if record.has_ended else None
    return (
        record.id,
        record.state.value,
        record.spec.name,
        record.schedule_id,
        submission_of(record.started_by, record.token.text) if record.token else "",
        usec_of(record.created_at),
        None if ended is None else usec_of(ended),
        json_of(record),
    )


def submission_of(caller: str, token: str) -> str:
    """Return what no two jobs have in common. A token is one line, whatever a caller's name is."""
    return f"{token}\n{caller}"


def json_of(record: JobRecord) -> bytes:
    """Return what of the record is in no column."""
    return _to_json(_record_fields(record)).encode()


def record_of(job_id: str, state: str, name: str, created_usec: int, record: bytes) -> JobRecord:
    """Return the record that a row holds; raise BrokenRecord if it holds none."""
    try:
        stored = _Fields(_from_json(record.decode()))
        return JobRecord(
            id=JobId(job_id),
            spec=_spec(stored, name),
            state=JobState(state),
            created_at=time_of(created_usec),
            started_by=stored.take("started_by", str, ""),
            uid=stored.take("uid", int, 0),
            boot_id=stored.take("boot_id", str, ""),
            invocation_id=stored.take("invocation_id", str, ""),
            started_at=stored.time("started_at"),
            ended_at=stored.time("ended_at"),
            outcome=_outcome(stored),
            stop_requested=stored.take("stop_requested", bool, False),
            main_pid=stored.take("main_pid", int, 0),
            log_truncated=stored.take("log_truncated", bool, False),
            journal_offset=stored.take("journal_offset", int, 0),
            scheduled_at=stored.time("scheduled_at"),
            schedule_id=stored.take("schedule_id", str, ""),
            usage=_usage(stored),
            unapplied_limits=stored.texts("unapplied_limits"),
            token=_token(stored),
        )
    # json and Enum raise ValueError; times out of range OverflowError; deep nesting RecursionError.
    except (ValueError, OverflowError, RecursionError) as error:
        raise BrokenRecord(str(error)) from error


def usec_of(time: datetime) -> int:
    """Return the microseconds since 1970 of an aware time."""
    return (time - _EPOCH) // _MICROSECOND


def _record_fields(record: JobRecord) -> dict[str, object]:
    spec = record.spec
    times = {
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "scheduled_at": record.scheduled_at,
    }
    return {
        **{key: usec_of(time) for key, time in times.items() if time is not None},
        **_without_nothing(
            command=spec.command,
            args=spec.args,
            environment=dict(spec.environment),
            network=spec.network,
            work_dir=spec.work_dir,
            work_size=spec.work_size,
            uploads=spec.uploads,
            profile=spec.profile,
            schedule=spec.schedule,
            skip_missed=spec.skip_missed,
            resources=_resource_fields(spec.resources),
            secret_environment=spec.secret_environment,
            secret_files=spec.secret_files,
            started_by=record.started_by,
            uid=record.uid,
            boot_id=record.boot_id,
            invocation_id=record.invocation_id,
            outcome=_outcome_fields(record.outcome) if record.outcome else None,
            stop_requested=record.stop_requested,
            main_pid=record.main_pid,
            log_truncated=record.log_truncated,
            journal_offset=record.journal_offset,
            schedule_id=record.schedule_id,
            unapplied_limits=record.unapplied_limits,
            token={"text": record.token.text, "digest": record.token.digest} if record.token else None,
        ),
        **({} if record.usage is None else {"usage": _without_nothing(**asdict(record.usage))}),
    }


def _outcome_fields(outcome: Outcome) -> dict[str, object]:
    return _without_nothing(
        state=outcome.state.value,
        reason=outcome.reason.value,
        exit_code=outcome.exit_code,
        signal=outcome.signal,
        message=outcome.message,
    )


def _resource_fields(resources: Resources) -> dict[str, object]:
    return _without_nothing(
        max_cpu=resources.max_cpu,
        max_memory=resources.max_memory,
        max_io_bps=resources.max_io_bps,
        cpu_cores=resources.cpu_cores,
        max_tasks=resources.max_tasks,
        timeout_usec=resources.timeout // _MICROSECOND,
        nice=resources.nice,
        cpu_weight=resources.cpu_weight,
        io_weight=resources.io_weight,
    )


def _without_nothing(**fields: object) -> dict[str, object]:
    return {key: value for key, value in fields.items() if value}


class _Fields:
    """A stored JSON object that gives values of the type that was asked for, or BrokenRecord."""

    def __init__(self, stored: object) -> None:
        if not isinstance(stored, dict):
            raise BrokenRecord("it is no JSON object")
        self._stored = stored

    def take(self, key: str, kind: type[T], default: T) -> T:
        value: Any = self._stored.get(key, default)
        if type(value) is not kind:
            raise BrokenRecord(f"{key} is no {kind.__name__}")
        return value

    def time(self, key: str) -> datetime | None:
        return time_of(self.take(key, int, 0)) if key in self._stored else None

    def inner(self, key: str) -> "_Fields | None":
        return _Fields(self._stored[key]) if key in self._stored else None

    def texts(self, key: str) -> tuple[str, ...]:
        values = self.take(key, list, [])
        if not all(type(value) is str for value in values):
            raise BrokenRecord(f"{key} is no list of texts")
        return tuple(values)

    def text_by_text(self, key: str) -> Mapping[str, str]:
        values = self.take(key, dict, {})
        if not all(type(value) is str for value in values.values()):
            raise BrokenRecord(f"{key} has a value that is no text")
        return values


def _spec(stored: _Fields, name: str) -> JobSpec:
    return JobSpec(
        command=stored.take("command", str, ""),
        args=stored.texts("args"),
        name=name,
        environment=stored.text_by_text("environment"),
        network=stored.take("network", str, ""),
        work_dir=stored.take("work_dir", str, ""),
        work_size=stored.take("work_size", int, 0),
        uploads=stored.texts("uploads"),
        profile=stored.take("profile", str, ""),
        schedule=stored.take("schedule", str, ""),
        skip_missed=stored.take("skip_missed", bool, False),
        resources=_resources(stored),
        secret_environment=stored.texts("secret_environment"),
        secret_files=stored.texts("secret_files"),
    )


def _resources(stored: _Fields) -> Resources:
    limits = stored.inner("resources")
    if limits is None:
        return NOTHING
    return Resources(
        max_cpu=limits.take("max_cpu", int, 0),
        max_memory=limits.take("max_memory", int, 0),
        max_io_bps=limits.take("max_io_bps", int, 0),
        cpu_cores=limits.take("cpu_cores", str, ""),
        max_tasks=limits.take("max_tasks", int, 0),
        timeout=limits.take("timeout_usec", int, 0) * _MICROSECOND,
        nice=limits.take("nice", int, 0),
        cpu_weight=limits.take("cpu_weight", int, 0),
        io_weight=limits.take("io_weight", int, 0),
    )


def _outcome(stored: _Fields) -> Outcome | None:
    outcome = stored.inner("outcome")
    if outcome is None:
        return None
    return Outcome(
        state=JobState(outcome.take("state", str, "")),
        reason=Reason(outcome.take("reason", str, "")),
        exit_code=outcome.take("exit_code", int, 0),
        signal=outcome.take("signal", int, 0),
        message=outcome.take("message", str, ""),
    )


def _usage(stored: _Fields) -> Usage | None:
    usage = stored.inner("usage")
    if usage is None:
        return None
    figures = {name: usage.take(name, int, 0) for name in FIGURES}
    return Usage(**figures, is_partial=usage.take("is_partial", bool, False))


def _token(stored: _Fields) -> Token | None:
    token = stored.inner("token")
    return Token(token.take("text", str, ""), token.take("digest", str, "")) if token else None


def time_of(usec: int) -> datetime:
    """Return the aware time of microseconds since 1970."""
    return _EPOCH + timedelta(microseconds=usec)
