import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.config import RpcConfig
from joblet_agent.errors import NotFound
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobFilter, JobId, JobSpec, JobState, LogQuery, Outcome, Reason
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.jobs import chunk_to_wire
from joblet_agent.rpc.long_answer import PAGE
from tests.unit.rpc.serving import ID, NOW, RECORD, FakeJobs, reason_of, serving

STOPPED = replace(
    RECORD,
    state=JobState.STOPPED,
    started_at=NOW,
    ended_at=NOW,
    outcome=Outcome(JobState.STOPPED, Reason.STOPPED, -1, 15),
)


def answer(jobs: FakeJobs, method: str, request: Any, **options: Any) -> Any:
    async def run() -> Any:
        async with serving(jobs, **options) as caller:
            return await caller.unary(method, request)

    return asyncio.run(run())


def failure(jobs: FakeJobs, method: str, request: Any, **options: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer(jobs, method, request, **options)
    return caught.value


def test_run_job_fills_the_fields_that_earlier_clients_read() -> None:
    jobs = FakeJobs(record=STOPPED)
    response = answer(jobs, "JobService/RunJob", pb.RunJobRequest(command="sh", args=["-c", "exit 7"]))
    spec = JobSpec("sh", ("-c", "exit 7"))
    assert jobs.calls == [("run", spec, Identity("local", Role.ADMIN))]
    assert response == pb.RunJobResponse(
        job_uuid=ID,
        status="STOPPED",
        command="sh",
        args=["-c", "exit 7"],
        start_time="2026-01-31T12:00:00Z",
        end_time="2026-01-31T12:00:00Z",
        exit_code=-1,
        queue_position=4,
    )


def test_get_job_status() -> None:
    jobs = FakeJobs()
    response = answer(jobs, "JobService/GetJobStatus", pb.GetJobStatusRequest(uuid="7f3a"))
    assert jobs.calls == [("get", "7f3a")]
    assert (response.uuid, response.unit) == (ID, f"joblet-job-{ID}.service")
    assert (response.log_size, response.queue_position) == (2**40, 4)


@pytest.mark.parametrize("force", [False, True])
def test_stop_job(force: bool) -> None:
    jobs = FakeJobs(record=STOPPED)
    response = answer(jobs, "JobService/StopJob", pb.StopJobRequest(uuid="7f3a", force=force))
    assert jobs.calls == [("stop", "7f3a", force)]
    assert response == pb.StopJobResponse(
        uuid=ID, status="STOPPED", end_time="2026-01-31T12:00:00Z", exit_code=-1, reason="stopped", signal=15
    )


def test_cancel_job() -> None:
    jobs = FakeJobs(record=replace(RECORD, state=JobState.CANCELED))
    response = answer(jobs, "JobService/CancelJob", pb.CancelJobRequest(uuid="7f3a"))
    assert jobs.calls == [("cancel", "7f3a")]
    assert response == pb.CancelJobResponse(uuid=ID, status="CANCELED")


def test_delete_job() -> None:
    jobs = FakeJobs()
    response = answer(jobs, "JobService/DeleteJob", pb.DeleteJobRequest(uuid="7f3a"))
    assert jobs.calls == [("delete", "7f3a")]
    assert response == pb.DeleteJobResponse(uuid=ID, success=True, message=f"job {ID} deleted")


def test_delete_all_jobs_counts_both_groups() -> None:
    response = answer(FakeJobs(), "JobService/DeleteAllJobs", pb.DeleteAllJobsRequest())
    assert response == pb.DeleteAllJobsResponse(
        success=True, message="3 jobs deleted, 1 active jobs left alone", deleted_count=3, skipped_count=1
    )


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 3 * PAGE])
def test_list_jobs_has_every_job_of_every_page(count: int) -> None:
    listed = [replace(RECORD, id=JobId(f"job-{number}")) for number in range(count)]
    response = answer(FakeJobs(listed=listed), "JobService/ListJobs", pb.EmptyRequest())
    assert [job.uuid for job in response.jobs] == [record.id for record in listed]


def test_a_list_that_fits_no_message_is_refused() -> None:
    long = replace(RECORD, spec=JobSpec("true", ("x" * 1000,)))
    error = failure(
        FakeJobs(listed=[long] * 100), "JobService/ListJobs", None, rpc=RpcConfig(max_message=65536)
    )
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIST_TOO_LARGE")


async def two_chunks() -> AsyncIterator[LogChunk]:
    yield LogChunk(7, b"out\0\xff")
    yield LogChunk(12, b"")


def test_get_job_logs_sends_the_bytes_and_where_they_are() -> None:
    async def run() -> list[tuple[int, bytes]]:
        async with serving(jobs) as caller:
            call = caller.stream(
                "JobService/GetJobLogs",
                pb.GetJobLogsRequest(uuid="7f3a", offset=7, tail_lines=-1, grep="x", no_follow=True),
            )
            return [(chunk.offset, chunk.payload) async for chunk in call]

    jobs = FakeJobs(chunks=two_chunks)
    assert asyncio.run(run()) == [(7, b"out\0\xff"), (12, b"")]
    assert jobs.calls == [("logs", "7f3a", LogQuery(offset=7, tail_lines=0, grep="x", follow=False))]


def test_a_follower_is_answered_before_there_is_output() -> None:
    async def run() -> None:
        more = asyncio.Event()

        async def silent() -> AsyncIterator[LogChunk]:
            await more.wait()
            yield LogChunk(0, b"at last")

        async with serving(FakeJobs(chunks=silent)) as caller:
            call = caller.stream("JobService/GetJobLogs", pb.GetJobLogsRequest(uuid="7f3a"))
            await call.initial_metadata()
            more.set()
            assert [chunk.payload async for chunk in call] == [b"at last"]

    asyncio.run(asyncio.wait_for(run(), 30))


def test_logs_of_a_job_that_does_not_exist() -> None:
    jobs = FakeJobs(error=NotFound("no job with id 7f3b", reason="JOB_NOT_FOUND"))
    error = failure(jobs, "JobService/GetJobLogs", pb.GetJobLogsRequest(uuid="7f3b"))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_an_error_in_the_middle_of_a_log_keeps_what_came_before() -> None:
    async def breaking() -> AsyncIterator[LogChunk]:
        yield LogChunk(0, b"begin")
        raise NotFound("log is gone", reason="LOG_GONE")

    async def run() -> None:
        async with serving(FakeJobs(chunks=breaking)) as caller:
            call = caller.stream("JobService/GetJobLogs", pb.GetJobLogsRequest(uuid="7f3a"))
            assert (await anext(aiter(call))).payload == b"begin"
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(call))
            assert reason_of(caught.value) == "LOG_GONE"

    asyncio.run(run())


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2**20])
@pytest.mark.parametrize("offset", [0, 1, 127, 128, 2**31, 2**63 - 1])
def test_chunks_made_by_hand_are_what_protobuf_makes(size: int, offset: int) -> None:
    payload = bytes(size)
    parsed = pb.DataChunk.FromString(chunk_to_wire(LogChunk(offset, payload)))
    assert parsed == pb.DataChunk(payload=payload, offset=offset)
    timed = pb.DataChunk.FromString(chunk_to_wire(LogChunk(offset, payload, 2**62)))
    assert timed == pb.DataChunk(payload=payload, offset=offset, time_unix_ns=2**62)


def test_explain_job() -> None:
    jobs = FakeJobs()
    response = answer(jobs, "AgentService/ExplainJob", pb.ExplainJobRequest(uuid="7f3a"))
    assert (response.uuid, response.unit) == (ID, f"joblet-job-{ID}.service")
    assert list(response.properties) == [
        pb.UnitProperty(
            name="Slice",
            value="joblet-jobs.slice",
            origin="always",
            documentation="systemd.resource-control(5)",
        )
    ]
    assert (response.systemd_run, list(response.notes)) == ("systemd-run true", ["a note"])


def test_query_jobs_pages_and_filters() -> None:
    jobs = FakeJobs(listed=[RECORD] * 3)
    request = pb.QueryJobsRequest(
        states=["RUNNING", "FAILED"],
        page_size=2,
        page_token="",
        uuid_prefix="7F3A",
        name="nightly",
        schedule_uuid_prefix="AB",
        created_since=1_500_000_000,
        workflow_uuid=ID.upper(),
    )
    response = answer(jobs, "AgentService/QueryJobs", request)
    since = datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    states = frozenset({JobState.RUNNING, JobState.FAILED})
    wanted = JobFilter(states, "7f3a", "nightly", "ab", since, workflow_id=ID)
    assert jobs.calls == [("page", wanted, 2, "")]
    assert ([job.uuid for job in response.jobs], response.next_page_token) == ([ID, ID], "2")


def test_query_jobs_without_a_page_size_takes_1000() -> None:
    jobs = FakeJobs()
    answer(jobs, "AgentService/QueryJobs", pb.QueryJobsRequest())
    assert jobs.calls == [("page", JobFilter(), 1000, "")]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (pb.QueryJobsRequest(page_size=-1), "BAD_PAGE_SIZE"),
        (pb.QueryJobsRequest(page_size=10_001), "BAD_PAGE_SIZE"),
        (pb.QueryJobsRequest(states=["running"]), "UNKNOWN_STATE"),
        (pb.QueryJobsRequest(uuid_prefix="%"), "INVALID_JOB_ID"),
        (pb.QueryJobsRequest(uuid_prefix="a" * 37), "INVALID_JOB_ID"),
        (pb.QueryJobsRequest(schedule_uuid_prefix="daily"), "INVALID_SCHEDULE_ID"),
        (pb.QueryJobsRequest(workflow_uuid="nightly"), "INVALID_WORKFLOW_ID"),
        (pb.QueryJobsRequest(workflow_uuid=ID[:35]), "INVALID_WORKFLOW_ID"),
    ],
)
def test_query_jobs_refuses_what_cannot_be_meant(request_: pb.QueryJobsRequest, reason: str) -> None:
    jobs = FakeJobs()
    error = failure(jobs, "AgentService/QueryJobs", request_)
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert jobs.calls == []


def test_log_times_are_whole_microseconds_of_utc() -> None:
    jobs = FakeJobs(chunks=two_chunks)
    request = pb.GetJobLogsRequest(uuid="7f3a", since_time=1_769_860_800_123_456_999, tail_lines=3)
    answer(jobs, "JobService/GetJobLogs", request)
    since = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=UTC)
    assert jobs.calls == [("logs", "7f3a", LogQuery(since=since, tail_lines=3))]
