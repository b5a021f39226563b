"""Print a generated definition as JSON: `dump_descriptors.py MODULE [DIRECTORY]`.

MODULE is the generated module of messages, `joblet.proto.joblet_pb2` for one; its stubs are those of
MODULE_grpc. DIRECTORY is looked at first for them. Runs in the environment of any published client, so it
needs nothing but protobuf and grpcio, and uses nothing that some of their releases lack.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto


class RecordingChannel:
    """Stands in for a grpc.Channel and notes which methods a stub makes on it."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def __getattr__(self, kind: str) -> Callable[..., None]:
        """The channel's `unary_unary`, `unary_stream`, `stream_unary` or `stream_stream`."""

        def multi_callable(path: str, *_args: object, **_options: object) -> None:
            self.kinds[path] = kind

        return multi_callable


def stub_kinds(stubs: ModuleType, services: list[str]) -> dict[str, str]:
    """The path that a client really calls, of every method, and its streaming kind."""
    channel = RecordingChannel()
    for service in services:
        getattr(stubs, f"{service}Stub")(channel)
    return channel.kinds


def field_facts(field: FieldDescriptorProto, message: DescriptorProto) -> dict[str, Any]:
    return {
        "name": field.name,
        "type": FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower(),
        "label": FieldDescriptorProto.Label.Name(field.label).removeprefix("LABEL_").lower(),
        "message": field.type_name.removeprefix(".") or None,
        "oneof": message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None,
    }


def message_facts(scope: str, message: DescriptorProto) -> dict[str, dict[int, dict[str, Any]]]:
    """Fields by number, of the message and of those nested in it; a map field is its nested entry message."""
    name = f"{scope}.{message.name}"
    facts = {name: {field.number: field_facts(field, message) for field in message.field}}
    for nested in message.nested_type:
        facts |= message_facts(name, nested)
    return facts


def definition_facts(file: FileDescriptorProto, kinds: dict[str, str]) -> dict[str, Any]:
    """Methods by path, and messages by full name."""
    messages: dict[str, Any] = {}
    for message in file.message_type:
        messages |= message_facts(file.package, message)
    methods = {
        f"/{file.package}.{service.name}/{method.name}": method
        for service in file.service
        for method in service.method
    }
    if methods.keys() != kinds.keys():
        sys.exit(f"stubs and definition differ: {sorted(methods.keys() ^ kinds.keys())}")
    return {
        "methods": {
            path: {
                "kind": kinds[path],
                "request": method.input_type.removeprefix("."),
                "response": method.output_type.removeprefix("."),
            }
            for path, method in methods.items()
        },
        "messages": messages,
    }


def main() -> None:
    module_name, *directories = sys.argv[1:]
    sys.path[:0] = directories
    module = importlib.import_module(module_name)
    stubs = importlib.import_module(f"{module_name}_grpc")
    file = FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    kinds = stub_kinds(stubs, [service.name for service in file.service])
    json.dump(definition_facts(file, kinds), sys.stdout)


if __name__ == "__main__":
    main()
