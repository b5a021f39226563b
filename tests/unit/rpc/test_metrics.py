import asyncio
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.errors import NotFound
from joblet_agent.model.metrics import MetricsQuery, Reading, Sample, Usage
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, NOW, RECORD, FakeJobs, reason_of, serving

SAMPLE = Sample(
    taken_ns=10**18,
    cpu_usec=1,
    memory=2,
    memory_peak=3,
    memory_limit=4,
    read_bytes=5,
    write_bytes=6,
    read_ops=7,
    write_ops=8,
    recv_bytes=9,
    sent_bytes=10,
    tasks=11,
    cpu_pressure=0.5,
    memory_pressure=1.5,
    io_pressure=2.5,
)
READING = Reading(SAMPLE, seconds=5.0, cpu_percent=150.0, read_rate=1.0, write_rate=2.0)
EVENT = pb.JobMetricsEvent(
    timestamp=10**18,
    job_uuid=ID,
    cpu_percent=150.0,
    memory_bytes=2,
    memory_limit=4,
    disk_read_bytes=5,
    disk_write_bytes=6,
    net_recv_bytes=9,
    net_sent_bytes=10,
    cpu_usec=1,
    memory_peak=3,
    tasks=11,
    cpu_pressure=0.5,
    memory_pressure=1.5,
    io_pressure=2.5,
    disk_read_ops=7,
    disk_write_ops=8,
    disk_read_rate=1.0,
    disk_write_rate=2.0,
    sample_seconds=5.0,
)


def answers(jobs: FakeJobs, method: str, request: Any) -> list[Any]:
    async def run() -> list[Any]:
        async with serving(jobs) as caller:
            return [answer async for answer in caller.stream(method, request)]

    return asyncio.run(run())


def answer(jobs: FakeJobs, method: str, request: Any = None) -> Any:
    async def run() -> Any:
        async with serving(jobs) as caller:
            return await caller.unary(method, request)

    return asyncio.run(run())


def test_stored_samples_are_sent() -> None:
    jobs = FakeJobs(readings_of=[READING, READING])
    request = pb.GetJobMetricsRequest(job_uuid="7f3a", start_time=1, end_time=2, limit=3)
    assert answers(jobs, "JobService/GetJobMetrics", request) == [EVENT, EVENT]
    assert jobs.calls == [("metrics", "7f3a", MetricsQuery(1, 2, 3, follow=False))]


def test_a_stream_begins_now_and_follows() -> None:
    jobs = FakeJobs(readings_of=[READING])
    request = pb.StreamJobMetricsRequest(job_uuid="7f3a")
    assert answers(jobs, "JobService/StreamJobMetrics", request) == [EVENT]
    ((name, given, query),) = jobs.calls
    assert (name, given, query.follow, query.end_ns, query.limit) == ("metrics", "7f3a", True, 0, 0)
    assert query.start_ns > 10**18


@pytest.mark.parametrize("method", ["JobService/GetJobMetrics", "JobService/StreamJobMetrics"])
def test_an_unknown_job_is_not_found(method: str) -> None:
    jobs = FakeJobs(error=NotFound("no job with id 7f3a", reason="JOB_NOT_FOUND"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers(jobs, method, None)
    assert (caught.value.code(), reason_of(caught.value)) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_running_jobs_come_with_their_newest_sample() -> None:
    jobs = FakeJobs(record=replace(RECORD, started_at=NOW), readings_of=[READING])
    request = pb.GetRunningMetricsRequest(job_uuids=["7f3a"])
    assert answer(jobs, "AgentService/GetRunningMetrics", request) == pb.GetRunningMetricsResponse(
        jobs=[pb.RunningMetrics(metrics=EVENT, command="true", start_time="2026-01-31T12:00:00Z")],
        interval_seconds=5.0,
    )
    assert jobs.calls == [("readings", ["7f3a"])]
    (unsampled,) = answer(FakeJobs(), "AgentService/GetRunningMetrics").jobs
    assert unsampled.metrics == pb.JobMetricsEvent(job_uuid=ID)


def test_nobody_counts_what_a_job_does_on_the_hosts_network() -> None:
    spec = replace(RECORD.spec, network="host")
    record = replace(RECORD, spec=spec, started_at=NOW, usage=Usage(cpu_usec=1))
    jobs = FakeJobs(record=record, readings_of=[READING])
    (event,) = answers(jobs, "JobService/GetJobMetrics", pb.GetJobMetricsRequest(job_uuid="7f3a"))
    status = answer(jobs, "JobService/GetJobStatus")
    assert (event.net_uncounted, status.usage.net_uncounted) == (True, True)


def test_the_status_has_the_final_figures() -> None:
    usage = Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, is_partial=True)
    status = answer(FakeJobs(record=replace(RECORD, usage=usage)), "JobService/GetJobStatus")
    assert status.usage == pb.JobUsage(
        cpu_usec=1,
        memory_peak=2,
        disk_read_bytes=3,
        disk_write_bytes=4,
        disk_read_ops=5,
        disk_write_ops=6,
        net_recv_bytes=7,
        net_sent_bytes=8,
        cpu_stalled_usec=9,
        memory_stalled_usec=10,
        io_stalled_usec=11,
        partial=True,
    )
    assert not answer(FakeJobs(), "JobService/GetJobStatus").HasField("usage")
