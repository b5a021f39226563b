"""A command in a job on the wire: what comes first, what may follow, what is refused."""

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.errors import WrongState
from joblet_agent.model.execution import ExecSpec, ExecTerminal, TerminalSize
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc import decode
from tests.unit.rpc.serving import ID, FakeExecs, FakeJobs, reason_of, serving

EXEC = "AgentService/ExecInJob"
START = pb.ExecInJobRequest(start=pb.ExecStart(uuid=ID, command="cat", stdin=True))
STDIN_END = pb.ExecInJobRequest(stdin_end=pb.ExecStdinEnd())


def answers(execs: FakeExecs, *requests: Any) -> list[Any]:
    async def main() -> list[Any]:
        async with serving(execs.jobs, execs=execs) as caller, asyncio.timeout(20):
            return await caller.answers(EXEC, requests)

    return asyncio.run(main())


def refused(*requests: Any, jobs: FakeJobs | None = None) -> tuple[grpc.StatusCode, str | None]:
    execs = FakeExecs(jobs or FakeJobs())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers(execs, *requests)
    assert execs.running.is_closed is bool(execs.wanted)
    return caught.value.code(), reason_of(caught.value)


def test_a_command_with_its_input_and_its_output() -> None:
    execs = FakeExecs(FakeJobs())
    start = pb.ExecStart(
        uuid="7f3a", command="ls", args=["-l", ""], environment={"A": "b"}, work_dir="/tmp", stdin=True
    )
    out, err, end = answers(
        execs,
        pb.ExecInJobRequest(start=start),
        pb.ExecInJobRequest(stdin=b"in\xff"),
        pb.ExecInJobRequest(terminal_size=pb.TerminalSize(rows=3, columns=4)),
        pb.ExecInJobRequest(signal="USR1"),
        STDIN_END,
    )
    assert (out.stdout, err.stderr) == (b"out", b"err")
    assert (end.end.exit_code, end.end.reason, end.end.message) == (3, "exit-code", "exited with status 3")
    assert execs.wanted == [ExecSpec("ls", ("-l", ""), {"A": "b"}, "/tmp", stdin=True)]
    assert execs.running.given == [b"in\xff", TerminalSize(3, 4), "USR1", None]
    assert execs.running.is_closed


def test_a_command_without_input_ends_although_its_client_says_no_more() -> None:
    execs = FakeExecs(FakeJobs())
    terminal = pb.ExecTerminal(size=pb.TerminalSize(rows=24, columns=80), term="xterm")
    start = pb.ExecStart(uuid=ID, command="ls", terminal=terminal)
    assert len(answers(execs, pb.ExecInJobRequest(start=start))) == 3
    assert execs.wanted == [ExecSpec("ls", terminal=ExecTerminal(TerminalSize(24, 80), "xterm"))]


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], "START_MISSING"),
        ([b""], "START_MISSING"),
        ([STDIN_END, START], "START_MISSING"),
        ([pb.ExecInJobRequest(stdin=b"x")], "START_MISSING"),
        ([b"\xff\xff"], "MALFORMED_REQUEST"),
        ([START, START], "SECOND_START"),
        ([START, b""], "UNKNOWN_EVENT"),
        ([START, b"\xfa\x06\x00"], "UNKNOWN_EVENT"),  # a field of a later definition
        ([START, b"\xff\xff"], "MALFORMED_REQUEST"),
        ([START, pb.ExecInJobRequest(signal="NONSENSE")], "UNKNOWN_SIGNAL"),
        ([START, pb.ExecInJobRequest(signal="USR1\0")], "UNKNOWN_SIGNAL"),
    ],
)
def test_odd_messages_are_refused_and_end_the_command(requests: list[Any], reason: str) -> None:
    assert refused(*requests) == (INVALID, reason)


def test_a_client_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "_START_WITHIN", 0.05)

    async def main() -> None:
        async with serving(FakeJobs()) as caller, asyncio.timeout(20):
            channel: Any = caller.channel
            await channel.stream_stream(f"/joblet.{EXEC}")().read()

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(main())
    assert reason_of(caught.value) == "START_MISSING"


def test_a_command_that_is_refused() -> None:
    jobs = FakeJobs(error=WrongState("cannot run: it is paused", reason="JOB_PAUSED"))
    assert refused(START, jobs=jobs) == (grpc.StatusCode.FAILED_PRECONDITION, "JOB_PAUSED")
