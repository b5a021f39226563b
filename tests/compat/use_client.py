"""Make calls with a published client: `use_client.py [TARGET]`, in that client's environment.

Without TARGET it is the client's own `JobletClient()`, with its own configuration, for its own helpers.

Reads calls from standard input, one to a line, made one after the other:

    {"stub": "JobService/RunJob", "request": {"command": "true"}}
    {"helper": "run_job", "arguments": {"command": "true"}}

A stub is a generated one; a helper is a method of the client's `joblet.services.JobService`, or with the name
of another service in front (`networks.list_networks`) of that. Answers with lines: `{"message": …}` for each
message as it comes, then `{"end": "OK", "text": ""}`, or the status or the exception that ended the call,
with its text. Names of fields are without case and underscores, as the names of published definitions differ
in nothing else here; bytes are text in Latin-1, and in a call `{"latin-1": text}`; times are ISO 8601.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Self

import grpc
from google.protobuf.message import Message

messages = importlib.import_module("joblet.proto.joblet_pb2")
stubs = importlib.import_module("joblet.proto.joblet_pb2_grpc")
services = importlib.import_module("joblet.services")

SCALARS = (str, bool, int, float, type(None))


def short(name: str) -> str:
    return name.replace("_", "").lower()


def plain(value: Any) -> Any:
    """What JSON can hold, of a message, of a helper's result, and of what is in them."""
    if isinstance(value, Message):
        fields = value.DESCRIPTOR.fields
        return {short(field.name): plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def with_bytes(given: dict[str, Any]) -> Any:
    """An object of a call, or the bytes that it stands for."""
    return given["latin-1"].encode("latin-1") if given.keys() == {"latin-1"} else given


class OneSocket:
    """What takes the place of a `JobletClient`, with a channel that such a client does not know."""

    def __init__(self, target: str) -> None:
        self.channel = grpc.insecure_channel(target)
        self.jobs = services.JobService(self.channel)
        self.networks = services.NetworkService(self.channel)
        self.volumes = services.VolumeService(self.channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()


def call_stub(channel: grpc.Channel, path: str, fields: dict[str, Any]) -> Iterable[Any]:
    service, _, name = path.partition("/")
    method = messages.DESCRIPTOR.services_by_name[service].methods_by_name[name]
    names = {short(field.name): field.name for field in method.input_type.fields}
    request = getattr(messages, method.input_type.name)(
        **{names[name]: value for name, value in fields.items()}
    )
    reply = getattr(getattr(stubs, f"{service}Stub")(channel), name)(request, timeout=60)
    return [reply] if isinstance(reply, Message) else reply


def call_helper(client: Any, name: str, arguments: dict[str, Any]) -> Iterable[Any]:
    noun, _, method = name.rpartition(".")
    result = getattr(getattr(client, noun or "jobs"), method)(**arguments)
    return result if isinstance(result, Iterator) else [result]


def answer(client: Any, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    try:
        if "stub" in call:
            results = call_stub(client.channel, call["stub"], call["request"])
        else:
            results = call_helper(client, call["helper"], call["arguments"])
        for result in results:
            yield {"message": plain(result)}
    except grpc.RpcError as error:
        yield {"end": error.code().name, "text": error.details()}
    except Exception as error:  # the client's own, whatever they are: the test wants to see them
        yield {"end": type(error).__name__, "text": str(error)}
    else:
        yield {"end": "OK", "text": ""}


def main() -> None:
    whole = importlib.import_module("joblet").JobletClient
    with OneSocket(sys.argv[1]) if sys.argv[1:] else whole() as client:
        for line in sys.stdin:
            for part in answer(client, json.loads(line, object_hook=with_bytes)):
                print(json.dumps(part), flush=True)


if __name__ == "__main__":
    main()
