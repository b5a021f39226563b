import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.errors import WrongState
from joblet_agent.model.execution import ExecSpec
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, FakeExecs, FakeJobs, reason_of, serving

EXEC = "AgentService/ExecInJob"


def test_control_of_a_job() -> None:
    async def main() -> list[Any]:
        async with serving(FakeJobs()) as caller:
            return [
                await caller.unary("AgentService/PauseJob", pb.PauseJobRequest(uuid="7f3a")),
                await caller.unary("AgentService/ResumeJob", pb.ResumeJobRequest(uuid="7f3a")),
                await caller.unary("AgentService/KillJob", pb.KillJobRequest(uuid="7f3a", signal="USR1")),
            ]

    paused, resumed, killed = asyncio.run(main())
    assert (paused.uuid, paused.status) == (ID, "RUNNING")
    assert (resumed.uuid, resumed.status) == (ID, "RUNNING")
    assert (killed.uuid, killed.status, killed.signal) == (ID, "RUNNING", 10)


def test_a_command_in_a_job() -> None:
    jobs = FakeJobs()
    execs = FakeExecs(jobs)

    async def main() -> list[Any]:
        request = pb.ExecInJobRequest(
            uuid="7f3a", command="ls", args=["-l", ""], environment={"A": "b"}, work_dir="/tmp"
        )
        async with serving(jobs, execs=execs) as caller:
            return [event async for event in caller.stream(EXEC, request)]

    out, err, end = asyncio.run(main())
    assert (out.stdout, err.stderr) == (b"out", b"err")
    assert (end.end.exit_code, end.end.reason, end.end.message) == (3, "exit-code", "exited with status 3")
    assert execs.wanted == [ExecSpec("ls", ("-l", ""), {"A": "b"}, "/tmp")]
    assert execs.running.is_closed


def test_a_command_that_is_refused() -> None:
    jobs = FakeJobs(error=WrongState("cannot run: it is paused", reason="JOB_PAUSED"))

    async def main() -> None:
        async with serving(jobs) as caller:
            await caller.unary(EXEC, pb.ExecInJobRequest(uuid="7f3a", command="ls"))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(main())
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(caught.value) == "JOB_PAUSED"
