"""rnx schedule: one call each, for people and for programs."""

import json

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from tests.unit.rnx.conftest import Rnx
from tests.unit.rnx.fake_agent import UUID, FakeAgent, failure

SCHEDULE = pb.Schedule(
    uuid=UUID,
    name="nightly\x1b",
    command="backup",
    args=["--all"],
    schedule="Mon..Fri 02:00",
    status="ACTIVE",
    next_time="2026-03-02T02:00:00Z",
    started_count=3,
    skipped_count=1,
    skipped_reason="job x had not ended",
    unit=f"joblet-schedule@{UUID}.timer",
)
JOB = pb.Job(uuid="1" + UUID[1:], command="backup", status="COMPLETED", schedule_uuid=UUID)


def test_list_for_people_and_for_programs(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListSchedules"] = pb.ListSchedulesResponse(schedules=[SCHEDULE])
    header, _, row = rnx("schedule", "list").out.splitlines()
    assert header.split() == [
        *("ID", "NAME", "STATUS", "NEXT", "START", "LAST", "START", "SCHEDULE", "COMMAND"),
    ]
    assert row.startswith(f"{UUID}  nightly\\x1b  ACTIVE  2026-03-02")
    assert row.endswith("Mon..Fri 02:00  backup --all")
    (data,) = json.loads(rnx("schedule", "list", "--json").out)
    assert (data["uuid"], data["schedule"], data["next_time"]) == (
        UUID,
        "Mon..Fri 02:00",
        "2026-03-02T02:00:00Z",
    )


def test_no_schedules(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["ListSchedules"] = pb.ListSchedulesResponse()
    assert rnx("schedule", "list").out == "No schedules found\n"
    assert json.loads(rnx("schedule", "list", "--json").out) == []


def test_show_has_the_newest_jobs(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["GetSchedule"] = pb.GetScheduleResponse(schedule=SCHEDULE, jobs=[JOB])
    text = rnx("schedule", "show", UUID[:8], "--jobs=5").out
    assert "Left Out: 1, the last because job x had not ended" in text
    assert JOB.uuid in text
    assert agent.asked("GetSchedule") == [pb.GetScheduleRequest(uuid=UUID[:8], most_jobs=5)]
    data = json.loads(rnx("schedule", "show", UUID, "--json").out)
    assert [job["id"] for job in data["jobs"]] == [JOB.uuid]


def test_show_of_one_that_starts_workflows(agent: FakeAgent, rnx: Rnx) -> None:
    started = pb.WorkflowInfo(uuid="1" + UUID[1:], name="nightly", status="COMPLETED", schedule_uuid=UUID)
    schedule = pb.Schedule()
    schedule.CopyFrom(SCHEDULE)
    schedule.of_workflows, schedule.last_workflow_uuid = True, started.uuid
    agent.answers["GetSchedule"] = pb.GetScheduleResponse(schedule=schedule, workflows=[started])
    text = rnx("schedule", "show", UUID[:8]).out
    assert f"Last Workflow: {started.uuid}" in text
    assert "COMPLETED" in text
    data = json.loads(rnx("schedule", "show", UUID, "--json").out)
    assert (data["last_workflow_uuid"], "jobs" in data) == (started.uuid, False)
    assert [each["status"] for each in data["workflows"]] == ["COMPLETED"]


def test_pause_resume_remove(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["PauseSchedule"] = pb.PauseScheduleResponse(schedule=SCHEDULE)
    agent.answers["ResumeSchedule"] = pb.ResumeScheduleResponse(schedule=SCHEDULE)
    agent.answers["RemoveSchedule"] = pb.RemoveScheduleResponse(uuid=UUID)
    assert rnx("schedule", "pause", UUID).out.startswith(f"Schedule paused:\nID: {UUID}\n")
    assert rnx("schedule", "resume", UUID).out.startswith(f"Schedule resumed:\nID: {UUID}\n")
    assert rnx("schedule", "remove", UUID).out == f"Schedule removed: {UUID}\n"
    assert json.loads(rnx("schedule", "remove", UUID, "--json").out) == {"uuid": UUID, "removed": True}


def test_an_unknown_schedule(agent: FakeAgent, rnx: Rnx) -> None:
    agent.answers["RemoveSchedule"] = failure(
        grpc.StatusCode.NOT_FOUND, "no schedule with id 'x'", "SCHEDULE_NOT_FOUND", "see: rnx schedule list"
    )
    result = rnx("schedule", "remove", "x")
    assert (result.status, result.err) == (1, "rnx: no schedule with id 'x'\nhint: see: rnx schedule list\n")
