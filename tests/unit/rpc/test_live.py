import asyncio
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, FakeJobs, serving


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
