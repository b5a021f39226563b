"""Process of the agent's client: grpc.aio, one channel; its argument is the agent's address."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.bench.clients import answer_questions
from tests.bench.commands import NOTHING, TIMESTAMP, WARM_UPS, last_line, prints_the_time

_ADDRESS = sys.argv[1]
_POLL = 0.1


def _channel() -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(_ADDRESS, [("grpc.default_authority", "localhost")])


@asynccontextmanager
async def _jobs(warm_ups: int = WARM_UPS) -> AsyncIterator[Any]:
    """Connect for one question, and run some jobs that are not measured."""
    async with _channel() as channel:
        jobs = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(warm_ups):
            await _follow(jobs, await _run(jobs, NOTHING))
        yield jobs


async def _run(jobs: Any, command: Sequence[str], network: str = "none", runtime: str = "") -> str:
    """Run a job; the bare client's jobs have no network either."""
    request = pb.RunJobRequest(command=command[0], args=command[1:], network=network, runtime=runtime)
    reply = await jobs.RunJob(request, wait_for_ready=True)
    return str(reply.job_uuid)


async def _follow(jobs: Any, uuid: str) -> list[bytes]:
    """Return the output of the job once it has ended."""
    return [chunk.payload async for chunk in jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=uuid))]


async def first_instructions(jobs: int) -> list[float]:
    """Return, for each of some jobs one after the other, the ms from the request to its first instruction."""
    taken = []
    async with _jobs() as stub:
        for _ in range(jobs):
            sent_ns = time.time_ns()
            uuid = await _run(stub, TIMESTAMP)
            began_ns = int(last_line(b"".join(await _follow(stub, uuid))))
            taken.append((began_ns - sent_ns) / 1e6)
    return taken


async def starts_on(networks: list[str], jobs: int, parallel: int) -> list[list[float]]:
    """Return, for each of these networks, the ms from requests to first instructions of jobs on it.

    So many rounds; in each the networks take turns, with so many jobs at the same time.
    """
    taken: list[list[float]] = [[] for _ in networks]
    async with _jobs() as stub:
        for network in networks:
            await _started_on(stub, network)  # the first one makes what later ones find
        for _ in range(jobs):
            for network, series in zip(networks, taken, strict=True):
                starts = (_started_on(stub, network) for _ in range(parallel))
                series.extend(await asyncio.gather(*starts))
    return taken


async def starts_with(runtimes: list[str], jobs: int) -> list[list[float]]:
    """As ``starts_on``, one after the other, for jobs with these runtimes (empty: none)."""
    taken: list[list[float]] = [[] for _ in runtimes]
    async with _jobs() as stub:
        for number in range(-WARM_UPS, jobs):
            for runtime, series in zip(runtimes, taken, strict=True):
                ms = await _started_on(stub, "none", runtime)
                if number >= 0:
                    series.append(ms)
    return taken


async def _started_on(jobs: Any, network: str, runtime: str = "") -> float:
    sent_ns = time.time_ns()
    uuid = await _run(jobs, TIMESTAMP, network, runtime)
    return (int(last_line(b"".join(await _follow(jobs, uuid)))) - sent_ns) / 1e6


async def networks(count: int) -> tuple[list[float], list[float]]:
    """Return the ms that making networks takes, and removing them; one after the other."""
    made: list[float] = []
    async with _channel() as channel:
        stub = stubs.NetworkServiceStub(channel)  # type: ignore[no-untyped-call]
        for number in range(count):
            request = pb.CreateNetworkRequest(name=f"bench-{number}", cidr=f"10.99.{number}.0/24")
            made.append(await _taken(stub.CreateNetwork(request, wait_for_ready=True)))
        requests = [pb.RemoveNetworkRequest(name=f"bench-{number}") for number in range(count)]
        removed = [await _taken(stub.RemoveNetwork(request)) for request in requests]
    return made, removed


async def _taken(call: Awaitable[Any]) -> float:
    begin = time.perf_counter()
    await call
    return (time.perf_counter() - begin) * 1e3


async def rate(jobs: int, workers: int, runtime: str = "") -> float:
    """Return how many jobs a second are recorded as ended when so many clients run them in parallel."""
    async with _jobs() as stub:
        waiting = iter(range(jobs))

        async def work() -> None:
            for _ in waiting:
                await _follow(stub, await _run(stub, NOTHING, runtime=runtime))

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return jobs / (time.perf_counter() - begin)


async def submit(command: list[str], jobs: int, workers: int) -> float:
    """Return how many jobs a second are accepted from so many clients in parallel."""
    async with _jobs(warm_ups=0) as stub:
        waiting = iter(range(jobs))

        async def work() -> None:
            for _ in waiting:
                await _run(stub, command)

        begin = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(workers)))
        return jobs / (time.perf_counter() - begin)


async def write(command: list[str], follow: bool) -> dict[str, float]:
    """Run a command that ends its output with the ns it took.

    Returns ``seconds`` of the command and, when it was followed, ``bytes`` and ``follow_seconds`` from
    the request to the end of the stream.
    """
    async with _jobs() as stub:
        begin = time.perf_counter()
        uuid = await _run(stub, command)
        received = await _count(stub, uuid) if follow else await _wait(stub, uuid)
        taken = time.perf_counter() - begin
        tail = pb.GetJobLogsRequest(uuid=uuid, no_follow=True, tail_lines=1)
        seconds = int(b"".join([chunk.payload async for chunk in stub.GetJobLogs(tail)])) / 1e9
        await stub.DeleteJob(pb.DeleteJobRequest(uuid=uuid))
    return {"seconds": seconds, "bytes": received, "follow_seconds": taken}


async def _count(jobs: Any, uuid: str) -> int:
    received = 0
    async for chunk in jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=uuid)):
        received += len(chunk.payload)
    return received


async def _wait(jobs: Any, uuid: str) -> int:
    """Wait for the end without reading the output."""
    # No call of the API waits for an end without sending the output.
    while (await jobs.GetJobStatus(pb.GetJobStatusRequest(uuid=uuid))).status == "RUNNING":  # noqa: ASYNC110
        await asyncio.sleep(_POLL)
    return 0


async def line_delays(lines: int, pause: float) -> list[float]:
    """Return the ms from the printing of a line to its arrival, for lines that come one by one."""
    delays = []
    async with _jobs() as stub:
        uuid = await _run(stub, prints_the_time(lines, pause))
        async for chunk in stub.GetJobLogs(pb.GetJobLogsRequest(uuid=uuid)):
            now_ns = time.time_ns()
            delays += [(now_ns - int(line)) / 1e6 for line in chunk.payload.split()]
    return delays


if __name__ == "__main__":
    answer_questions(
        {
            "first_instructions": first_instructions,
            "starts_on": starts_on,
            "starts_with": starts_with,
            "networks": networks,
            "rate": rate,
            "submit": submit,
            "write": write,
            "line_delays": line_delays,
        }
    )
