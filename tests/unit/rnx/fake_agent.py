"""An agent of prepared answers: real gRPC on a real socket, no jobs behind it."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from joblet_agent.pb import joblet_pb2 as pb

UUID = "11111111-2222-4333-8444-555555555555"

_STREAMS = {
    "GetJobLogs",
    "GetJobMetrics",
    "WatchJobs",
    "WatchWorkflow",
    "ListJobFiles",
    "DownloadJobFile",
    "DownloadVolumeFile",
    "BuildRuntime",
    "LockRuntime",
    "FollowRuntimeBuild",
    "VerifyRuntime",
    "ExportRuntime",
    "StreamingInstallRuntimeFromGithub",
}
_TAKES_STREAM = {"UploadFiles", "ImportRuntime"}
"""Their answers get the list of all requests."""


@dataclass(frozen=True)
class Failure:
    """The answer of a call that fails."""

    code: grpc.StatusCode
    text: str
    trailer: tuple[tuple[str, str], ...] = ()


def failure(code: grpc.StatusCode, text: str, reason: str = "", hint: str = "") -> Failure:
    pairs = (("joblet-reason", reason), ("joblet-hint", hint))
    return Failure(code, text, tuple(pair for pair in pairs if pair[1]))


class FakeAgent:
    """Answers by method name: a message, a Failure, or a function of (request, context) that returns one.

    A function for a stream is a generator. Every request is kept.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.answers: dict[str, Any] = {}
        self.requests: list[tuple[str, Any]] = []
        self._server: grpc.Server | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    def asked(self, method: str) -> list[Any]:
        return [request for name, request in self.requests if name == method]

    def start(self) -> None:
        self._server = grpc.server(
            ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", 128 * 1024 * 1024)]
        )
        self._server.add_generic_rpc_handlers(
            [self._service(service) for service in pb.DESCRIPTOR.services_by_name.values()]
        )
        self._listen(self._server)
        self._server.start()

    def _listen(self, server: grpc.Server) -> None:
        server.add_insecure_port(self.address)

    def stop(self) -> None:
        assert self._server is not None
        self._server.stop(None).wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def _service(self, service: Any) -> Any:
        handlers = {method.name: self._handler(method) for method in service.methods}
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _handler(self, method: Any) -> Any:
        make, behave = grpc.unary_unary_rpc_method_handler, self._unary
        if method.name in _STREAMS:
            make, behave = grpc.unary_stream_rpc_method_handler, self._stream
        elif method.name in _TAKES_STREAM:
            make = grpc.stream_unary_rpc_method_handler
        elif method.name == "ExecInJob":  # its answer gets an iterator of the requests, kept as it is used
            make, behave = grpc.stream_stream_rpc_method_handler, self._exchange
        return make(
            behave(method.name),
            request_deserializer=getattr(pb, method.input_type.name).FromString,
            response_serializer=getattr(pb, method.output_type.name).SerializeToString,
        )

    def _unary(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Any:
            request = list(request) if name in _TAKES_STREAM else request
            self.requests.append((name, request))
            default = failure(grpc.StatusCode.UNIMPLEMENTED, f"{name} is not offered", "NOT_OFFERED")
            prepared = self.answers.get(name, default)
            return _settle(prepared(request, context) if callable(prepared) else prepared, context)

        return answer

    def _stream(self, name: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Iterator[Any]:
            self.requests.append((name, request))
            prepared = self.answers[name]
            if callable(prepared):
                yield from prepared(request, context)
            else:
                yield _settle(prepared, context)

        return answer

    def _exchange(self, name: str) -> Callable[[Any, Any], Any]:
        def kept(requests: Iterator[Any]) -> Iterator[Any]:
            for request in requests:
                self.requests.append((name, request))
                yield request

        def answer(requests: Any, context: Any) -> Iterator[Any]:
            prepared, requests = self.answers[name], kept(requests)
            if callable(prepared):
                yield from prepared(requests, context)
            else:
                next(requests)
                yield _settle(prepared, context)

        return answer


def _settle(answer: Any, context: Any) -> Any:
    if isinstance(answer, Failure):
        context.set_trailing_metadata(answer.trailer)
        context.abort(answer.code, answer.text)
    return answer
