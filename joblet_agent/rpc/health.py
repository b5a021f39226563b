"""The health service that gRPC defines (grpc.health.v1): for balancers and monitors, with any role.

An agent that answers serves all of its services: it listens only when every job is adopted. That each of its
methods is offered by this node is another question; AgentService.GetNode answers that one.
"""

import asyncio

import grpc
import grpc.aio

from joblet_agent.errors import NotFound
from joblet_agent.jobs.check import quoted
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Context, GenericHandler

SERVICE = "grpc.health.v1.Health"
CHECK, WATCH = f"{SERVICE}/Check", f"{SERVICE}/Watch"

_KNOWN = frozenset({"", SERVICE, *(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())})


def health_handler() -> GenericHandler:
    """Return the service; its messages are on the wire as those of grpc/health/v1/health.proto."""
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(
                _check,
                request_deserializer=pb.HealthRequest.FromString,
                response_serializer=pb.HealthResponse.SerializeToString,
            ),
            "Watch": grpc.unary_stream_rpc_method_handler(
                _watch,
                request_deserializer=pb.HealthRequest.FromString,
                response_serializer=pb.HealthResponse.SerializeToString,
            ),
        },
    )


async def _check(request: pb.HealthRequest, context: Context) -> pb.HealthResponse:
    if request.service not in _KNOWN:
        raise NotFound(f"there is no service {quoted(request.service)}", reason="SERVICE_NOT_FOUND")
    return pb.HealthResponse(status=pb.HealthResponse.SERVING)


async def _watch(request: pb.HealthRequest, context: Context) -> None:
    known = request.service in _KNOWN
    status = pb.HealthResponse.SERVING if known else pb.HealthResponse.SERVICE_UNKNOWN
    await context.write(pb.HealthResponse(status=status))
    await asyncio.Event().wait()  # nothing changes until the agent stops, which ends its streams (calls.py)
