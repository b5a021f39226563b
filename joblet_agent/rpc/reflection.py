"""Server reflection as gRPC defines it: what grpcurl and the like ask for. Only with ``rpc.reflection: yes``.

The same messages under two names: clients ask for v1 first, older ones know v1alpha alone.
"""

from collections.abc import AsyncIterator, Mapping

import grpc
import grpc.aio
from google.protobuf.descriptor import FileDescriptor

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Context, GenericHandler

SERVICES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")
METHOD = "ServerReflectionInfo"

_NOT_FOUND, _UNIMPLEMENTED = 5, 12  # of google.rpc.Code


def reflection_handlers() -> list[GenericHandler]:
    """Return the services; their messages are on the wire as those of grpc/reflection/v1/reflection.proto."""
    handler = grpc.stream_stream_rpc_method_handler(
        _reflect,
        request_deserializer=pb.ReflectionRequest.FromString,
        response_serializer=pb.ReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(service, {METHOD: handler}) for service in SERVICES]


async def _reflect(requests: AsyncIterator[pb.ReflectionRequest], context: Context) -> None:
    async for request in requests:
        answer = pb.ReflectionResponse(valid_host=request.host, original_request=request)
        _answer(request, answer)
        await context.write(answer)


def _answer(request: pb.ReflectionRequest, answer: pb.ReflectionResponse) -> None:
    match request.WhichOneof("message_request"):
        case "list_services":
            for service in pb.DESCRIPTOR.services_by_name.values():
                answer.list_services_response.service.add(name=service.full_name)
        case "file_by_filename" if request.file_by_filename == pb.DESCRIPTOR.name:
            _give(pb.DESCRIPTOR, answer)
        case "file_containing_symbol" if _has(pb.DESCRIPTOR, request.file_containing_symbol):
            _give(pb.DESCRIPTOR, answer)
        case "file_by_filename" | "file_containing_symbol" | "file_containing_extension":
            answer.error_response.error_code = _NOT_FOUND
            answer.error_response.error_message = "there is no such file or symbol"
        case _:
            answer.error_response.error_code = _UNIMPLEMENTED
            answer.error_response.error_message = "there are no extensions"


def _give(file: FileDescriptor, answer: pb.ReflectionResponse) -> None:
    answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)


def _has(file: FileDescriptor, symbol: str) -> bool:
    """Say whether the symbol is in the file: a service, a message, an enum, or what is inside of one."""
    name = symbol.removeprefix(f"{file.package}.").split(".")[0]
    tables: tuple[Mapping[str, object], ...] = (
        file.services_by_name,
        file.message_types_by_name,
        file.enum_types_by_name,
    )
    return symbol.startswith(f"{file.package}.") and any(name in table for table in tables)
