"""Recurring schedules on the wire."""

import asyncio
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.serving import ID, FakeJobs, FakeSchedules, hint_of, reason_of, serving


def answers(method: str, request: Any, schedules: FakeSchedules | None = None) -> Any:
    async def run() -> Any:
        async with serving(FakeJobs(), schedules=schedules) as caller:
            return await caller.unary(method, request)

    return asyncio.run(run())


def test_a_calendar_expression_makes_a_schedule_and_no_job() -> None:
    schedules = FakeSchedules()
    request = pb.RunJobRequest(command="backup", args=["-a"], schedule="Mon..Fri 02:00", skip_missed=True)
    reply = answers("JobService/RunJob", request, schedules)
    assert reply == pb.RunJobResponse(
        status="SCHEDULED",
        command="backup",
        args=["-a"],
        schedule_uuid=ID,
        scheduled_time="2026-01-31T12:00:00Z",
    )
    ((_, spec, _),) = schedules.calls
    assert (spec.schedule, spec.skip_missed) == ("Mon..Fri 02:00", True)


def test_a_time_makes_a_job() -> None:
    schedules = FakeSchedules()
    reply = answers(
        "JobService/RunJob", pb.RunJobRequest(command="x", schedule="2026-01-31T12:00:00Z"), schedules
    )
    assert (reply.job_uuid, reply.schedule_uuid) == (ID, "")
    assert schedules.calls == []


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"uploads": [pb.FileUpload(path="x", content=b"geheim")]}, "--upload"),
        ({"upload_id": "geheim"}, "--upload"),
        ({"secret_environment": {"A": "geheim"}}, "--secret-env"),
    ],
)
def test_what_belongs_to_one_job_is_refused_for_recurring_ones(fields: dict[str, Any], option: str) -> None:
    schedules = FakeSchedules()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers("JobService/RunJob", pb.RunJobRequest(command="x", schedule="daily", **fields), schedules)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "NOT_FOR_RECURRING"
    assert option in str(caught.value.details())
    assert hint_of(caught.value)
    assert "geheim" not in str(caught.value)
    assert schedules.calls == []


def test_c7_a_text_that_is_neither_is_refused() -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers("JobService/RunJob", pb.RunJobRequest(command="x", schedule="daily\nOnBootSec=1"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(caught.value) == "BAD_SCHEDULE"


def test_list_show_pause_resume_remove() -> None:
    schedules = FakeSchedules()
    (listed,) = answers("AgentService/ListSchedules", pb.ListSchedulesRequest()).schedules
    assert (listed.uuid, listed.schedule, listed.status) == (ID, "daily", "ACTIVE")
    assert listed.unit == f"joblet-schedule@{ID}.timer"
    shown = answers("AgentService/GetSchedule", pb.GetScheduleRequest(uuid="7f3a"), schedules)
    assert (shown.schedule, shown.jobs[0].schedule_uuid) == (listed, ID)
    assert schedules.calls == [("get", "7f3a"), ("jobs", ID, 10)]
    paused = answers("AgentService/PauseSchedule", pb.PauseScheduleRequest(uuid=ID)).schedule
    assert (paused.status, paused.next_time) == ("PAUSED", "")
    assert answers("AgentService/ResumeSchedule", pb.ResumeScheduleRequest(uuid=ID)).schedule == listed
    assert answers("AgentService/RemoveSchedule", pb.RemoveScheduleRequest(uuid=ID)).uuid == ID


@pytest.mark.parametrize("most", [-1, 1001])
def test_a_number_of_jobs_out_of_range(most: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers("AgentService/GetSchedule", pb.GetScheduleRequest(uuid=ID, most_jobs=most))
    assert reason_of(caught.value) == "BAD_PAGE_SIZE"
