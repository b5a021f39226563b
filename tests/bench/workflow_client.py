"""Process of a client that runs workflows, and the same jobs directly; its argument is the address."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.bench.clients import answer_questions
from tests.bench.commands import NOTHING

_ADDRESS = sys.argv[1]
_OPTIONS = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 1 << 30)]
_UNFINISHED = ["PENDING", "INITIALIZING", "RUNNING", "STOPPING"]
_POLL = 0.05
_WORKERS = 16


def _text(requires: Mapping[str, Sequence[str]]) -> str:
    """Return a file of jobs that do nothing; ``requires`` has for each those that it waits for."""
    jobs = {name: {"requires": list(needed)} for name, needed in requires.items()}
    return json.dumps({"defaults": {"command": NOTHING[0], "network": "none"}, "jobs": jobs})


async def workflows(requires: dict[str, list[str]], count: int) -> dict[str, Any]:
    """Run so many workflows of these jobs at once, to their ends.

    Returns ``accepted`` (the s until all were accepted), ``seconds`` until all had ended, and of each job
    of the first one ``times``: start and end as systemd saw them, in ns.
    """
    text = _text(requires)
    async with grpc.aio.insecure_channel(_ADDRESS, _OPTIONS) as channel:
        jobs = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        begin = time.perf_counter()
        ids = await asyncio.gather(*(_run(jobs, text) for _ in range(count)))
        accepted = time.perf_counter() - begin
        await asyncio.gather(*(_end(agent, each) for each in ids))
        seconds = time.perf_counter() - begin
        status = await jobs.GetWorkflowStatus(pb.GetWorkflowStatusRequest(workflow_uuid=ids[0]))
        times = {job.job_name: (_ns(job.start_time), _ns(job.end_time)) for job in status.jobs}
        for each in ids:
            await agent.DeleteWorkflow(pb.DeleteWorkflowRequest(workflow_uuid=each))
    return {"accepted": accepted, "seconds": seconds, "times": times}


async def _run(jobs: Any, text: str) -> str:
    reply = await jobs.RunWorkflow(pb.RunWorkflowRequest(yaml_content=text), wait_for_ready=True)
    return str(reply.workflow_uuid)


async def _end(agent: Any, workflow_id: str) -> None:
    state = ""
    async for change in agent.WatchWorkflow(pb.WatchWorkflowRequest(workflow_uuid=workflow_id)):
        state = change.workflow.status
    if state != "COMPLETED":
        raise SystemExit(f"bench: workflow {workflow_id} has not completed: {state}")


def _ns(stamp: Any) -> int:
    return int(stamp.seconds * 10**9 + stamp.nanos)


async def one_by_one(jobs: int) -> float:
    """Run so many jobs directly, each when the one before has ended; return the s."""
    async with grpc.aio.insecure_channel(_ADDRESS, _OPTIONS) as channel:
        stub = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        begin = time.perf_counter()
        for _ in range(jobs):
            reply = await stub.RunJob(_nothing(), wait_for_ready=True)
            async for _chunk in stub.GetJobLogs(pb.GetJobLogsRequest(uuid=reply.job_uuid)):
                pass
        return time.perf_counter() - begin


async def all_at_once(jobs: int) -> float:
    """Submit so many jobs directly, as quickly as they are taken; return the s until all have ended."""
    async with grpc.aio.insecure_channel(_ADDRESS, _OPTIONS) as channel:
        stub = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        waiting = iter(range(jobs))

        async def work() -> None:
            for _ in waiting:
                await stub.RunJob(_nothing(), wait_for_ready=True)

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(_WORKERS)))
        unfinished = pb.QueryJobsRequest(states=_UNFINISHED, page_size=1)
        # Watching a thousand jobs would cost more than to ask now and then.
        while (await agent.QueryJobs(unfinished)).jobs:  # noqa: ASYNC110
            await asyncio.sleep(_POLL)
        seconds = time.perf_counter() - begin
        await stub.DeleteAllJobs(pb.DeleteAllJobsRequest())
        return seconds


def _nothing() -> pb.RunJobRequest:
    return pb.RunJobRequest(command=NOTHING[0], network="none")


if __name__ == "__main__":
    answer_questions({"workflows": workflows, "one_by_one": one_by_one, "all_at_once": all_at_once})
