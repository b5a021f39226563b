import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import grpc.aio
import pytest

from joblet_agent.errors import NotAuthenticated, NotFound, NotPermitted, WrongState
from joblet_agent.model.audit import AuditEntry, AuditResult, Subject
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.audit import AuditInterceptor, address_of, is_recorded
from joblet_agent.rpc.auth import ACCESS
from joblet_agent.rpc.denials import AT_ONCE, MOST_CALLERS, Denials
from joblet_agent.rpc.handlers import Context, behaviour_of
from joblet_agent.workflows.wanted import WorkflowRefused
from joblet_agent.yaml_file.problems import Mark, Problem
from tests.fakes.audit_log import FakeAuditLog
from tests.unit.rpc.fake_workflows import WORKFLOW_ID, FakeChanges, FakeWorkflows
from tests.unit.rpc.serving import ID, METHODS, SCHEDULE, FakeJobs, FakeVolumes, serving

RUN, STOP, LIST = "JobService/RunJob", "JobService/StopJob", "JobService/ListJobs"
EXEC = "AgentService/ExecInJob"


def viewer(context: Context) -> Identity:
    return Identity("vera", Role.VIEWER)


def nobody(context: Context) -> Identity:
    raise NotAuthenticated("cannot authenticate the caller: revoked", reason="CERTIFICATE_REVOKED")


def told(entry: AuditEntry) -> tuple[str, str, AuditResult, str, Subject]:
    return entry.caller, entry.rpc, entry.result, entry.reason, entry.subject


def test_a_changing_call_is_recorded_before_its_answer_is_there() -> None:
    audit, jobs = FakeAuditLog(), FakeJobs()

    async def run() -> list[AuditEntry]:
        async with serving(jobs, audit=audit) as caller:
            await caller.unary(RUN, pb.RunJobRequest(command="/bin/true", args=["--password=x"]))
            return list(audit.entries)

    (entry,) = asyncio.run(run())
    assert told(entry) == ("local", RUN, AuditResult.DONE, "", Subject(job_id=ID, command="/bin/true"))
    assert (entry.role, entry.address) == ("admin", "unix")
    assert "password" not in repr(entry)


def test_a_call_that_fails_is_recorded_with_the_reason_and_what_the_caller_gave() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(error=NotFound("no", reason="JOB_NOT_FOUND")), audit=audit) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary(STOP, pb.StopJobRequest(uuid="7f3a\nJOBLET_CALLER=root"))

    asyncio.run(run())
    subject = Subject(job_id="7f3a\nJOBLET_CALLER=root")
    assert told(audit.entries[0]) == ("local", STOP, AuditResult.FAILED, "JOB_NOT_FOUND", subject)


def test_a_bug_is_a_failure() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(error=RuntimeError("secret")), audit=audit) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary(STOP, pb.StopJobRequest(uuid=ID))

    asyncio.run(run())
    assert told(audit.entries[0])[2:4] == (AuditResult.FAILED, "INTERNAL_ERROR")


def test_reading_is_not_recorded() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            await caller.unary(LIST)

    asyncio.run(run())
    assert not audit.entries


def test_a_denied_call_is_recorded_whatever_it_asks_for() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit, authenticate=viewer) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary(STOP, pb.StopJobRequest(uuid=ID))
        async with serving(FakeJobs(), audit=audit, authenticate=nobody) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary(LIST)

    asyncio.run(run())
    assert [told(entry)[:4] for entry in audit.entries] == [
        ("vera", STOP, AuditResult.DENIED, "ROLE_NOT_PERMITTED"),
        ("", LIST, AuditResult.DENIED, "CERTIFICATE_REVOKED"),
    ]


class BareContext:
    """As much of a call as the trail asks for."""

    def peer(self) -> str:
        return "unix:"

    def auth_context(self) -> dict[str, object]:
        return {}


@contextmanager
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["JobService/GetJobLogs", EXEC])
def test_a_stream_whose_client_is_gone_keeps_its_connection_no_longer(method: str) -> None:
    """Until it is forgotten gRPC holds the client's socket, and the collector may come much later."""

    lasting: list[object] = []

    async def forever(request: object, context: object) -> None:
        loop = asyncio.get_running_loop()
        lasting.append(asyncio.create_task(asyncio.sleep(1000)))  # as a job's own, which a call has started
        loop.call_later(1000, print).cancel()  # the loop keeps it until it would have been due
        await asyncio.Event().wait()

    async def run() -> object:
        interceptor = AuditInterceptor(FakeAuditLog())
        behaviour = behaviour_of(interceptor.wrapped(grpc.unary_stream_rpc_method_handler(forever), method))
        context = BareContext()
        stream = asyncio.ensure_future(behaviour(b"", cast(Context, context)))
        held = weakref.ref(context)
        del context
        await asyncio.sleep(0)
        stream.cancel()
        await asyncio.wait([stream])
        del stream
        return held()

    with without_collector():
        assert asyncio.run(run()) is None


def test_a_service_that_denies_is_a_denial_too() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(
            FakeJobs(error=NotPermitted("no", reason="PROFILE_NOT_PERMITTED")), audit=audit
        ) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary(RUN, pb.RunJobRequest(command="x", profile="privileged"))

    asyncio.run(run())
    expected = ("local", RUN, AuditResult.DENIED, "PROFILE_NOT_PERMITTED", Subject(command="x"))
    assert [told(entry) for entry in audit.entries] == [expected]


def test_a_stream_is_recorded_when_it_begins_and_when_it_ends() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            start = pb.ExecStart(uuid=ID, command="sh", args=["-c", "secret"], stdin=True)
            given = [
                pb.ExecInJobRequest(start=start),
                pb.ExecInJobRequest(stdin=b"secret"),
                pb.ExecInJobRequest(stdin_end=pb.ExecStdinEnd()),
            ]
            async for _ in caller.exchange(EXEC, given):
                assert told(audit.entries[0])[2] is AuditResult.BEGUN

    asyncio.run(run())
    subject = Subject(job_id=ID, command="sh")
    assert [told(entry)[1:] for entry in audit.entries] == [
        (EXEC, AuditResult.BEGUN, "", subject),
        (EXEC, AuditResult.DONE, "", subject),
    ]
    assert "secret" not in repr(audit.entries)


def test_a_schedule_is_not_taken_for_a_job() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            await caller.unary("AgentService/PauseSchedule", pb.PauseScheduleRequest(uuid=ID[:8]))
            await caller.unary("AgentService/RemoveSchedule", pb.RemoveScheduleRequest(uuid=ID[:8]))

    asyncio.run(run())
    assert [entry.subject for entry in audit.entries] == [Subject(schedule_id=ID)] * 2


def test_volumes_are_named_and_a_removal_that_was_refused_has_failed() -> None:
    audit = FakeAuditLog()
    in_use = FakeVolumes(error=WrongState("cannot remove volume data: a job uses it", reason="VOLUME_IN_USE"))

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            await caller.unary("AgentService/GrowVolume", pb.GrowVolumeRequest(name="data", size="2GB"))
            await caller.unary("VolumeService/RemoveVolume", pb.RemoveVolumeRequest(name="data"))
        async with serving(FakeJobs(), audit=audit, volumes=in_use) as caller:
            await caller.unary("VolumeService/RemoveVolume", pb.RemoveVolumeRequest(name="data"))

    asyncio.run(run())
    assert {entry.subject for entry in audit.entries} == {Subject(name="data")}
    assert [(entry.result, entry.reason) for entry in audit.entries] == [
        (AuditResult.DONE, ""),
        (AuditResult.DONE, ""),
        (AuditResult.FAILED, "REFUSED"),
    ]


RUN_WORKFLOW = pb.RunWorkflowRequest(
    workflow="nightly.yml",
    yaml_content="secret_environment: {KEY: geheim}",
    workflow_files=[pb.FileUpload(path="key", content=b"geheim")],
)


def test_a_workflow_is_recorded_with_its_id_and_file_and_nothing_of_its_text() -> None:
    audit = FakeAuditLog()
    refused = FakeWorkflows(error=WorkflowRefused([Problem(Mark(1, 2), "jobs", "wrong, says geheim")]))

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            await caller.unary("JobService/RunWorkflow", RUN_WORKFLOW)
        async with serving(FakeJobs(), audit=audit, workflows=FakeWorkflows(made=SCHEDULE)) as caller:
            await caller.unary("JobService/RunWorkflow", RUN_WORKFLOW)
        async with serving(FakeJobs(), audit=audit, workflows=refused) as caller:
            with pytest.raises(grpc.aio.AioRpcError):
                await caller.unary("JobService/RunWorkflow", RUN_WORKFLOW)

    asyncio.run(run())
    assert [told(entry)[2:] for entry in audit.entries] == [
        (AuditResult.DONE, "", Subject(name="nightly.yml", workflow_id=WORKFLOW_ID)),
        (AuditResult.DONE, "", Subject(name="nightly.yml", schedule_id=ID)),
        (AuditResult.FAILED, "WORKFLOW_INVALID", Subject(name="nightly.yml")),
    ]
    assert "geheim" not in repr(audit.entries)


@pytest.mark.parametrize("verb", ["Stop", "Cancel", "Pause", "Resume", "Retry", "Delete"])
def test_what_is_done_to_a_workflow_is_recorded_with_its_whole_id(verb: str) -> None:
    audit = FakeAuditLog()
    method = f"AgentService/{verb}Workflow"

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit) as caller:
            await caller.unary(method, METHODS[method].request(workflow_uuid="9c1d"))

    asyncio.run(run())
    subject = Subject(workflow_id=WORKFLOW_ID)
    assert [told(entry) for entry in audit.entries] == [("local", method, AuditResult.DONE, "", subject)]


def test_checking_and_watching_a_workflow_are_no_changes() -> None:
    audit = FakeAuditLog()

    async def run() -> None:
        async with serving(FakeJobs(), audit=audit, workflows=FakeWorkflows(changes=FakeChanges())) as caller:
            await caller.unary("AgentService/CheckWorkflow", pb.CheckWorkflowRequest(yaml_content="x"))
            await caller.unary("AgentService/WatchWorkflow", pb.WatchWorkflowRequest(workflow_uuid="9c1d"))

    asyncio.run(run())
    assert not audit.entries


def test_every_method_that_changes_something_is_recorded() -> None:
    reading = {method for method in ACCESS if not is_recorded(method)}
    verbs = (
        "Get",
        "List",
        "Stream",
        "Query",
        "Watch",
        "Explain",
        "Validate",
        "Download",
        "Check",
        "ServerReflection",
        "Follow",
        "Verify",
        "Export",
    )
    assert all(method.split("/")[1].startswith(verbs) for method in reading)
    assert not any(
        method.split("/")[1].startswith(verbs)
        for method in set(ACCESS) - reading
        if "Streaming" not in method
    )
    assert is_recorded("JobService/Unheard")


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("unix:", "unix"),
        ("ipv4:192.0.2.1:5555", "192.0.2.1:5555"),
        ("ipv6:%5B2001:db8::1%5D:5555", "[2001:db8::1]:5555"),
    ],
)
def test_address_of(peer: str, address: str) -> None:
    assert address_of(peer) == address


DENIED = AuditEntry("vera", "viewer", "192.0.2.1:1", STOP, AuditResult.DENIED, "ROLE_NOT_PERMITTED")


class FakeLoop:
    """Time that stands still, and timers that never come."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers = 0

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> "FakeLoop":
        self.timers += 1
        return self

    def cancel(self) -> None:
        self.timers -= 1


def test_a_flood_of_denied_calls_is_a_number() -> None:
    audit, loop = FakeAuditLog(), FakeLoop()
    denials = Denials(audit, loop)
    for _ in range(AT_ONCE + 1000):
        denials.write(DENIED)
    denials.write(replace(DENIED, caller="other"))
    assert len(audit.entries) == AT_ONCE + 1
    assert loop.timers == 1
    denials.close()
    last = audit.entries[-1]
    assert (last.caller, last.result, last.count) == ("vera", AuditResult.NOT_RECORDED, 1000)


def test_a_caller_who_waits_is_recorded_again() -> None:
    audit, loop = FakeAuditLog(), FakeLoop()
    denials = Denials(audit, loop)
    for _ in range(AT_ONCE + 1):
        denials.write(DENIED)
    loop.now = 2.0
    denials.write(DENIED)
    assert len(audit.entries) == AT_ONCE + 1


def test_callers_by_the_thousand_take_no_memory() -> None:
    audit = FakeAuditLog()
    denials = Denials(audit, FakeLoop())
    for number in range(10 * MOST_CALLERS):
        denials.write(replace(DENIED, caller=str(number)))
    assert len(audit.entries) <= MOST_CALLERS + AT_ONCE
    denials.close()
    assert sum(entry.count for entry in audit.entries) == 10 * MOST_CALLERS
