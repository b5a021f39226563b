import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from joblet_agent.rpc.agent import AgentServicer
from joblet_agent.rpc.execs import ExecServicer
from joblet_agent.rpc.jobs import JobServicer
from joblet_agent.rpc.live import LiveServicer
from joblet_agent.rpc.methods import SERIALIZERS
from joblet_agent.rpc.networks import NetworkDetails, NetworkServicer
from joblet_agent.rpc.runtime_builds import AgentRuntimeBuildServicer, RuntimeBuildServicer
from joblet_agent.rpc.runtime_installs import OfferServicer, RuntimeInstallServicer
from joblet_agent.rpc.runtimes import AgentRuntimeServicer, RuntimeServicer
from joblet_agent.rpc.schedules import ScheduleServicer
from joblet_agent.rpc.volumes import AgentVolumeServicer, VolumeServicer
from joblet_agent.rpc.workflows import AgentWorkflowServicer, WorkflowServicer
from tests.unit.rpc.serving import METHODS, FakeJobs, reason_of, serving

SERVICERS: list[tuple[str, type]] = [
    ("JobService", JobServicer),
    ("AgentService", AgentServicer),
    ("AgentService", LiveServicer),
    ("AgentService", ExecServicer),
    ("AgentService", ScheduleServicer),
    ("AgentService", NetworkDetails),
    ("NetworkService", NetworkServicer),
    ("AgentService", AgentVolumeServicer),
    ("VolumeService", VolumeServicer),
    ("JobService", WorkflowServicer),
    ("AgentService", AgentWorkflowServicer),
    ("RuntimeService", RuntimeServicer),
    ("RuntimeService", RuntimeBuildServicer),
    ("RuntimeService", RuntimeInstallServicer),
    ("AgentService", AgentRuntimeServicer),
    ("AgentService", AgentRuntimeBuildServicer),
    ("AgentService", OfferServicer),
]
OFFERED = {f"{service}/{name}" for service, kind in SERVICERS for name in dir(kind) if name[0].isupper()}


def test_servicers_have_only_methods_of_the_definition() -> None:
    assert set(METHODS) >= OFFERED >= set(SERIALIZERS)


@pytest.mark.parametrize(
    ("method", "noun"),
    [
        ("JobService/GetJobTelematics", "job telematics"),
        ("MonitoringService/StreamSystemMetrics", "monitoring"),
    ],
)
def test_what_is_not_offered_says_what_it_is(method: str, noun: str) -> None:
    error = asyncio.run(refused([method]))[method]
    assert error.details() == f"cannot call {method}: this agent does not offer {noun} yet"


def test_every_method_without_a_servicer_is_not_offered() -> None:
    for error in asyncio.run(refused(sorted(set(METHODS) - OFFERED))).values():
        assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_OFFERED")


def test_a_method_that_does_not_exist_is_unimplemented() -> None:
    async def run() -> grpc.StatusCode:
        async with serving(FakeJobs()) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call_nonsense(caller.channel)
            return caught.value.code()

    assert asyncio.run(run()) is grpc.StatusCode.UNIMPLEMENTED


async def call_nonsense(channel: Any) -> None:
    await channel.unary_unary("/joblet.JobService/Nonsense")(b"")


async def refused(methods: list[str]) -> dict[str, grpc.aio.AioRpcError]:
    found = {}
    async with serving(FakeJobs()) as caller:
        for method in methods:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(method)
            found[method] = caught.value
    return found
