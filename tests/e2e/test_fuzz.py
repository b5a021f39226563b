"""Random requests against the live agent: attack case C8."""

from contextlib import closing
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import SOCKET, Client, eventually, main_pid, units, wait_for_agent

pytestmark = pytest.mark.systemd

CLEAR = {"INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "FAILED_PRECONDITION", "RESOURCE_EXHAUSTED"}
FUZZ = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))

SPECIAL = "$%\\'\"`\n\r\t;@+!-:|#= {}[]()*?~&<>/.\0\x01\x1b\x7f\u0085\u2028\ufeff\uffff\ufdd0\U0001fffe\u00e9"
TEXTS = st.one_of(
    st.text(max_size=12),
    st.text(SPECIAL, max_size=12),
)
NAMES = st.one_of(st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), TEXTS)

# Prints its arguments, then its variables, each with a NUL behind it.
PRINT = 'print join(\'\', map { "$_\\0" } @ARGV, map { "$_=$ENV{$_}\\0" } sort keys %ENV)'


@FUZZ
@given(
    args=st.lists(TEXTS, max_size=6),
    environment=st.dictionaries(NAMES, TEXTS, max_size=4),
    name=st.one_of(st.just(""), TEXTS),
    work_dir=st.one_of(st.just(""), TEXTS, TEXTS.map("/".__add__)),
    network=st.one_of(st.just(""), st.just("none"), TEXTS),
)
def _run_anything(
    client: Client, args: list[str], environment: dict[str, str], name: str, work_dir: str, network: str
) -> None:
    environment = {f"F{key}" if key.isidentifier() else key: value for key, value in environment.items()}
    request = pb.RunJobRequest(
        command="perl",
        args=["-e", PRINT, "--", *args],
        environment=environment,
        name=name,
        work_dir=work_dir,
        network=network,
    )
    refused: grpc.RpcError | None = None
    try:
        job_id = client.jobs.RunJob(request, timeout=30).job_uuid
    except grpc.RpcError as error:
        refused = error
    if refused is not None:
        assert refused.code().name == "INVALID_ARGUMENT", (refused.code(), refused.details())
        assert _reason(refused)
        return
    status = client.ended(job_id)
    assert (status.name, dict(status.environment)) == (name, environment)
    if status.status == "FAILED":  # nothing but a directory that is not there
        assert (status.reason, "working directory" in status.message) == ("start-failed", True), (
            status.message
        )
        return
    got = client.log(job_id).decode().split("\0")[:-1]
    assert got[: len(args)] == args
    assert {f"{key}={value}" for key, value in environment.items()} <= set(got[len(args) :])


def test_c8_whatever_is_run_arrives_or_is_refused(client: Client) -> None:
    agent = main_pid()
    _run_anything(client)
    eventually(units, lambda names: not names)
    assert main_pid() == agent


METHODS = ["RunJob", "GetJobStatus", "StopJob", "CancelJob", "DeleteJob", "GetJobLogs"]


@FUZZ
@given(method=st.sampled_from(METHODS), request=st.binary(max_size=40))
def _send_anything(channel: grpc.Channel, method: str, request: bytes) -> None:
    call = channel.unary_stream(f"/joblet.JobService/{method}", lambda given: given, lambda answer: answer)
    try:
        list(call(request, timeout=30))
    except grpc.RpcError as error:
        refused = error
    else:
        return
    assert refused.code().name in CLEAR, (refused.code(), refused.details())
    assert _reason(refused)


def _reason(error: grpc.RpcError) -> str:
    metadata: Any = error.trailing_metadata()
    return str(dict(metadata)["joblet-reason"])


def test_c8_bytes_that_are_no_message_are_refused(client: Client) -> None:
    agent = main_pid()
    with closing(grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")])) as channel:
        _send_anything(channel)
    wait_for_agent(client)
    eventually(units, lambda names: not names)
    assert main_pid() == agent
