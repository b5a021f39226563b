import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from dbus_next.signature import Variant
from hypothesis import given, settings
from hypothesis import strategies as st

from joblet_agent.config import LimitsConfig
from joblet_agent.errors import InvalidRequest, JobletError, NotOffered
from joblet_agent.jobs.check import check_spec
from joblet_agent.jobs.host import HostFacts
from joblet_agent.jobs.limits import LIMITS, LimitPolicy
from joblet_agent.model.identity import Role
from joblet_agent.model.job import JobSpec, JobState, Outcome, Reason
from joblet_agent.model.network import Network, PublishedPort, Transport
from joblet_agent.model.resources import Resources
from joblet_agent.networks.check import check_attachable
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.convert import (
    job_to_proto,
    published_exit_code,
    rfc3339,
    spec_from_proto,
    status_to_proto,
)
from joblet_agent.rpc.decode import decoded
from joblet_agent.rpc.limits import changes_from_proto
from joblet_agent.rpc.offered import REFUSED_OPTIONS
from joblet_agent.systemd.limits import limit_properties
from tests.unit.rpc.serving import ID, NOW, RECORD

OFFERED = {
    "name",
    "command",
    "args",
    "network",
    "bandwidth",
    "ports",
    "work_dir",
    "environment",
    "profile",
    "uploads",
    "upload_id",
    "schedule",
    "skip_missed",
    "secret_environment",
    "volumes",
    "runtime",
    "gpu_count",
    "secret_files",
    "token",
} | set(LIMITS)

SET: dict[str, Any] = {
    "workflow_uuid": "x",
    "job_uuid": ID,
    "requirements": [pb.JobRequirement()],
    "gpu_memory_mb": 1,
}


def test_every_option_is_enforced_or_refused() -> None:
    fields = {field.name for field in pb.RunJobRequest.DESCRIPTOR.fields}
    assert set(REFUSED_OPTIONS) | OFFERED == fields
    assert not set(REFUSED_OPTIONS) & OFFERED
    assert set(SET) == set(REFUSED_OPTIONS)


@pytest.mark.parametrize("field", sorted(SET))
def test_an_option_that_is_not_offered_is_named_as_the_user_knows_it(field: str) -> None:
    option = REFUSED_OPTIONS[field]
    with pytest.raises(NotOffered) as caught:
        spec_from_proto(pb.RunJobRequest(command="true", **{field: SET[field]}))
    assert caught.value.reason == "OPTION_NOT_OFFERED"
    assert str(caught.value) == f"cannot run job: this agent does not offer {option.name} yet: {option.why}"
    assert caught.value.hint


def test_a_request_becomes_a_spec() -> None:
    request = pb.RunJobRequest(
        name="n",
        command="sh",
        args=["", "$X%i\n"],
        network="none",
        bandwidth=8000,
        ports=[pb.PublishedPort(host_port=1, job_port=2, transport="udp", address="::1")],
        work_dir="/w",
        environment={"A": "b=c"},
        runtime="python:3.11",
    )
    port = PublishedPort(1, 2, Transport.UDP, "::1")
    spec = JobSpec(
        "sh", ("", "$X%i\n"), "n", {"A": "b=c"}, "none", 8000, (port,), "/w", runtime="python:3.11"
    )
    assert spec_from_proto(request) == spec


def test_limits_become_resources() -> None:
    request = pb.RunJobRequest(command="true", nice=5, cpu_weight=200, io_weight=300, **LIMIT_FIELDS)
    assert spec_from_proto(request).resources == RESOURCES
    assert spec_from_proto(pb.RunJobRequest(command="true")).resources == Resources()


@pytest.mark.parametrize("text", ["0s", "30", "-1s", "1h 30m", "soon", "1.5h", "99999999d"])
def test_a_time_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        spec_from_proto(pb.RunJobRequest(command="true", timeout=text))
    assert caught.value.reason == "BAD_LIMIT"
    assert str(caught.value).startswith(f"cannot run job: cannot read --timeout={text!r}: expected ")


def test_what_an_update_leaves_out_is_no_change() -> None:
    assert changes_from_proto(pb.UpdateJobRequest(uuid="x")) == {}
    request = pb.UpdateJobRequest(uuid="x", max_cpu=0, cpu_cores="", max_memory=64, timeout="", nice=0)
    assert changes_from_proto(request) == {
        "max_cpu": 0,
        "cpu_cores": "",
        "max_memory": 64 << 20,
        "timeout": timedelta(0),
        "nice": 0,
    }


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (None, 0),
        (Outcome(JobState.COMPLETED, Reason.NONE, 0), 0),
        (Outcome(JobState.FAILED, Reason.EXIT_CODE, 7), 7),
        (Outcome(JobState.FAILED, Reason.EXIT_CODE, 255), 255),
        (Outcome(JobState.FAILED, Reason.SIGNAL, -1, 9), -1),
        (Outcome(JobState.STOPPED, Reason.STOPPED, 0, 15), -1),
        (Outcome(JobState.FAILED, Reason.START_FAILED, -1), -1),
    ],
)
def test_r9_the_published_exit_code(outcome: Outcome | None, code: int) -> None:
    assert published_exit_code(replace(RECORD, outcome=outcome)) == code


RESOURCES = Resources(150, 64 << 20, 1_000_000, "0-1", 50, timedelta(seconds=90), 5, 200, 300)

LIMIT_FIELDS: dict[str, Any] = {
    "max_cpu": 150,
    "cpu_cores": "0-1",
    "max_memory": 64,
    "max_io_bps": 1_000_000,
    "max_tasks": 50,
    "timeout": "1m30s",
}

FULL = replace(
    RECORD,
    spec=JobSpec("sh", ("-c", "x"), "nightly", {"A": "b"}, "none", profile="strict", resources=RESOURCES),
    state=JobState.FAILED,
    started_at=NOW,
    ended_at=NOW + timedelta(seconds=1),
    outcome=Outcome(JobState.FAILED, Reason.OOM_KILL, -1, 9, "out of memory"),
    main_pid=7,
    started_by="local",
    log_truncated=True,
    workflow_id="9c1d",
    dependencies=("build", "lint"),
)

ROW: dict[str, Any] = {
    **LIMIT_FIELDS,
    "uuid": ID,
    "name": "nightly",
    "command": "sh",
    "args": ["-c", "x"],
    "status": "FAILED",
    "start_time": "2026-01-31T12:00:00Z",
    "end_time": "2026-01-31T12:00:01Z",
    "exit_code": -1,
    "environment": {"A": "b"},
    "reason": "oom-kill",
    "signal": 9,
    "queue_position": 2,
    "created_time": "2026-01-31T12:00:00.987654Z",
    "profile": "strict",
    "workflow_uuid": "9c1d",
    "dependencies": ["build", "lint"],
}


def test_a_record_becomes_a_row() -> None:
    assert job_to_proto(FULL, queue_position=2) == pb.Job(**ROW)


def test_a_record_becomes_a_status() -> None:
    status = status_to_proto(FULL, unit="u.service", log_size=5, queue_position=2)
    assert status == pb.GetJobStatusResponse(
        **ROW,
        network="none",
        work_dir="/work",
        message="out of memory",
        unit="u.service",
        log_size=5,
        log_truncated=True,
        pid_isolation="namespace",
        main_pid=7,
        started_by="local",
        nice=5,
        cpu_weight=200,
        io_weight=300,
    )


def test_times_are_utc_and_whole_seconds_are_cut() -> None:
    berlin = timezone(timedelta(hours=1))
    moment = datetime(2026, 1, 31, 13, 0, 0, 999999, tzinfo=berlin)
    assert rfc3339(moment) == "2026-01-31T12:00:00Z"
    assert rfc3339(moment, timespec="microseconds") == "2026-01-31T12:00:00.999999Z"
    assert rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"
    assert rfc3339(None) == ""


texts = st.text(max_size=20) | st.sampled_from(
    ["\0", "..", "/proc/self/fd/3", "none", "%i", "A", "x" * 140_000]
)
requests = st.builds(
    pb.RunJobRequest,
    name=texts,
    command=texts,
    args=st.lists(texts, max_size=4),
    network=texts,
    bandwidth=st.sampled_from([0, 1, -1, 8000, 2**63 - 1]),
    ports=st.lists(
        st.builds(
            pb.PublishedPort,
            transport=st.sampled_from(["", "tcp", "udp", "x"]),
            address=st.sampled_from(["", "0.0.0.0", "::", "::1", "fe80::1%eth0", "\0", "1.2.3"]),
            host_port=st.sampled_from([0, 1, 80, -1, 65536, 2**31 - 1]),
            job_port=st.sampled_from([0, 1, -1, 65536]),
        ),
        max_size=3,
    ),
    work_dir=texts,
    environment=st.dictionaries(texts, texts, max_size=4),
    **dict.fromkeys(
        ("max_cpu", "max_memory", "max_io_bps", "max_tasks", "nice", "cpu_weight", "io_weight"),
        st.sampled_from([0, 0, 0, 0, 1, 19, 64, 400, 2000, -1, -(2**31), 2**31 - 1]),
    ),
    cpu_cores=st.just("") | st.sampled_from(["0", "0-3", "4", "3-1", "0-99999999", "x", "\0"]),
    timeout=st.sampled_from(["", "", "1h", "0s", "99999999d", "x", "\0"]),
)


BRIDGE = Network("bridge", "joblet0", IPv4Network("172.20.0.0/16"), IPv6Network("fd00:1:2:1::/64"))


class FourCores(HostFacts):
    """A host without files."""

    def online_cpus(self) -> tuple[int, ...]:
        return (0, 1, 2, 3)

    def controllers(self) -> frozenset[str]:
        return frozenset({"cpu", "cpuset", "io", "memory", "pids"})


LIMIT_POLICY = LimitPolicy(LimitsConfig(), FourCores(), disks=())


def accept(request: pb.RunJobRequest) -> JobSpec:
    """Do everything that stands between a request and the limits of its unit."""
    spec = check_attachable(replace(spec_from_proto(request), network="bridge"), BRIDGE)
    check_spec(spec)
    spec = replace(spec, resources=LIMIT_POLICY.settle(spec.resources, Role.OPERATOR))
    for entry in limit_properties(spec.resources, (Path("/usr"),)):
        Variant(entry.signature, entry.value)  # checks the type; numbers out of range are not wanted either
        assert entry.value not in (-1, [])
    return spec


@given(requests)
@settings(deadline=None)
def test_c8_any_request_is_accepted_as_it_is_or_refused_with_a_typed_error(request: pb.RunJobRequest) -> None:
    with contextlib.suppress(JobletError):
        spec = accept(request)
        assert (spec.command, list(spec.args)) == (request.command, list(request.args))
        assert dict(spec.environment) == dict(request.environment)


mutations = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=8)


@given(st.binary(max_size=200) | requests.map(lambda request: request.SerializeToString()), mutations)
@settings(deadline=None)
def test_c8_any_bytes_are_accepted_or_refused_with_a_typed_error(
    raw: bytes, changes: list[tuple[int, int]]
) -> None:
    damaged = bytearray(raw)
    for position, byte in changes:
        if damaged:
            damaged[position % len(damaged)] = byte
    with contextlib.suppress(JobletError):
        request = decoded(bytes(damaged), pb.RunJobRequest.FromString, "JobService/RunJob")
        assert isinstance(request, pb.RunJobRequest)
        accept(request)
