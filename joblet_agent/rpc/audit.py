"""Interceptors: who called what, and how it ended, for the audit trail.

Two of them. AuditInterceptor is outside of everything that may deny a call, and writes the records: of a
method that changes something before its answer is sent, of a stream also when it begins, and of any method
when the call is denied. SubjectInterceptor is inside, where the request is a message, and notes what the call
is about.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from urllib.parse import unquote

from google.protobuf.message import Message

from joblet_agent.errors import JobletError, NotAuthenticated, NotPermitted
from joblet_agent.model.audit import AuditEntry, AuditResult, Subject
from joblet_agent.model.identity import Permission
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.ports import AuditLog
from joblet_agent.rpc.auth import ACCESS, known_caller
from joblet_agent.rpc.decode import subject_of
from joblet_agent.rpc.denials import Denials
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, guarded, with_behaviour

_ONLY_READING = frozenset({Permission.READ, Permission.FILES, Permission.INSPECT})
"""Permissions of methods that change nothing. Whatever else a method needs, its calls are recorded."""
_CHANGES_NOTHING = frozenset(
    {"AgentService/CheckWorkflow", "AgentService/VerifyRuntime", "AgentService/GetOfferedRuntimes"}
)
"""Methods that change nothing and need a permission to change something."""


@dataclass(slots=True)
class _Call:
    """The RPC that is being handled, and its records.

    It does not hold the call of grpc, which has the client's connection: every task and timer that is made
    while the RPC is handled keeps its context variables, a cancelled timer until it would have been due.
    """

    audit: AuditLog
    address: str
    method: str
    is_stream: bool
    certified_name: str = ""
    """Of a caller that was refused."""
    subject: Subject = field(default_factory=Subject)
    is_refused: bool = False
    """The answer says that nothing was done, as published for removals."""

    def begin(self) -> None:
        """Record of a stream that it has begun."""
        if self.is_stream:
            self.write(AuditResult.BEGUN)

    def write(self, result: AuditResult, reason: str = "") -> None:
        """Record the call, if calls of its method are recorded."""
        if is_recorded(self.method):
            self.audit.write(self.entry(result, reason))

    def entry(self, result: AuditResult, reason: str) -> AuditEntry:
        """Return the record of it."""
        identity = known_caller()
        return AuditEntry(
            caller=identity.name if identity else self.certified_name,
            role=identity.role.value if identity else "",
            address=self.address,
            rpc=self.method,
            result=result,
            reason=reason,
            subject=self.subject,
        )


_CALL: ContextVar[_Call] = ContextVar("call")


def is_recorded(method: str) -> bool:
    """Say whether each call of ``Service/Method`` is recorded, and not only those that are denied."""
    return ACCESS.get(method) not in _ONLY_READING and method not in _CHANGES_NOTHING


class AuditInterceptor(Interceptor):
    """Write the records. Comes before the caller is authenticated, and inside of what answers errors."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        self._denials = Denials(audit, asyncio.get_running_loop())

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler with its calls recorded."""
        is_stream = bool(handler.request_streaming or handler.response_streaming)
        return guarded(handler, partial(self._recorded, method, is_stream))

    def close(self) -> None:
        """Tell what has been left out."""
        self._denials.close()

    @asynccontextmanager
    async def _recorded(self, method: str, is_stream: bool, context: Context) -> AsyncIterator[None]:
        call = _Call(self._audit, address_of(context.peer()), method, is_stream)
        _CALL.set(call)  # never reset: grpc runs each RPC in a task, and so a context, of its own
        try:
            yield
        except (NotAuthenticated, NotPermitted) as error:
            call.certified_name = _certified_name(context)
            self._denials.write(call.entry(AuditResult.DENIED, error.reason))
            raise
        except JobletError as error:
            call.write(AuditResult.FAILED, error.reason)
            raise
        except asyncio.CancelledError:
            call.write(AuditResult.CANCELLED)
            raise
        except BaseException:
            call.write(AuditResult.FAILED, "INTERNAL_ERROR")
            raise
        if call.is_refused:
            call.write(AuditResult.FAILED, "REFUSED")
        else:
            call.write(AuditResult.DONE)


class SubjectInterceptor(Interceptor):
    """Note what a call is about, from its request and its answer. Comes where requests are messages."""

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, telling what it is about; reading methods as they are."""
        if not is_recorded(method):
            return handler
        inner = behaviour_of(handler)

        async def behaviour(request: object, context: Context) -> object:
            call = _CALL.get()
            _note(call, method, await subject_of(request))
            call.begin()
            answer = await inner(request, context)
            _note(call, method, answer)
            call.is_refused = call.is_refused or _says_no(answer)
            return answer

        return with_behaviour(handler, behaviour, deserializer=handler.request_deserializer)


def tell_subject(name: str) -> None:
    """Note the name of what the call is about, where only its servicer knows it."""
    call = _CALL.get()
    call.subject = replace(call.subject, name=name)


def tell_failure() -> None:
    """Note that nothing was done, though the call succeeds: its answer is a stream that says so."""
    _CALL.get().is_refused = True


def address_of(peer: str) -> str:
    """Return grpc's name of a peer as people write it; ``unix`` for the local sockets."""
    kind, _, rest = peer.partition(":")
    return unquote(rest) if kind in {"ipv4", "ipv6"} else kind


def _certified_name(context: Context) -> str:
    """Return the name in the certificate of a caller that was refused; a CA of ours has signed it."""
    names = context.auth_context().get("x509_common_name", ())
    return b" ".join(names).decode(errors="backslashreplace")


def _note(call: _Call, method: str, message: object) -> None:
    if isinstance(message, Message):
        told = {part: text for part, text in _told(method, message) if text}
        call.subject = replace(call.subject, **told)


def _says_no(answer: object) -> bool:
    return (
        isinstance(answer, pb.RemoveNetworkResponse | pb.RemoveVolumeResponse | pb.RemoveRuntimeResponse)
        and not answer.success
    )


def _told(method: str, message: Message) -> list[tuple[str, str]]:
    return [(part, _text_at(message, path)) for path, part in _parts(method).items()]


def _text_at(message: Any, path: str) -> str:
    """Return the text in the field, ``field.field`` for one inside of another; empty if it is not there."""
    for name in path.split("."):
        if not isinstance(message, Message) or name not in message.DESCRIPTOR.fields_by_name:
            return ""
        message = getattr(message, name)
    return message if isinstance(message, str) else ""


def _parts(method: str) -> dict[str, str]:
    """Return which part of a subject is in which field of the method's messages."""
    match method.split("/"):
        case ["NetworkService" | "VolumeService", _]:
            return {"name": "name"}
        case ["AgentService", name] if "Volume" in name:
            return {"name": "name"}
        case [_, name] if "Runtime" in name:
            return dict.fromkeys(
                ("name", "runtime", "runtime_spec", "build", "build.name", "runtime.name"), "name"
            )
        case [_, name] if name.endswith("Schedule"):
            return {"uuid": "schedule_id", "schedule.uuid": "schedule_id"}
        case [_, name] if name.endswith("Workflow"):
            return {
                "workflow": "name",
                "workflow_uuid": "workflow_id",
                "workflow.uuid": "workflow_id",
                "schedule_uuid": "schedule_id",
            }
        case _:
            return {
                "uuid": "job_id",
                "job_uuid": "job_id",
                "schedule_uuid": "schedule_id",
                "workflow_uuid": "workflow_id",
                "command": "command",
            }
