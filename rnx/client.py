"""The only door to gRPC: the channel, the time limits of calls, and their errors as ours.

TLS: Python's gRPC cannot set a lowest version for a client; the agent accepts nothing below TLS 1.3.
The certificate is checked against the fixed name ``joblet``, whatever the address. When a connection fails,
rnx/diagnosis.py finds out why.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rnx.config import SERVER_NAME, Target
from rnx.exits import NotOffered, RnxError, TimedOut, Unreachable
from rnx.lazyimport import lazy_imports

# gRPC writes its own lines about failed connections to standard error; our one line says it.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

with lazy_imports():
    import grpc

    from joblet_agent.pb import joblet_pb2 as pb
    from joblet_agent.pb import joblet_pb2_grpc

__all__ = ["COPY", "LONG", "SHORT", "STOP", "TEST", "VERSION", "Client", "pb"]

SHORT = timedelta(seconds=10)
DELETE = timedelta(seconds=15)
LONG = timedelta(seconds=30)
VERSION = timedelta(seconds=2)
# The agent answers when the job has ended, which may take the whole grace period (10 s by default).
STOP = timedelta(seconds=120)
# Copies on the agent's side, of contents whose size only the agent knows.
COPY = timedelta(hours=1)
# A test of a runtime may wait in the queue of jobs; the agent ends the test itself before that.
TEST = timedelta(minutes=15)

MESSAGE_LIMIT = 128 * 1024 * 1024
_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy")
OPTIONS = [
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    # An agent that restarts is back within a second or two: look for it that often.
    ("grpc.initial_reconnect_backoff_ms", 100),
    # So long may one attempt take: on a busy host it takes longer than the pause between two.
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


class Client:
    """Calls to one agent. A failed call raises RnxError with the agent's text, reason and hint."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._channel = _open(target)
        stubs: Any = joblet_pb2_grpc  # generated without types
        self.jobs = stubs.JobServiceStub(self._channel)
        self.agent = stubs.AgentServiceStub(self._channel)
        self.networks = stubs.NetworkServiceStub(self._channel)
        self.volumes = stubs.VolumeServiceStub(self._channel)
        self.monitoring = stubs.MonitoringServiceStub(self._channel)
        self.runtimes = stubs.RuntimeServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def call(self, method: Callable[..., Any], request: Any, limit: timedelta) -> Any:
        """Make one unary call that must be answered within ``limit``."""
        with self._our_errors(may_be_slow=True):
            return method(request, timeout=limit.total_seconds())

    def send(self, method: Any, requests: Iterator[Any]) -> Any:
        """Send a client stream, without a time limit, and return its answer; leaving early cancels the call.

        What ``requests`` raises is raised here: the stream then ends as if it were complete.
        """
        failures: list[RnxError] = []
        with self._our_errors():
            call = method.future(_until_failure(requests, failures))
            try:
                reply = call.result()
            except grpc.RpcError:
                if failures:
                    raise failures[0] from None
                raise
            except BaseException:
                call.cancel()
                raise
        if failures:
            raise failures[0]
        return reply

    def stream(
        self, method: Callable[..., Any], request: Any, *, limit: timedelta | None = None
    ) -> Iterator[Any]:
        """Yield the answers of a server stream; leaving the loop cancels the call.

        Without a limit it may take for ever; beyond it the call ends with TimedOut.
        """
        with self._our_errors():
            answers = method(request, timeout=limit.total_seconds() if limit else None)
            try:
                yield from answers
            finally:
                answers.cancel()

    def exchange(self, method: Callable[..., Any], requests: Iterable[Any]) -> Iterator[Any]:
        """Send a client stream and yield the answers of the server's; leaving the loop cancels the call.

        What ``requests`` raises cancels it, and is raised here. There is no time limit.
        """
        failures: list[RnxError] = []
        begun = threading.Event()

        def until_failure() -> Iterator[Any]:
            yield from _until_failure(iter(requests), failures)
            if failures:
                begun.wait()
                answers.cancel()

        with self._our_errors():
            answers = method(until_failure())
            begun.set()
            try:
                yield from answers
            except grpc.RpcError:
                if failures:
                    raise failures[0] from None
                raise
            finally:
                answers.cancel()

    @contextmanager
    def _our_errors(self, *, may_be_slow: bool = False) -> Iterator[None]:
        """Raise ours for gRPC's; ``may_be_slow``: a limit that is over may be the connection's fault."""
        try:
            yield
        except grpc.RpcError as error:
            ours = _our_error(error, self._target.address)
            lost = isinstance(ours, Unreachable) or (may_be_slow and isinstance(ours, TimedOut))
            if lost and not ours.reason and self._target.credentials is not None:
                from rnx.diagnosis import explain  # noqa: PLC0415 - ssl, and only a failure needs it

                ours = explain(self._target) or ours
            raise ours from error


def _until_failure(requests: Iterator[Any], failures: list[RnxError]) -> Iterator[Any]:
    """Yield the requests; gRPC would print what they raise, and tell nobody."""
    try:
        yield from requests
    except RnxError as error:
        failures.append(error)


def _open(target: Target) -> Any:
    if target.credentials is None:
        # A path of a socket is no name for the authority that HTTP/2 wants.
        return grpc.insecure_channel(target.address, [*OPTIONS, ("grpc.default_authority", "localhost")])
    credentials = grpc.ssl_channel_credentials(
        root_certificates=target.credentials.authority,
        private_key=target.credentials.key,
        certificate_chain=target.credentials.certificate,
    )
    named = [*OPTIONS, ("grpc.ssl_target_name_override", SERVER_NAME)]
    return grpc.secure_channel(target.address, credentials, named)


def _our_error(error: Any, address: str) -> RnxError:
    """Translate a failed call, with what the agent says in the trailing metadata."""
    trailer = {str(key): value for key, value in error.trailing_metadata() or ()}
    reason = _text(trailer.get("joblet-reason", ""))
    hint = _text(trailer.get("joblet-hint", ""))
    details = error.details() or ""
    if _is_lost(error.code(), details):
        if reason:
            return Unreachable(details, hint=hint, reason=reason)
        return Unreachable(
            f"cannot reach the agent at {address}: {_cause(address, details)}", hint=_advice(address, details)
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return NotOffered(details or "the agent does not offer this call", hint=hint, reason=reason)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not reason:
        return TimedOut(
            f"the agent at {address} did not answer in time",
            hint="what was asked may still happen: look with rnx list",
        )
    return RnxError(details or f"the agent answered {error.code().name}", hint=hint, reason=reason)


def _is_lost(code: Any, details: str) -> bool:
    """Tell whether the connection ended rather than the call failed.

    An agent that is killed leaves UNAVAILABLE; one that closes cancels its calls; gRPC before 1.60 calls some
    lost connections UNKNOWN "Stream removed" or INTERNAL "RST_STREAM".
    """
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return True
    return code in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL) and (
        "Stream removed" in details or "RST_STREAM" in details
    )


def _cause(address: str, details: str) -> str:
    path = address.removeprefix("unix:")
    if path == address:
        return details
    if _is_forbidden(path):
        return "permission denied"
    return details if os.path.exists(path) else "there is no such socket"


def _advice(address: str, details: str) -> str:
    if address.startswith("unix:"):
        if _is_forbidden(address.removeprefix("unix:")):
            return "root and members of the group joblet may use the local socket"
        return "is the agent running? systemctl status joblet-agent"
    if proxy := next((name for name in _PROXIES if os.environ.get(name)), ""):
        return f"TLS works, and {proxy} sends gRPC through a proxy: set no_proxy to the agent's host"
    return "TLS works: is the agent being restarted? try again"


def _is_forbidden(path: str) -> bool:
    """Tell whether we may not use the socket, or not even look whether it is there."""
    try:
        os.stat(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return not os.access(path, os.R_OK | os.W_OK)


def _text(value: str | bytes) -> str:
    """Return a metadata value; what is not ASCII travels percent-encoded."""
    from urllib.parse import unquote  # noqa: PLC0415 - only a failure needs it

    return unquote(value.decode(errors="replace") if isinstance(value, bytes) else value)
