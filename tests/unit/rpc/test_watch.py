import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import grpc
import pytest

from joblet_agent.errors import EventsGone
from joblet_agent.model.event import JobEvent, Sighting, WatchQuery
from joblet_agent.model.job import JobState, Outcome, Reason
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, FakeJobs, FakeWatches, reason_of, serving

TIME = datetime(2026, 1, 31, 12, 0, 0, 987654, tzinfo=UTC)
KILLED = Outcome(JobState.FAILED, Reason.SIGNAL, -1, 9, "killed by signal 9 (SIGKILL)")


async def sightings() -> AsyncIterator[Sighting]:
    yield Sighting(0, JobEvent(0, TIME, ID, "n", "PENDING"))
    yield Sighting(41)
    yield Sighting(42, JobEvent(42, TIME, ID, "n", "FAILED", KILLED))
    raise EventsGone("cannot watch jobs: gone", reason="EVENTS_GONE", hint="list them")


def test_a_watch_passes_everything_on_and_says_why_it_ends() -> None:
    watches = FakeWatches(sightings)
    request = pb.WatchJobsRequest(after=7, snapshot=True, uuids=["7f"], name="n", states=["FAILED", "FAILED"])
    answers: list[pb.WatchJobsResponse] = []

    async def run() -> None:
        async with serving(FakeJobs(), watches=watches) as caller:
            async for answer in caller.stream("AgentService/WatchJobs", request):
                answers.append(answer)  # noqa: PERF401 - those before the error count

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        asyncio.run(run())
    assert (caught.value.code(), reason_of(caught.value)) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "EVENTS_GONE",
    )
    assert watches.queries == [
        WatchQuery(after=7, with_standing=True, given=("7f",), name="n", words=frozenset({"FAILED"}))
    ]
    time = "2026-01-31T12:00:00.987654Z"
    assert answers == [
        pb.WatchJobsResponse(event=pb.JobEvent(time=time, uuid=ID, name="n", status="PENDING")),
        pb.WatchJobsResponse(number=41),
        pb.WatchJobsResponse(
            number=42,
            event=pb.JobEvent(
                time=time,
                uuid=ID,
                name="n",
                status="FAILED",
                exit_code=-1,
                reason="signal",
                signal=9,
                message="killed by signal 9 (SIGKILL)",
            ),
        ),
    ]
    assert not answers[1].HasField("event")
