"""Interceptor: an error becomes the wire's answer, here and nowhere else.

A JobletError is answered with the status of its code, its text as details, and as trailing metadata

    joblet-reason   the stable word for programs
    joblet-hint     what the person can do next, if anything; percent-encoded UTF-8

Any other exception is a bug: logged once with its traceback, answered without internals under a number
that finds the traceback. Cancellation passes through.
"""

import logging
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from urllib.parse import quote, unquote

import grpc

from joblet_agent.errors import Code, JobletError
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded

_LOG = logging.getLogger(__name__)

STATUS = {
    Code.INVALID_ARGUMENT: grpc.StatusCode.INVALID_ARGUMENT,
    Code.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
    Code.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Code.FAILED_PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Code.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Code.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Code.RESOURCE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Code.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Code.INTERNAL: grpc.StatusCode.INTERNAL,
}

REASON_KEY = "joblet-reason"
HINT_KEY = "joblet-hint"

MOST_TEXT = 3000
"""Bytes on the wire of a text. Clients refuse more than 8 KiB of metadata, and the whole answer with it."""

_PLAIN = "".join(chr(byte) for byte in range(0x20, 0x7F) if chr(byte) != "%")


class StatusInterceptor(Interceptor):
    """Answer every error of a method. Only what cannot fail may be outside of it."""

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler with its errors answered."""
        return guarded(handler, partial(_answered, method))


@asynccontextmanager
async def _answered(method: str, context: Context) -> AsyncIterator[None]:
    try:
        yield
    except JobletError as error:
        await _abort(context, STATUS[error.code], str(error), reason=error.reason, hint=error.hint)
    except Exception:  # the top: a bug of ours
        if context.done():  # the client has gone, and writing to it failed: nobody is left to answer
            _LOG.debug("%s ended without its client", method, exc_info=True)
            return
        incident = os.urandom(4).hex()
        _LOG.exception("incident %s in %s", incident, method)
        await _abort(
            context,
            grpc.StatusCode.INTERNAL,
            f"internal error (incident {incident})",
            reason="INTERNAL_ERROR",
            hint=f"please report it with the agent's log around the words: incident {incident}",
        )


async def _abort(
    context: Context, status: grpc.StatusCode, text: str, *, reason: str, hint: str | None
) -> None:
    trailer = [(REASON_KEY, reason)]
    if hint:
        trailer.append((HINT_KEY, wire_text(hint)))
    await context.abort(status, unquote(wire_text(text)), tuple(trailer))


def wire_text(text: str) -> str:
    """Return the text percent-encoded to printable ASCII, cut when it is too long for metadata."""
    wire = quote(text, safe=_PLAIN, errors="backslashreplace")
    if len(wire) <= MOST_TEXT:
        return wire
    whole = re.sub(r"%.?$", "", wire[:MOST_TEXT])
    return quote(unquote(whole, errors="ignore"), safe=_PLAIN) + "..."
