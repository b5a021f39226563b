"""Questions about 100,000 ended jobs."""

import asyncio
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc

from joblet_agent.jobs.paths import AgentPaths
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Outcome, Reason, new_job_id
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from joblet_agent.store import SqliteJobStore
from tests.bench.agent_service import ADDRESS, RUN, STATE, AgentService
from tests.bench.measures import Bound, Row, percentile

_JOBS, _BATCH = 100_000, 1000
_PREFIX = 13
_LOOKS, _PAGES = 200, 40
_PAGE = 1000


def run(service: AgentService) -> list[Row]:
    """Measure one job by an id prefix, a page of 1000 and the whole list, through the API.

    ListJobs of the published definition has no pages; it is reported with what others wait meanwhile.
    """
    ids = asyncio.run(_fill())
    begin = time.perf_counter()
    service.start("retention:\n  keep_ended: 1000000\n")
    started = time.perf_counter() - begin
    options = [("grpc.default_authority", "localhost"), ("grpc.max_receive_message_length", 1 << 30)]
    with grpc.insecure_channel(ADDRESS, options) as channel:
        jobs: Any = stubs.JobServiceStub(channel)  # type: ignore[no-untyped-call]
        agent: Any = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        looks = _look_times(jobs, random.sample(ids, _LOOKS))
        pages = _page_times(agent)
        whole, waits = _list_all(jobs, ids[0])
    service.clear_jobs()
    return [
        Row("store", "one job by id prefix, p50", percentile(looks, 50), "ms"),
        Row("store", "one job by id prefix, p99", percentile(looks, 99), "ms", Bound(50)),
        Row("store", f"page of {_PAGE}, p50", percentile(pages, 50), "ms"),
        Row("store", f"page of {_PAGE}, p99", percentile(pages, 99), "ms", Bound(150)),
        Row("store", f"ListJobs, {_JOBS} jobs at once", whole, "ms"),
        Row("store", "longest wait of another call meanwhile", max(waits), "ms"),
        Row("store", f"start of the agent with {_JOBS} jobs", started, "s"),
    ]


async def _fill() -> list[JobId]:
    """Put the records into the store that the agent will open; return their ids."""
    records = [_ended_job(number) for number in range(_JOBS)]
    store = await SqliteJobStore.open(AgentPaths(STATE, RUN).database)
    for first in range(0, _JOBS, _BATCH):
        await store.save(*records[first : first + _BATCH])
    await store.close()
    return [record.id for record in records]


def _ended_job(number: int) -> JobRecord:
    created = datetime.now(UTC) - timedelta(seconds=_JOBS - number)
    failed = number % 10 == 0
    return JobRecord(
        id=new_job_id(),
        spec=JobSpec(
            "/usr/bin/make",
            ("-C", "project", f"target-{number}"),
            name=f"build-{number % 100}",
            environment={"BUILD": str(number)},
            network="none",
        ),
        state=JobState.FAILED if failed else JobState.COMPLETED,
        created_at=created,
        started_by="root",
        uid=1879048192,
        started_at=created,
        ended_at=created + timedelta(milliseconds=30),
        outcome=Outcome(JobState.FAILED, Reason.EXIT_CODE, 2) if failed else Outcome(JobState.COMPLETED),
    )


def _look_times(jobs: Any, ids: list[JobId]) -> list[float]:
    return [_ms(jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=job_id[:_PREFIX]))[0] for job_id in ids]


def _page_times(agent: Any) -> list[float]:
    """Follow the pages from the newest job on."""
    times, token = [], ""
    for _ in range(_PAGES):
        taken, page = _ms(agent.QueryJobs, pb.QueryJobsRequest(page_size=_PAGE, page_token=token))
        times.append(taken)
        token = page.next_page_token
    return times


def _list_all(jobs: Any, job_id: JobId) -> tuple[float, list[float]]:
    """Return the ms of ListJobs, and those of calls for one job that were made until it had answered."""
    begin = time.perf_counter()
    whole = jobs.ListJobs.future(pb.EmptyRequest())
    waits = []
    while not whole.done():
        waits.append(_ms(jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=job_id))[0])
    taken = (time.perf_counter() - begin) * 1e3
    if len(whole.result().jobs) != _JOBS:
        raise SystemExit(f"bench: ListJobs told of {len(whole.result().jobs)} jobs of {_JOBS}")
    return taken, waits


def _ms(call: Callable[[Any], Any], request: Any) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = call(request)
    return (time.perf_counter() - begin) * 1e3, answer
