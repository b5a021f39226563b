"""What can never run is refused, clearly and without a trace: attack cases A5, A7, and other bad input."""

from functools import partial
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, SOCKET, Client, command, units, wait_for_agent
from tests.e2e.host import configured, refusal, rnx

pytestmark = pytest.mark.systemd

LONGEST_ARGUMENT = 131071  # the kernel's MAX_ARG_STRLEN without the NUL
LONGEST_VALUE = 32768

REFUSED = {
    "empty-command": ({"command": ""}, "COMMAND_REQUIRED"),
    "nul-command": ({"command": "a\0b"}, "NUL_BYTE"),
    "nul-argument": ({"args": ["a", "b\0"]}, "NUL_BYTE"),
    "nul-value": ({"environment": {"A": "\0"}}, "NUL_BYTE"),
    "nul-variable": ({"environment": {"A\0B": ""}}, "NUL_BYTE"),
    "nul-name": ({"name": "\0"}, "NUL_BYTE"),
    "nul-network": ({"network": "none\0"}, "NUL_BYTE"),
    "nul-directory": ({"work_dir": "/work\0"}, "NUL_BYTE"),
    "long-argument": ({"args": ["x" * (LONGEST_ARGUMENT + 1)]}, "ARGUMENT_TOO_LONG"),
    "long-command": ({"command": "x" * (LONGEST_ARGUMENT + 1)}, "ARGUMENT_TOO_LONG"),
    "long-value": ({"environment": {"A": "x" * (LONGEST_VALUE + 1)}}, "VARIABLE_TOO_LONG"),
    "long-variable": ({"environment": {"A" * LONGEST_ARGUMENT: ""}}, "BAD_VARIABLE_NAME"),
    "two-mebibytes": (
        {"environment": {f"V{n}": "x" * LONGEST_VALUE for n in range(64)}},
        "ARGUMENTS_TOO_LONG",
    ),
    "many-arguments": ({"args": [""] * 200_000}, "ARGUMENTS_TOO_LONG"),
    "noncharacter": ({"args": ["\uffff"]}, "NONCHARACTER"),
    "noncharacter-value": ({"environment": {"A": "\ufdd0"}}, "NONCHARACTER"),
    "function": ({"environment": {"f()": "() { :; }"}}, "BAD_VARIABLE_NAME"),
    "exported-function": ({"environment": {"BASH_FUNC_f%%": "() { :; }"}}, "BAD_VARIABLE_NAME"),
    "no-variable": ({"environment": {"": "x"}}, "BAD_VARIABLE_NAME"),
    "digit": ({"environment": {"1A": "x"}}, "BAD_VARIABLE_NAME"),
    "equals": ({"environment": {"A=B": "x"}}, "BAD_VARIABLE_NAME"),
    "blank": ({"environment": {"A B": "x"}}, "BAD_VARIABLE_NAME"),
    "newline": ({"environment": {"A\nLD_PRELOAD": "x"}}, "BAD_VARIABLE_NAME"),
    "long-name": ({"name": "n" * 300}, "BAD_JOB_NAME"),
    "line-in-name": ({"name": "a\nExecStartPre=/bin/x"}, "BAD_JOB_NAME"),
    "escape-in-name": ({"name": "a\x1b[2J"}, "BAD_JOB_NAME"),
    "blank-name": ({"name": " a"}, "BAD_JOB_NAME"),
    "network-path": ({"network": "../none"}, "UNKNOWN_NETWORK"),
    "network-unit": ({"network": "none@%i.service"}, "UNKNOWN_NETWORK"),
    "network-option": ({"network": "-x"}, "UNKNOWN_NETWORK"),
    "network-long": ({"network": "n" * 300}, "UNKNOWN_NETWORK"),
    "network-line": ({"network": "none\n"}, "UNKNOWN_NETWORK"),
    "network-host": ({"network": "HOST"}, "UNKNOWN_NETWORK"),
    "network-case": ({"network": "NONE"}, "UNKNOWN_NETWORK"),
    "port-of-no-protocol": ({"ports": [pb.PublishedPort(host_port=1, transport="tcp\n")]}, "BAD_PORT"),
    "port-zero": ({"ports": [pb.PublishedPort(host_port=0)]}, "BAD_PORT"),
    "port-negative": ({"ports": [pb.PublishedPort(host_port=-1)]}, "BAD_PORT"),
    "port-address": ({"ports": [pb.PublishedPort(host_port=1, address="::1%lo")]}, "BAD_PUBLISH_ADDRESS"),
    "negative-bandwidth": ({"bandwidth": -1}, "BAD_BANDWIDTH"),
    "volume-path": ({"volumes": ["../x"]}, "BAD_VOLUME_NAME"),
    "volume-unit": ({"volumes": ["a@%i.mount"]}, "BAD_VOLUME_NAME"),
    "volume-escape": ({"volumes": ["a\\x2db"]}, "BAD_VOLUME_NAME"),
    "volume-option": ({"volumes": ["-x"]}, "BAD_VOLUME_NAME"),
    "volume-long": ({"volumes": ["v" * 300]}, "BAD_VOLUME_NAME"),
    "volume-line": ({"volumes": ["a\n"]}, "BAD_VOLUME_NAME"),
    "volume-none": ({"volumes": [""]}, "BAD_VOLUME"),
    "volume-target-above": ({"volumes": ["a:/srv/../etc"]}, "BAD_VOLUME_TARGET"),
    "volume-target-unit": ({"volumes": ["a:/srv/%n b"]}, "BAD_VOLUME_TARGET"),
    "negative-cpu": ({"max_cpu": -1}, "BAD_LIMIT"),
    "more-cpu-than-there-is": ({"max_cpu": 819_201}, "BAD_LIMIT"),
    "negative-memory": ({"max_memory": -(2**31)}, "BAD_LIMIT"),
    "negative-rate": ({"max_io_bps": -1}, "BAD_LIMIT"),
    "cores-that-are-not-there": ({"cpu_cores": "0,8191"}, "BAD_LIMIT"),
    "cores-that-are-none": ({"cpu_cores": "0-3; MemoryMax=1"}, "BAD_LIMIT"),
    "two-tasks": ({"max_tasks": 2}, "BAD_LIMIT"),
    "negative-nice": ({"nice": -20}, "BAD_LIMIT"),
    "heavy": ({"cpu_weight": 10_001}, "BAD_LIMIT"),
    "no-time": ({"timeout": "0s"}, "BAD_LIMIT"),
    "no-timeout": ({"timeout": "infinity"}, "BAD_LIMIT"),
}


@pytest.mark.parametrize(("fields", "reason"), REFUSED.values(), ids=REFUSED)
def test_a5_a7_what_cannot_arrive_is_refused(client: Client, fields: dict[str, Any], reason: str) -> None:
    homes = set(JOBS.iterdir())
    request = pb.RunJobRequest(**{"command": "true", **fields})
    assert refusal(lambda: client.jobs.RunJob(request, timeout=30)) == ("INVALID_ARGUMENT", reason)
    assert (set(JOBS.iterdir()), units()) == (homes, [])


TEXTS_OF_A_RUN = [
    field.number
    for field in pb.RunJobRequest.DESCRIPTOR.fields
    if field.type == field.TYPE_STRING and field.name != "schedule"
]


@pytest.mark.parametrize("number", TEXTS_OF_A_RUN)
@pytest.mark.usefixtures("client")
def test_text_that_is_not_utf8_is_refused(number: int) -> None:
    request = b"\x0a\x04true" + _tag(number) + b"\x03\xff\xfe\x80"
    assert refusal(lambda: _raw("JobService/RunJob", request)) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


def _tag(number: int) -> bytes:
    """Return the key of a field of bytes (Protocol Buffers, "Encoding")."""
    key = number << 3 | 2
    return bytes([key]) if key < 128 else bytes([key & 127 | 128, key >> 7])


def _raw(method: str, request: bytes) -> bytes:
    """Send bytes as they are."""
    with grpc.insecure_channel(SOCKET, [("grpc.default_authority", "localhost")]) as channel:
        call = channel.unary_unary(f"/joblet.{method}", lambda given: given, lambda answer: answer)
        return bytes(call(request, timeout=30, wait_for_ready=True))


@pytest.mark.usefixtures("client")
def test_bytes_of_the_command_line_that_are_not_utf8_are_refused() -> None:
    done = command("sh", "-c", r"rnx run true $(printf '\377\376') 2>&1", check=False)
    assert done.returncode == 2
    assert "rnx: cannot send argument 3: not valid UTF-8" in done.stdout


def test_an_oversized_message_is_refused(client: Client) -> None:
    with configured("rpc:\n  max_message: 1MiB\n"):
        large = pb.RunJobRequest(command="true", args=["x" * 65536] * 20)
        assert refusal(lambda: client.jobs.RunJob(large, timeout=30)) == ("RESOURCE_EXHAUSTED", "")
        assert client.ended(client.run("true")).status == "COMPLETED"


NOT_OFFERED = {
    "workflow_uuid": {"workflow_uuid": "../x"},
    "job_uuid": {"job_uuid": "../x"},
    "requirements": {"requirements": [pb.JobRequirement(job_uuid="../x")]},
    "--gpu-memory": {"gpu_memory_mb": 1},
}


@pytest.mark.parametrize(("option", "fields"), NOT_OFFERED.items(), ids=NOT_OFFERED)
def test_an_option_that_is_not_offered_is_refused_by_name(
    client: Client, option: str, fields: dict[str, Any]
) -> None:
    homes = set(JOBS.iterdir())
    with pytest.raises(grpc.RpcError) as caught:
        client.run("true", **fields)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert f"does not offer {option} yet" in str(caught.value.details())
    assert set(JOBS.iterdir()) == homes


@pytest.mark.usefixtures("client")
def test_an_option_that_is_not_offered_is_refused_on_the_command_line() -> None:
    before = set(JOBS.iterdir())
    done = rnx("run", "--gpu-memory=1GB", "true")
    assert done.returncode == 1
    assert "does not offer --gpu-memory yet" in done.stderr.decode()
    assert set(JOBS.iterdir()) == before


@pytest.mark.usefixtures("client")
def test_an_empty_command_line_is_refused() -> None:
    done = rnx("run")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"must specify a command" in done.stderr
    done = rnx("run", "")
    assert done.returncode == 1
    assert b"command is required" in done.stderr


def test_the_agent_lives_after_garbage(client: Client) -> None:
    for request in (b"\xff" * 10, b"\x0a\xff\xff\xff\xff\x0f", b"\x0b" * 1000, b"\x72\x02\x0a\x05"):
        assert refusal(partial(_raw, "JobService/RunJob", request)) == (
            "INVALID_ARGUMENT",
            "MALFORMED_REQUEST",
        )
    wait_for_agent(client)
