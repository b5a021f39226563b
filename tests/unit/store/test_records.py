"""Records as rows: nothing is lost, and what is no record is said to be none."""

from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, Token
from joblet_agent.model.metrics import FIGURES, Usage
from joblet_agent.model.resources import Resources
from joblet_agent.store.records import BrokenRecord, record_of, row_of, usec_of

TEXT = st.text(st.characters(), max_size=8)
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(UTC))
OUTCOMES = st.builds(Outcome, st.sampled_from(JobState), st.sampled_from(Reason), INT64, INT64, TEXT)
SPEC = {
    "command": TEXT,
    "args": st.lists(TEXT).map(tuple),
    "name": TEXT,
    "environment": st.dictionaries(TEXT, TEXT),
    "network": TEXT,
    "work_dir": TEXT,
    "profile": TEXT,
    "schedule": TEXT,
    "skip_missed": st.booleans(),
    "resources": st.builds(
        Resources,
        max_cpu=INT64,
        max_memory=INT64,
        max_io_bps=INT64,
        cpu_cores=TEXT,
        max_tasks=INT64,
        timeout=st.timedeltas(),
        nice=INT64,
        cpu_weight=INT64,
        io_weight=INT64,
    ),
    "work_size": INT64,
    "uploads": st.lists(TEXT).map(tuple),
    "secret_environment": st.lists(TEXT).map(tuple),
    "secret_files": st.lists(TEXT).map(tuple),
}
RECORD = {
    "id": st.uuids(version=4).map(str).map(JobId),
    "spec": st.builds(JobSpec, **SPEC),
    "state": st.sampled_from(JobState),
    "created_at": TIMES,
    "started_by": TEXT,
    "uid": INT64,
    "boot_id": TEXT,
    "invocation_id": TEXT,
    "started_at": st.none() | TIMES,
    "ended_at": st.none() | TIMES,
    "outcome": st.none() | OUTCOMES,
    "stop_requested": st.booleans(),
    "paused": st.just(False),  # systemd's to know
    "main_pid": INT64,
    "log_truncated": st.booleans(),
    "journal_offset": INT64,
    "scheduled_at": st.none() | TIMES,
    "schedule_id": TEXT,
    "usage": st.none() | st.builds(Usage, **dict.fromkeys(FIGURES, INT64), is_partial=st.booleans()),
    "unapplied_limits": st.lists(TEXT).map(tuple),
    "token": st.none() | st.builds(Token, TEXT, TEXT),
}


def test_every_field_is_tried() -> None:
    assert [field.name for field in fields(JobSpec)] == list(SPEC)
    assert [field.name for field in fields(JobRecord)] == list(RECORD)


@given(st.builds(JobRecord, **RECORD))
def test_a_record_survives_its_row(record: JobRecord) -> None:
    job_id, state, name, _, _, created_usec, _, stored = row_of(record)
    assert record_of(job_id, state, name, created_usec, stored) == record


def test_a_record_of_an_older_agent_gets_defaults() -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    record = record_of("id", "RUNNING", "name", usec_of(created), b'{"command":"true","of_a_newer_one":1}')
    assert record == JobRecord(JobId("id"), JobSpec("true", name="name"), JobState.RUNNING, created)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | TEXT,
        lambda inner: st.dictionaries(
            st.sampled_from(["args", "environment", "outcome", "started_at", "uid", "state", "command"]),
            inner,
        ),
    )
    .map(repr)
    .map(lambda text: text.replace("'", '"').encode("utf-8", "surrogatepass"))
)
def test_any_bytes_are_a_record_or_broken(stored: bytes) -> None:
    try:
        record_of("id", "RUNNING", "", 0, stored)
    except BrokenRecord as error:
        assert str(error)  # noqa: PT017 - most bytes are broken, some are not


@pytest.mark.parametrize("usec", [2**63 - 1, -(2**63), 10**18])
def test_a_time_beyond_all_years_is_broken(usec: int) -> None:
    with pytest.raises(BrokenRecord):
        record_of("id", "RUNNING", "", usec, b"{}")
