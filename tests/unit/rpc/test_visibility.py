"""jobs.visibility: own, as the wire shows it."""

import asyncio
from dataclasses import replace

import grpc
import grpc.aio
import pytest

from joblet_agent.config import JobsConfig, Visibility
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobFilter
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.auth import ACCESS
from joblet_agent.rpc.visibility import SCOPES, Scope
from tests.unit.rpc.serving import ID, METHODS, RECORD, FakeExecs, FakeFiles, FakeJobs, reason_of, serving
from tests.unit.rpc.test_auth import always

OWN = JobsConfig(visibility=Visibility.OWN)
EVE, BOB = Identity("eve", Role.OPERATOR), Identity("bob", Role.OPERATOR)
OF_JOBS = [method for method, scope in SCOPES.items() if scope is Scope.JOBS]
ID_FIELDS = {"uuid", "job_uuid", "uuids", "job_uuids"}


def request_about(method: str) -> bytes:
    message = METHODS[method].request()
    fields = message.DESCRIPTOR.fields_by_name
    [field] = ID_FIELDS & set(fields)
    if field in {"uuids", "job_uuids"}:
        getattr(message, field).append(ID[:8])
    else:
        setattr(message, field, ID[:8])
    return message.SerializeToString()


async def answer(method: str, request: bytes, jobs: FakeJobs, identity: Identity) -> tuple[str, str | None]:
    authenticate = always(identity)
    async with serving(
        jobs, authenticate=authenticate, files=FakeFiles(), execs=FakeExecs(jobs), jobs_config=OWN
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


def test_a_method_that_nobody_has_thought_of_is_denied() -> None:
    method = "JobService/ListWorkflows"
    assert asyncio.run(answer(method, b"", FakeJobs(), EVE)) == ("PERMISSION_DENIED", "METHOD_NOT_SCOPED")
