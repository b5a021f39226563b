"""jobs.visibility: own, as the wire shows it."""

import asyncio
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.errors import AmbiguousId
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobFilter
from joblet_agent.model.workflow import Workflow, WorkflowFilter
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import ACCESS
from joblet_agent.rpc.decode import BEGIN_WITH_START
from joblet_agent.rpc.visibility import SCOPES, Scope
from tests.unit.rpc.fake_workflows import WORKFLOW, WORKFLOW_ID, FakeChanges, FakeWorkflows
from tests.unit.rpc.serving import ID, METHODS, RECORD, FakeExecs, FakeFiles, FakeJobs, reason_of, serving
from tests.unit.rpc.test_auth import always

OWN = JobsConfig(visibility=Visibility.OWN)
EVE, BOB = Identity("eve", Role.OPERATOR), Identity("bob", Role.OPERATOR)
OF_JOBS = [method for method, scope in SCOPES.items() if scope is Scope.JOBS]
OF_WORKFLOWS = [method for method, scope in SCOPES.items() if scope is Scope.WORKFLOW]
ID_FIELDS = {"uuid", "job_uuid", "uuids", "job_uuids"}


def request_about(method: str) -> bytes:
    request = METHODS[method].request()
    message = request.start if method in BEGIN_WITH_START else request  # type: ignore[attr-defined]
    fields = message.DESCRIPTOR.fields_by_name
    [field] = ID_FIELDS & set(fields)
    if field in {"uuids", "job_uuids"}:
        getattr(message, field).append(ID[:8])
    else:
        setattr(message, field, ID[:8])
    return request.SerializeToString()


async def answer(
    method: str, request: bytes, jobs: FakeJobs, identity: Identity, workflows: FakeWorkflows | None = None
) -> tuple[str, str | None]:
    async with serving(
        jobs,
        authenticate=always(identity),
        files=FakeFiles(),
        execs=FakeExecs(jobs),
        jobs_config=OWN,
        workflows=workflows,
    ) as caller:
        try:
            await caller.unary(method, request)
        except grpc.aio.AioRpcError as error:
            return error.code().name, reason_of(error)
    return "OK", None


def test_c1_every_method_that_names_a_job_or_a_schedule_says_how_it_is_held() -> None:
    assert set(SCOPES) <= set(ACCESS)
    for path, method in METHODS.items():
        if path in SCOPES and ID_FIELDS & set(method.request.DESCRIPTOR.fields_by_name):
            assert SCOPES[path] in {Scope.JOBS, Scope.SCHEDULE} or path == "JobService/RunJob", path
        elif "workflow_uuid" in method.request.DESCRIPTOR.fields_by_name:
            assert SCOPES[path] is Scope.WORKFLOW or path == "AgentService/QueryJobs", path


@pytest.mark.parametrize("method", OF_JOBS)
def test_a6_a_job_of_somebody_else_is_not_there(method: str) -> None:
    jobs = FakeJobs(record=replace(RECORD, started_by="bob"))
    found = asyncio.run(answer(method, request_about(method), jobs, EVE))
    assert found == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert jobs.calls == [("get", ID[:8])]


@pytest.mark.parametrize("identity", [BOB, Identity("root", Role.ADMIN)])
def test_a6_ones_own_job_by_its_whole_id(identity: Identity) -> None:
    jobs = FakeJobs(record=replace(RECORD, started_by="bob"))
    request = pb.StopJobRequest(uuid=ID[:8]).SerializeToString()
    assert asyncio.run(answer("JobService/StopJob", request, jobs, identity)) == ("OK", None)
    assert jobs.calls[-1][:2] == ("stop", ID if identity is BOB else ID[:8])


def test_lists_are_of_ones_own() -> None:
    jobs = FakeJobs()
    assert asyncio.run(answer("AgentService/QueryJobs", b"", jobs, EVE))[0] == "OK"
    assert asyncio.run(answer("JobService/ListJobs", b"", jobs, EVE))[0] == "OK"
    assert [call[1] for call in jobs.calls] == [JobFilter(started_by="eve")] * 2
    jobs.calls.clear()
    assert asyncio.run(answer("JobService/DeleteAllJobs", b"", jobs, EVE))[0] == "OK"
    assert jobs.calls == [("delete_ended", "eve")]


def workflow_request(method: str) -> bytes:
    return METHODS[method].request(workflow_uuid=WORKFLOW_ID[:4]).SerializeToString()


@pytest.mark.parametrize("method", OF_WORKFLOWS)
def test_a6_a_workflow_of_somebody_else_is_not_there(method: str) -> None:
    workflows = FakeWorkflows(changes=FakeChanges())
    found = asyncio.run(answer(method, workflow_request(method), FakeJobs(), EVE, workflows))
    assert found == ("NOT_FOUND", "WORKFLOW_NOT_FOUND")
    assert workflows.calls == [("get", WORKFLOW_ID[:4])]


@pytest.mark.parametrize("identity", [BOB, Identity("root", Role.ADMIN)])
def test_a6_ones_own_workflow_by_its_whole_id(identity: Identity) -> None:
    workflows = FakeWorkflows()
    method = "AgentService/StopWorkflow"
    request = workflow_request(method)
    assert asyncio.run(answer(method, request, FakeJobs(), identity, workflows)) == ("OK", None)
    assert workflows.calls[-1] == ("stop", WORKFLOW_ID if identity is BOB else WORKFLOW_ID[:4])


def test_lists_of_workflows_are_of_ones_own() -> None:
    workflows = FakeWorkflows()
    assert asyncio.run(answer("JobService/ListWorkflows", b"", FakeJobs(), EVE, workflows))[0] == "OK"
    assert workflows.calls == [("all", WorkflowFilter(include_ended=False, started_by="eve"))]


class SharedPrefix(FakeWorkflows):
    """The prefix that is asked for fits workflows of several."""

    async def get(self, given: str) -> Workflow:
        raise AmbiguousId("several", reason="AMBIGUOUS_WORKFLOW_ID")


@pytest.mark.parametrize(
    ("own", "reason"), [(0, "WORKFLOW_NOT_FOUND"), (1, None), (2, "AMBIGUOUS_WORKFLOW_ID")]
)
def test_a6_a_prefix_is_looked_for_among_ones_own_alone(own: int, reason: str | None) -> None:
    workflows = SharedPrefix(listed=[WORKFLOW] * own)
    method = "AgentService/StopWorkflow"
    found = asyncio.run(answer(method, workflow_request(method), FakeJobs(), BOB, workflows))
    assert found[1] == reason
    assert workflows.calls[0] == ("all", WorkflowFilter(id_prefix=WORKFLOW_ID[:4], started_by="bob"))
    assert workflows.calls[1:] == ([("stop", WORKFLOW_ID)] if own == 1 else [])


def test_a_method_that_nobody_has_thought_of_is_denied() -> None:
    method = "MonitoringService/GetSystemStatus"
    assert asyncio.run(answer(method, b"", FakeJobs(), EVE)) == ("PERMISSION_DENIED", "METHOD_NOT_SCOPED")
