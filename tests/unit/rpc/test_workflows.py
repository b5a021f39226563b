import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.config import RpcConfig
from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import ExplainedProperty, Explanation, JobState, Outcome, Reason
from joblet_agent.model.workflow import (
    Change,
    Counts,
    Member,
    MemberPlan,
    MemberState,
    Progress,
    Wish,
    WorkflowFilter,
    WorkflowState,
)
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.long_answer import PAGE
from joblet_agent.workflow_file.expression import All, End, Not, Test
from joblet_agent.workflow_file.values import Retries
from joblet_agent.workflows.wanted import WantedWorkflow, WorkflowRefused
from joblet_agent.yaml_file.problems import MOST_PROBLEMS, Mark, Problem
from tests.unit.rpc.fake_workflows import (
    JOB_ID,
    MEMBERS,
    NOW,
    PLANNED,
    RECORD,
    WORKFLOW,
    WORKFLOW_ID,
    FakeChanges,
    FakeWorkflows,
)
from tests.unit.rpc.serving import SCHEDULE, FakeJobs, hint_of, reason_of, serving

RUN, CHECK = "JobService/RunWorkflow", "AgentService/CheckWorkflow"
STATUS, JOBS, LIST = (
    f"JobService/{name}" for name in ("GetWorkflowStatus", "GetWorkflowJobs", "ListWorkflows")
)
WATCH = "AgentService/WatchWorkflow"
LOCAL = Identity("local", Role.ADMIN)
AT_NOON = pb.Timestamp(seconds=1769860800, nanos=987654000)
SLICE = f"joblet-jobs-{WORKFLOW_ID.replace('-', '')}.slice"
LATER = NOW + timedelta(seconds=61)


def answer(workflows: FakeWorkflows, method: str, request: Any = None, **more: Any) -> Any:
    async def run() -> Any:
        async with serving(FakeJobs(), workflows=workflows, **more) as caller:
            return await caller.unary(method, request)

    return asyncio.run(run())


def refusal(workflows: FakeWorkflows, method: str, request: Any, **more: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        answer(workflows, method, request, **more)
    return caught.value


def row(member: Member, workflows: FakeWorkflows | None = None) -> pb.WorkflowJob:
    workflows = workflows or FakeWorkflows()
    workflows.member_list = (member,)
    (found,) = answer(workflows, JOBS, pb.GetWorkflowJobsRequest(workflow_uuid=WORKFLOW_ID)).jobs
    assert isinstance(found, pb.WorkflowJob)
    return found


def ended(state: MemberState, **progress: Any) -> Member:
    values = {"job_id": JOB_ID, "tries": 1, "started_at": NOW, "ended_at": LATER, **progress}
    return Member(MemberPlan(0, "a", "a"), Progress(state, **values))


def test_what_was_sent_with_a_workflow_comes_along() -> None:
    workflows = FakeWorkflows()
    request = pb.RunWorkflowRequest(
        workflow="nightly.yml",
        total_jobs=2,
        job_order=["build", "test"],
        yaml_content="jobs: {}",
        workflow_files=[pb.FileUpload(path="src/a", content=b"content", mode=0o600)],
        name="load",
        upload_id="0123",
        token="once",
    )
    reply = answer(workflows, RUN, request)
    assert reply == pb.RunWorkflowResponse(workflow_uuid=WORKFLOW_ID, status="STARTED", total_jobs=2)
    ((_, wanted, caller, uploads, token),) = workflows.calls
    assert wanted == WantedWorkflow(text="jobs: {}", name="load", file="nightly.yml")
    assert caller == LOCAL
    (file,) = uploads.files
    assert (file.path, file.content, file.mode, uploads.staged_id) == ("src/a", b"content", 0o600, "0123")
    assert token.text == "once"


def test_a_workflow_that_starts_later_says_when() -> None:
    later = replace(WORKFLOW, state=WorkflowState.SCHEDULED, scheduled_at=NOW)
    assert answer(FakeWorkflows(made=later), RUN, pb.RunWorkflowRequest(yaml_content="x")) == (
        pb.RunWorkflowResponse(
            workflow_uuid=WORKFLOW_ID,
            status="SCHEDULED",
            total_jobs=2,
            scheduled_time="2026-01-31T12:00:00Z",
        )
    )


def test_a_calendar_makes_a_schedule_and_no_workflow() -> None:
    reply = answer(FakeWorkflows(made=SCHEDULE), RUN, pb.RunWorkflowRequest(yaml_content="x"))
    assert reply == pb.RunWorkflowResponse(
        status="SCHEDULED", scheduled_time="2026-01-31T12:00:00Z", schedule_uuid=SCHEDULE.id
    )


@pytest.mark.parametrize("text", ["", " \n"])
@pytest.mark.parametrize("request_type", [pb.RunWorkflowRequest, pb.CheckWorkflowRequest])
def test_a_missing_text_is_refused(request_type: Any, text: str) -> None:
    workflows = FakeWorkflows()
    method = RUN if request_type is pb.RunWorkflowRequest else CHECK
    error = refusal(workflows, method, request_type(yaml_content=text))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "WORKFLOW_TEXT_MISSING")
    assert "the text of its file is missing" in str(error.details())
    assert not workflows.calls


PROBLEMS = [
    Problem(Mark(3, 5), "jobs.a.requires", "there is no job 'b'"),
    Problem(Mark(), "", "missing volumes: [data]"),
]


def test_a_workflow_that_cannot_run_is_refused_with_what_is_wrong() -> None:
    error = refusal(
        FakeWorkflows(error=WorkflowRefused(PROBLEMS)), RUN, pb.RunWorkflowRequest(yaml_content="x")
    )
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "WORKFLOW_INVALID")
    assert error.details() == (
        "workflow validation failed: line 3: jobs.a.requires: there is no job 'b' (and 1 more)"
    )
    assert "rnx workflow validate" in str(hint_of(error))


def test_a_check_answers_with_all_that_is_wrong() -> None:
    reply = answer(
        FakeWorkflows(error=WorkflowRefused(PROBLEMS)), CHECK, pb.CheckWorkflowRequest(yaml_content="x")
    )
    assert reply == pb.CheckWorkflowResponse(
        problems=[
            pb.WorkflowProblem(line=3, column=5, key="jobs.a.requires", message="there is no job 'b'"),
            pb.WorkflowProblem(message="missing volumes: [data]"),
        ]
    )


def test_a_check_ends_with_the_number_of_what_it_does_not_tell() -> None:
    many = [Problem(Mark(line, 1), "", "wrong") for line in range(1, MOST_PROBLEMS + 8)]
    refused = FakeWorkflows(error=WorkflowRefused(many))
    problems = answer(refused, CHECK, pb.CheckWorkflowRequest(yaml_content="x")).problems
    assert len(problems) == MOST_PROBLEMS + 1
    assert problems[-1] == pb.WorkflowProblem(message="and 7 more")


def test_a_check_tells_how_the_jobs_would_run() -> None:
    second = replace(PLANNED, name="test", step=2, requires="build=COMPLETED")
    workflows = FakeWorkflows(planned=(PLANNED, second))
    request = pb.CheckWorkflowRequest(yaml_content="x", name="load", file_paths=["a", "b"])
    first, other = answer(workflows, CHECK, request).jobs
    assert first == pb.PlannedJob(name="build", step=1, slice="joblet-jobs-*.slice")
    assert (other.name, other.step, other.requires) == ("test", 2, "build=COMPLETED")
    assert workflows.calls == [("check", WantedWorkflow("x", "load"), LOCAL, {"a", "b"}, False)]

    known = ExplainedProperty("MemoryMax", "1G", "--max-memory", "systemd.resource-control(5)")
    explanation = Explanation("joblet-job-*.service", (known,), "systemd-run true")
    explained = FakeWorkflows(planned=[replace(PLANNED, explanation=explanation)])
    request.explain = True
    (first,) = answer(explained, CHECK, request).jobs
    assert explained.calls[0][-1] is True
    assert [each.name for each in first.explain.properties] == ["MemoryMax"]
    assert first.explain.systemd_run == "systemd-run true"


def test_the_summary_of_a_workflow() -> None:
    whole = replace(
        WORKFLOW,
        description="every night",
        state=WorkflowState.STOPPED,
        scheduled_at=NOW,
        ended_at=LATER,
        counts=Counts(28, 1, 2, 3, 4, 5, 6),
        is_paused=True,
        wish=Wish.STOP,
        schedule_id=SCHEDULE.id,
    )
    reply = answer(
        FakeWorkflows(workflow=whole), STATUS, pb.GetWorkflowStatusRequest(workflow_uuid=WORKFLOW_ID[:4])
    )
    assert reply.workflow == pb.WorkflowInfo(
        uuid=WORKFLOW_ID,
        status="STOPPED",
        total_jobs=28,
        running_jobs=1,
        completed_jobs=2,
        skipped_jobs=3,
        canceled_jobs=4,
        stopped_jobs=5,
        failed_jobs=6,
        created_at=AT_NOON,
        started_at=AT_NOON,
        completed_at=pb.Timestamp(seconds=1769860861, nanos=987654000),
        yaml_content="jobs: {}",
        workflow="nightly.yml",
        name="nightly",
        description="every night",
        paused=True,
        ending="stop",
        started_by="bob",
        slice=SLICE,
        scheduled_time="2026-01-31T12:00:00Z",
        schedule_uuid=SCHEDULE.id,
    )
    assert [job.job_name for job in reply.jobs] == ["build", "test"]


def test_what_has_not_been_is_absent() -> None:
    new = replace(WORKFLOW, state=WorkflowState.PENDING, started_at=None)
    info = answer(
        FakeWorkflows(workflow=new), STATUS, pb.GetWorkflowStatusRequest(workflow_uuid="9")
    ).workflow
    assert not info.HasField("started_at")
    assert not info.HasField("completed_at")
    assert info.HasField("created_at")


def test_a_job_that_has_not_ended_is_as_its_record_says() -> None:
    found = row(MEMBERS[0])
    assert found == pb.WorkflowJob(
        job_uuid=JOB_ID, job_name="build", status="STOPPING", start_time=AT_NOON, tries=1, most_tries=1
    )
    starting = FakeWorkflows(record=replace(RECORD, state=JobState.INITIALIZING, started_at=None))
    found = row(MEMBERS[0], starting)
    assert (found.status, found.HasField("start_time")) == ("INITIALIZING", False)


def test_a_job_that_has_ended_just_now_is_as_its_record_says() -> None:
    """Its workflow has not taken note yet."""
    outcome = Outcome(JobState.FAILED, Reason.SIGNAL, 0, 9)
    record = replace(RECORD, state=JobState.FAILED, ended_at=LATER, outcome=outcome)
    found = row(MEMBERS[0], FakeWorkflows(record=record))
    assert (found.status, found.exit_code, found.start_time) == ("FAILED", -1, AT_NOON)
    assert found.end_time.seconds == 1769860861


def test_a_job_in_the_queue_is_pending() -> None:
    found = row(MEMBERS[0], FakeWorkflows(record=None))
    assert found == pb.WorkflowJob(job_uuid=JOB_ID, job_name="build", status="PENDING", tries=1, most_tries=1)


def test_a_job_that_waits_tells_for_what() -> None:
    both = All((Test("build", frozenset({End.COMPLETED})), Not(Test("lint", frozenset({End.FAILED})))))
    condition = All((both, Test("build", frozenset({End.COMPLETED, End.SKIPPED}))))
    plan = MemberPlan(3, "test-3.11", "test", condition, retries=Retries(count=2))
    assert row(Member(plan)) == pb.WorkflowJob(
        job_uuid="0",
        job_name="test-3.11",
        status="WAITING",
        dependencies=["build", "lint"],
        most_tries=3,
        group="test",
        requires="(build=COMPLETED AND NOT (lint=FAILED)) AND build IN (COMPLETED,SKIPPED)",
    )


def test_a_job_that_waits_for_its_retry_has_not_ended() -> None:
    plan = MemberPlan(0, "a", "a", retries=Retries(count=2))
    progress = Progress(
        MemberState.WAITING,
        JOB_ID,
        tries=1,
        not_before=LATER,
        started_at=NOW,
        ended_at=NOW,
        exit_code=3,
        message="exited with status 3",
    )
    assert row(Member(plan, progress)) == pb.WorkflowJob(
        job_uuid=JOB_ID,
        job_name="a",
        status="WAITING",
        tries=1,
        most_tries=3,
        next_try=pb.Timestamp(seconds=1769860861, nanos=987654000),
        message="exited with status 3",
    )


def test_a_job_that_has_ended_tells_how() -> None:
    found = row(ended(MemberState.FAILED, exit_code=7, message="out of memory", outputs={"KEY": "value"}))
    assert (found.status, found.exit_code, found.message) == ("FAILED", 7, "out of memory")
    assert (found.start_time, found.end_time.seconds) == (AT_NOON, 1769860861)
    assert dict(found.outputs) == {"KEY": "value"}
    skipped = row(ended(MemberState.SKIPPED, job_id=None, tries=0, started_at=None))
    assert (skipped.status, skipped.job_uuid, skipped.HasField("start_time")) == ("SKIPPED", "0", False)


def test_lists_have_no_texts_and_leave_out_what_has_ended() -> None:
    workflows = FakeWorkflows()
    (found,) = answer(workflows, LIST).workflows
    assert (found.uuid, found.yaml_content) == (WORKFLOW_ID, "")
    answer(workflows, LIST, pb.ListWorkflowsRequest(include_completed=True))
    assert workflows.calls == [
        ("all", WorkflowFilter(include_ended=False)),
        ("all", WorkflowFilter(include_ended=True)),
    ]


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1, 3 * PAGE])
def test_answers_of_any_length_are_whole_and_in_order(count: int) -> None:
    members = [Member(MemberPlan(number, f"job-{number}", "job")) for number in range(count)]
    workflows = FakeWorkflows(member_list=members, listed=[WORKFLOW] * count)
    names = [member.plan.name for member in members]
    status = answer(workflows, STATUS, pb.GetWorkflowStatusRequest(workflow_uuid="9"))
    assert [job.job_name for job in status.jobs] == names
    assert status.workflow.uuid == WORKFLOW_ID
    jobs = answer(workflows, JOBS, pb.GetWorkflowJobsRequest(workflow_uuid="9")).jobs
    assert [job.job_name for job in jobs] == names
    assert len(answer(workflows, LIST).workflows) == count


def test_an_answer_beyond_the_limit_of_messages_is_refused() -> None:
    large = [ended(MemberState.COMPLETED, outputs={"KEY": "x" * 60_000})] * 2
    workflows = FakeWorkflows(member_list=large)
    error = refusal(
        workflows,
        STATUS,
        pb.GetWorkflowStatusRequest(workflow_uuid="9"),
        rpc=RpcConfig(max_message=64 * 1024),
    )
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIST_TOO_LARGE")
    assert "WatchWorkflow" in str(hint_of(error))


def test_a_watch_tells_everything_and_then_the_changes() -> None:
    done = replace(WORKFLOW, state=WorkflowState.COMPLETED)
    workflows = FakeWorkflows(
        changes=FakeChanges(
            Change(WORKFLOW, MEMBERS), Change(done, [ended(MemberState.COMPLETED)]), Change(done, [])
        )
    )

    async def run() -> list[pb.WatchWorkflowResponse]:
        async with serving(FakeJobs(), workflows=workflows) as caller:
            request = pb.WatchWorkflowRequest(workflow_uuid="9c1d")
            return [each async for each in caller.stream(WATCH, request)]

    first, second, third = asyncio.run(run())
    assert (first.workflow.uuid, first.workflow.slice) == (WORKFLOW_ID, SLICE)
    assert [job.job_name for job in first.jobs] == ["build", "test"]
    assert (second.workflow.status, [job.status for job in second.jobs]) == ("COMPLETED", ["COMPLETED"])
    assert (third.workflow.status, len(third.jobs)) == ("COMPLETED", 0)
    assert workflows.calls == [("watch", "9c1d")]
    assert workflows.changes is not None
    assert workflows.changes.closed.is_set()


def test_a_watch_of_much_is_in_messages_that_every_client_takes() -> None:
    small = [Member(MemberPlan(number, f"job-{number}", "job")) for number in range(2 * PAGE + 1)]
    large = [ended(MemberState.COMPLETED, outputs={"KEY": "x" * 60_000})] * 100
    workflows = FakeWorkflows(changes=FakeChanges(Change(WORKFLOW, [*small, *large])))

    async def run() -> list[pb.WatchWorkflowResponse]:
        async with serving(FakeJobs(), workflows=workflows) as caller:
            return [each async for each in caller.stream(WATCH)]

    replies = asyncio.run(run())
    assert [len(each.jobs) for each in replies[:2]] == [PAGE, PAGE]
    assert sum(len(each.jobs) for each in replies) == len(small) + len(large)
    assert max(each.ByteSize() for each in replies) < 2_000_000
    assert [each.HasField("workflow") for each in replies] == [True] + [False] * (len(replies) - 1)


def test_a_watch_ends_at_once_when_nobody_watches() -> None:
    changes = FakeChanges(Change(WORKFLOW, MEMBERS), goes_on=True)

    async def run() -> None:
        async with serving(FakeJobs(), workflows=FakeWorkflows(changes=changes)) as caller:
            call = caller.stream(WATCH)
            await call.read()
            call.cancel()
            async with asyncio.timeout(10):
                await changes.closed.wait()

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["Stop", "Cancel", "Pause", "Resume", "Retry"])
def test_control_answers_with_the_workflow_as_it_is_now(verb: str) -> None:
    workflows = FakeWorkflows()
    request = getattr(pb, f"{verb}WorkflowRequest")(workflow_uuid="9c1d")
    reply = answer(workflows, f"AgentService/{verb}Workflow", request)
    assert (reply.workflow.uuid, reply.workflow.slice) == (WORKFLOW_ID, SLICE)
    assert workflows.calls[0][:2] == (verb.lower(), "9c1d")


def test_a_retry_may_keep_what_has_completed() -> None:
    workflows = FakeWorkflows()
    for failed_only in (False, True):
        request = pb.RetryWorkflowRequest(workflow_uuid="9c1d", failed_only=failed_only)
        answer(workflows, "AgentService/RetryWorkflow", request)
    assert workflows.calls == [("retry", "9c1d", False), ("retry", "9c1d", True)]


def test_delete_tells_what_is_gone() -> None:
    reply = answer(
        FakeWorkflows(), "AgentService/DeleteWorkflow", pb.DeleteWorkflowRequest(workflow_uuid="9c1d")
    )
    assert reply == pb.DeleteWorkflowResponse(workflow_uuid=WORKFLOW_ID, deleted_jobs=2)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("no workflow with id 9c1d", reason="WORKFLOW_NOT_FOUND"), grpc.StatusCode.NOT_FOUND),
        (WrongState("it has ended", reason="WORKFLOW_ENDED"), grpc.StatusCode.FAILED_PRECONDITION),
    ],
)
def test_errors_of_the_service_are_the_answer(error: Any, code: grpc.StatusCode) -> None:
    request = pb.StopWorkflowRequest(workflow_uuid="9c1d")
    caught = refusal(FakeWorkflows(error=error), "AgentService/StopWorkflow", request)
    assert (caught.code(), reason_of(caught), caught.details()) == (code, error.reason, str(error))
