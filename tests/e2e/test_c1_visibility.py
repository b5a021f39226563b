"""jobs.visibility: own, between two operators with certificates."""

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.certificates import make, make_ca
from tests.e2e.agent import DEADLINE, eventually
from tests.e2e.execs import start
from tests.e2e.network import channel, listening

pytestmark = pytest.mark.systemd

CA = make_ca()


@dataclass
class Person:
    jobs: Any
    agent: Any

    def run(self, *words: str, **fields: Any) -> pb.RunJobResponse:
        request = pb.RunJobRequest(command=words[0], args=words[1:], **fields)
        reply: pb.RunJobResponse = self.jobs.RunJob(request, timeout=DEADLINE, wait_for_ready=True)
        return reply

    def listed(self) -> set[str]:
        return {job.uuid for job in self.jobs.ListJobs(pb.EmptyRequest(), timeout=DEADLINE).jobs}

    def watched(self) -> set[str]:
        """Ids of the first events; of everybody's when two jobs run."""
        call = self.agent.WatchJobs(pb.WatchJobsRequest(snapshot=True), timeout=DEADLINE)
        found = set()
        for answer in call:
            if answer.number:  # what stands is told
                break
            found.add(answer.event.uuid)
        call.cancel()
        return found


@pytest.fixture(name="people")
def _people() -> Iterator[dict[str, Person]]:
    with listening(CA, "jobs:\n  visibility: own\n"), ExitStack() as stack:
        people = {}
        own = uuid.uuid4().hex[:8]  # names that have no jobs yet
        for name, role in (("eve", "operator"), ("bob", "operator"), ("ann", "viewer"), ("root", "admin")):
            made = stack.enter_context(channel(make(f"{name}-{own}", role, ca=CA), CA))
            people[name] = Person(stubs.JobServiceStub(made), stubs.AgentServiceStub(made))  # type: ignore[no-untyped-call]
        yield people


def code(call: Any, request: Any) -> str:
    with pytest.raises(grpc.RpcError) as caught:
        next(call(request, timeout=DEADLINE))
    return f"{caught.value.code().name} {caught.value.details()}"


def test_a6_the_jobs_of_another_operator_are_not_there(people: dict[str, Person]) -> None:
    eve, bob, ann, root = people.values()
    mine, theirs = (each.run("sleep", "1000").job_uuid for each in (eve, bob))
    schedule = bob.run("true", schedule="daily").schedule_uuid
    try:
        missing = f"NOT_FOUND no job with id {theirs}"
        calls: list[tuple[Any, Any]] = [
            (eve.jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=theirs)),
            (eve.jobs.StopJob, pb.StopJobRequest(uuid=theirs)),
            (eve.jobs.DeleteJob, pb.DeleteJobRequest(uuid=theirs)),
            (eve.jobs.GetJobLogs, pb.GetJobLogsRequest(uuid=theirs)),
            (eve.jobs.GetJobMetrics, pb.GetJobMetricsRequest(job_uuid=theirs)),
            (eve.agent.ExplainJob, pb.ExplainJobRequest(uuid=theirs)),
            (eve.agent.ListJobFiles, pb.ListJobFilesRequest(uuid=theirs)),
            (eve.agent.ExecInJob, iter([start(theirs, "true")])),
            (eve.agent.KillJob, pb.KillJobRequest(uuid=theirs, signal="KILL")),
            (eve.agent.WatchJobs, pb.WatchJobsRequest(uuids=[theirs])),
            (eve.agent.GetRunningMetrics, pb.GetRunningMetricsRequest(job_uuids=[mine, theirs])),
        ]
        for call, request in calls:
            assert code(call, request) == missing
        prefix = pb.GetJobStatusRequest(uuid=theirs[:8])
        assert code(eve.jobs.GetJobStatus, prefix) == f"NOT_FOUND no job with id {theirs[:8]}"
        assert code(eve.agent.RemoveSchedule, pb.RemoveScheduleRequest(uuid=schedule)).startswith("NOT_FOUND")
        assert len(bob.agent.ListSchedules(pb.ListSchedulesRequest(), timeout=DEADLINE).schedules) == 1
        assert not eve.agent.ListSchedules(pb.ListSchedulesRequest(), timeout=DEADLINE).schedules
        for person, seen in ((eve, {mine}), (bob, {theirs}), (ann, {mine, theirs}), (root, {mine, theirs})):
            assert person.listed() & {mine, theirs} == seen
            assert person.watched() & {mine, theirs} == seen
        bob.jobs.StopJob(pb.StopJobRequest(uuid=theirs[:8], force=True), timeout=DEADLINE)
        gone = eve.jobs.DeleteAllJobs(pb.DeleteAllJobsRequest(), timeout=DEADLINE)
        assert (gone.deleted_count, gone.skipped_count) == (0, 1)
        assert theirs in bob.listed()
    finally:
        root.agent.RemoveSchedule(pb.RemoveScheduleRequest(uuid=schedule), timeout=DEADLINE)
        root.jobs.StopJob(pb.StopJobRequest(uuid=mine, force=True), timeout=DEADLINE)


def test_a6_the_workflows_of_another_operator_are_not_there(people: dict[str, Person]) -> None:
    eve, bob, ann, root = people.values()
    text = "jobs: {wait: {command: sleep, args: ['1000']}}"
    mine, theirs = (
        each.jobs.RunWorkflow(pb.RunWorkflowRequest(yaml_content=text), timeout=DEADLINE).workflow_uuid
        for each in (eve, bob)
    )
    try:
        wanted = pb.GetWorkflowStatusRequest(workflow_uuid=theirs)
        eventually(
            lambda: bob.jobs.GetWorkflowStatus(wanted, timeout=DEADLINE).jobs[0].status,
            lambda status: status == "RUNNING",
        )
        for stub, verb in (
            *((eve.jobs, verb) for verb in ("GetWorkflowStatus", "GetWorkflowJobs")),
            *(
                (eve.agent, f"{verb}Workflow")
                for verb in ("Watch", "Stop", "Cancel", "Pause", "Resume", "Retry", "Delete")
            ),
        ):
            for given in (theirs, theirs[:8]):
                request = getattr(pb, f"{verb}Request")(workflow_uuid=given)
                assert code(getattr(stub, verb), request) == f"NOT_FOUND no workflow with id {given}", verb
        for person, seen in ((eve, {mine}), (bob, {theirs}), (ann, {mine, theirs}), (root, {mine, theirs})):
            listed = person.jobs.ListWorkflows(pb.ListWorkflowsRequest(), timeout=DEADLINE).workflows
            assert {each.uuid for each in listed} & {mine, theirs} == seen
            page = person.agent.QueryJobs(pb.QueryJobsRequest(workflow_uuid=theirs), timeout=DEADLINE)
            assert bool(page.jobs) == (theirs in seen)
    finally:
        for workflow_id in (mine, theirs):
            root.agent.StopWorkflow(pb.StopWorkflowRequest(workflow_uuid=workflow_id), timeout=DEADLINE)
