"""Every method of every service in proto/joblet.proto as a gRPC handler.

Made from the definition itself, so a method that nobody implements is there, too: it says that it is not
offered, after the caller has been authenticated and authorised like for any other.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import Message

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Behaviour, Context, GenericHandler, Handler, handler_maker
from joblet_agent.rpc.jobs import chunk_to_wire
from joblet_agent.rpc.offered import refuse_method

SERIALIZERS: Mapping[str, Callable[[Any], bytes]] = {
    "JobService/GetJobLogs": chunk_to_wire,
    "JobService/ListJobs": bytes,
    "JobService/GetWorkflowStatus": bytes,
    "JobService/ListWorkflows": bytes,
    "JobService/GetWorkflowJobs": bytes,
    "AgentService/CheckWorkflow": bytes,
}
"""Methods whose servicer does not answer with messages."""


@dataclass(frozen=True, slots=True)
class Method:
    """A method of the definition."""

    service: str
    name: str
    request: type[Message]
    answer: type[Message]
    takes_stream: bool
    """The client sends a stream of requests."""
    gives_stream: bool
    """The answer is a stream."""

    @property
    def path(self) -> str:
        """``Service/Method``, as in the access table."""
        return f"{self.service}/{self.name}"


def defined_methods() -> list[Method]:
    """Return every method of the definition."""
    # Descriptors tell which methods stream from protobuf 4.22 on, their messages always did.
    definition = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(definition)
    return [
        Method(
            service=service.name,
            name=method.name,
            request=getattr(pb, method.input_type.rpartition(".")[2]),
            answer=getattr(pb, method.output_type.rpartition(".")[2]),
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
        )
        for service in definition.service
        for method in service.method
    ]


def generic_handlers(servicers: Mapping[str, Sequence[object]]) -> list[GenericHandler]:
    """Return the handlers of all services; ``servicers`` holds those we have, by the service's name.

    The methods of one service may be spread over several servicers.
    """
    services: dict[str, dict[str, Handler]] = {}
    for method in defined_methods():
        handler = _handler(method, servicers.get(method.service, ()))
        services.setdefault(method.service, {})[method.name] = handler
    return [
        grpc.method_handlers_generic_handler(f"{pb.DESCRIPTOR.package}.{service}", handlers)
        for service, handlers in services.items()
    ]


def _handler(method: Method, servicers: Sequence[object]) -> Handler:
    behaviours = (getattr(servicer, method.name, None) for servicer in servicers)
    return handler_maker(takes_stream=method.takes_stream, gives_stream=method.gives_stream)(
        next(filter(None, behaviours), None) or _not_offered(method.path),
        request_deserializer=method.request.FromString,
        response_serializer=SERIALIZERS.get(method.path, method.answer.SerializeToString),
    )


def _not_offered(method: str) -> Behaviour:
    async def behaviour(request: object, context: Context) -> None:
        refuse_method(method)

    return behaviour
