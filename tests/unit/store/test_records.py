"""Records as rows: nothing is lost, and what is no record is said to be none."""

import json
from dataclasses import fields, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.model.gpu import GpuNode, HeldGpus
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, Token
from joblet_agent.model.metrics import FIGURES, Usage
from joblet_agent.model.network import Attachment, PublishedPort, Transport
from joblet_agent.model.resources import Resources
from joblet_agent.model.runtime import PinnedRuntime
from joblet_agent.model.volume import HeldVolume, VolumeMount
from joblet_agent.store.fields import BrokenRecord, usec_of
from joblet_agent.store.records import json_of, record_of, row_of
from joblet_agent.store.schema import MIGRATIONS

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
    "bandwidth": INT64,
    "ports": st.lists(st.builds(PublishedPort, INT64, INT64, st.sampled_from(Transport), TEXT)).map(tuple),
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
        work_size=INT64,
    ),
    "work_in_memory": st.booleans(),
    "uploads": st.lists(TEXT).map(tuple),
    "secret_environment": st.lists(TEXT).map(tuple),
    "secret_files": st.lists(TEXT).map(tuple),
    "volumes": st.lists(st.builds(VolumeMount, TEXT, TEXT, st.booleans())).map(tuple),
    "runtime": TEXT,
    "gpus": INT64,
}
RUNTIMES = st.builds(PinnedRuntime, TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT))
RECORD = {
    "id": st.uuids(version=4).map(str).map(JobId),
    "spec": st.builds(JobSpec, **SPEC),
    "state": st.sampled_from(JobState),
    "created_at": TIMES,
    "started_by": TEXT,
    "role": TEXT,
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
    "workflow_id": TEXT,
    "dependencies": st.lists(TEXT).map(tuple),
    "usage": st.none() | st.builds(Usage, **dict.fromkeys(FIGURES, INT64), is_partial=st.booleans()),
    "unapplied_limits": st.lists(TEXT).map(tuple),
    "token": st.none() | st.builds(Token, TEXT, TEXT),
    "attachment": st.none() | st.tuples(TEXT, st.ip_addresses(v=4), st.ip_addresses(v=6)),
    "volumes": st.lists(st.builds(HeldVolume, TEXT, INT64, st.booleans())).map(tuple),
    "runtime": st.none() | RUNTIMES,
    "pins": st.dictionaries(TEXT, RUNTIMES, max_size=3),
    "gpus": st.none()
    | st.builds(
        HeldGpus,
        st.lists(INT64, min_size=1).map(tuple),
        st.lists(st.builds(GpuNode, TEXT, TEXT)).map(tuple),
        st.lists(st.tuples(TEXT, TEXT)).map(tuple),
    ),
    "unknown": st.just({}),  # a record of this version has none
}


def test_every_field_is_tried() -> None:
    assert [field.name for field in fields(JobSpec)] == list(SPEC)
    assert [field.name for field in fields(JobRecord)] == list(RECORD)


def with_attachment(record: JobRecord) -> JobRecord:
    """Its attachment has the limit and the ports of the spec."""
    match record.attachment:
        case tuple() as place:
            made = Attachment(record.id, *place, record.spec.bandwidth, record.spec.ports)
            return replace(record, attachment=made)
    return record


@given(st.builds(JobRecord, **RECORD).map(with_attachment))
def test_a_record_survives_its_row(record: JobRecord) -> None:
    job_id, state, name, _, workflow_id, _, created_usec, _, stored = row_of(record)
    assert record_of(job_id, state, name, created_usec, stored, workflow_id) == record


def test_a_record_of_an_older_agent_gets_defaults() -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    record = record_of("id", "RUNNING", "name", usec_of(created), b'{"command":"true"}')
    assert record == JobRecord(JobId("id"), JobSpec("true", name="name"), JobState.RUNNING, created)


NEWER = {
    "command": "true",
    "sandbox": "python-3.13",
    "resources": {"gpus": 2},
    "ports": [{"host_port": 80, "transport": "tcp"}, {"host_port": 53, "transport": "udp", "zone": "x"}],
    "outcome": {"state": "FAILED", "reason": "of-a-newer-agent", "message": "m", "cause": {"job": "a"}},
    "attachment": {"network": "web", "address4": "10.0.0.2", "address6": "fd00::2", "vlan": 7},
}


def newer() -> JobRecord:
    return record_of("id", "FAILED", "", 0, json.dumps(NEWER).encode())


def test_r5_what_a_newer_agent_stored_stays_in_the_record() -> None:
    assert newer().outcome == Outcome(JobState.FAILED, message="m")
    changed = replace(newer(), log_truncated=True)
    assert json.loads(json_of(changed)) == {**NEWER, "log_truncated": True}


def test_r5_what_belonged_to_something_that_is_gone_goes_with_it() -> None:
    ended = replace(newer(), attachment=None, outcome=Outcome(JobState.FAILED, Reason.TIMEOUT))
    stored = json.loads(json_of(ended))
    assert "attachment" not in stored
    assert stored["outcome"] == {"state": "FAILED", "reason": "timeout", "cause": {"job": "a"}}


def test_r5_agents_of_this_version_of_the_file_know_these_states_and_transports() -> None:
    """Whoever adds one adds a migration that is needed, too: an agent without it sets such records aside."""
    assert len([each for each in MIGRATIONS if not each.is_additive]) == 6
    assert [*JobState, *Transport] == [
        *("SCHEDULED", "PENDING", "INITIALIZING", "RUNNING", "STOPPING"),
        *("COMPLETED", "FAILED", "STOPPED", "CANCELED", "tcp", "udp"),
    ]


def test_a_size_of_an_older_agent_means_memory() -> None:
    record = record_of("id", "RUNNING", "", 0, b'{"command":"true","work_size":4096,"resources":{"nice":1}}')
    assert record.spec == JobSpec("true", resources=Resources(nice=1, work_size=4096), work_in_memory=True)


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
