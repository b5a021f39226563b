"""Recurring schedules on the wire."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest

from joblet_agent.model.job import JobId
from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rpc.fake_workflows import WORKFLOW, WORKFLOW_ID, FakeWorkflows
from tests.unit.rpc.serving import ID, SCHEDULE, FakeJobs, FakeSchedules, reason_of, serving


def answers(
    method: str,
    request: Any,
    schedules: FakeSchedules | None = None,
    workflows: FakeWorkflows | None = None,
) -> Any:
    async def run() -> Any:
        async with serving(FakeJobs(), schedules=schedules, workflows=workflows) as caller:
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
    ((_, spec, *_),) = schedules.calls
    assert (spec.schedule, spec.skip_missed) == ("Mon..Fri 02:00", True)


def test_a_time_makes_a_job() -> None:
    schedules = FakeSchedules()
    reply = answers(
        "JobService/RunJob", pb.RunJobRequest(command="x", schedule="2026-01-31T12:00:00Z"), schedules
    )
    assert (reply.job_uuid, reply.schedule_uuid) == (ID, "")
    assert schedules.calls == []


def test_files_and_secrets_come_along_with_a_schedule() -> None:
    schedules = FakeSchedules()
    request = pb.RunJobRequest(
        command="backup",
        schedule="daily",
        uploads=[pb.FileUpload(path="x", content=b"content")],
        secret_environment={"A": "geheim"},
        secret_files={"key": b"geheim"},
        token="once",
    )
    answers("JobService/RunJob", request, schedules)
    ((_, _, _, uploads, secrets, token),) = schedules.calls
    assert [(file.path, file.content) for file in uploads.files] == [("x", b"content")]
    assert (secrets.environment, secrets.files) == ({"A": "geheim"}, {"key": b"geheim"})
    assert token.text == "once"


def test_a_schedule_tells_names_of_secrets_and_no_value() -> None:
    spec = replace(SCHEDULE.spec, uploads=("x",), secret_environment=("A",), secret_files=("key",))
    schedules = FakeSchedules(replace(SCHEDULE, template=replace(SCHEDULE.template, spec=spec)))
    (listed,) = answers("AgentService/ListSchedules", pb.ListSchedulesRequest(), schedules).schedules
    assert (listed.uploads, listed.secret_files) == (["x"], ["key"])
    assert dict(listed.secret_environment) == {"A": "***"}


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


def test_a_schedule_of_workflows_tells_of_workflows() -> None:
    template = replace(SCHEDULE.template, workflow_id=ID)
    schedules = FakeSchedules(replace(SCHEDULE, template=template, last_job=JobId(WORKFLOW_ID)))
    own = replace(WORKFLOW, schedule_id=SCHEDULE.id)
    workflows = FakeWorkflows(listed=[own, WORKFLOW, replace(own, name="older"), own])
    request = pb.GetScheduleRequest(uuid=ID, most_jobs=2)
    shown = answers("AgentService/GetSchedule", request, schedules, workflows)
    assert (shown.schedule.of_workflows, shown.schedule.last_workflow_uuid) == (True, WORKFLOW_ID)
    assert (shown.schedule.last_job_uuid, len(shown.jobs)) == ("", 0)
    assert [each.name for each in shown.workflows] == ["nightly", "older"]


@pytest.mark.parametrize("most", [-1, 1001])
def test_a_number_of_jobs_out_of_range(most: int) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answers("AgentService/GetSchedule", pb.GetScheduleRequest(uuid=ID, most_jobs=most))
    assert reason_of(caught.value) == "BAD_PAGE_SIZE"
