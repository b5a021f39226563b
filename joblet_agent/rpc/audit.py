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
from joblet_agent.ports import AuditLog
from joblet_agent.rpc.auth import ACCESS, known_caller
from joblet_agent.rpc.denials import Denials
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, behaviour_of, guarded, with_behaviour

_ONLY_READING = frozenset({Permission.READ, Permission.FILES, Permission.INSPECT})
"""Permissions of methods that change nothing. Whatever else a method needs, its calls are recorded."""


@dataclass(slots=True)
class _Call:
    """The RPC that is being handled, and its records.

    Nothing that it holds leads back to it: a cycle would keep the connection of a client that is gone.
    """

    audit: AuditLog
    context: Context
    method: str
    is_stream: bool
    subject: Subject = field(default_factory=Subject)

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
            caller=identity.name if identity else _certified_name(self.context),
            role=identity.role.value if identity else "",
            address=address_of(self.context.peer()),
            rpc=self.method,
            result=result,
            reason=reason,
            subject=self.subject,
        )


_CALL: ContextVar[_Call] = ContextVar("call")


def is_recorded(method: str) -> bool:
    """Say whether each call of ``Service/Method`` is recorded, and not only those that are denied."""
    return ACCESS.get(method) not in _ONLY_READING


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
        call = _Call(self._audit, context, method, is_stream)
        _CALL.set(call)  # never reset: grpc runs each RPC in a task, and so a context, of its own
        try:
            yield
        except (NotAuthenticated, NotPermitted) as error:
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
            _note(call, method, request)
            call.begin()
            answer = await inner(request, context)
            _note(call, method, answer)
            return answer

        return with_behaviour(handler, behaviour, deserializer=handler.request_deserializer)


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


def _told(method: str, message: Any) -> list[tuple[str, str]]:
    fields = message.DESCRIPTOR.fields_by_name
    return [(part, getattr(message, name)) for name, part in _parts(method).items() if name in fields]


def _parts(method: str) -> dict[str, str]:
    """Return which part of a subject is in which field of the method's messages."""
    match method.split("/"):
        case ["NetworkService" | "VolumeService", _]:
            return {"name": "name"}
        case ["RuntimeService", _]:
            return {"runtime": "name", "runtime_spec": "name"}
        case [_, name] if name.endswith("Schedule"):
            return {"uuid": "schedule_id"}
        case _:
            return {
                "uuid": "job_id",
                "job_uuid": "job_id",
                "schedule_uuid": "schedule_id",
                "workflow_uuid": "workflow_id",
                "command": "command",
            }
