"""Interceptor: how large the headers of a call may be.

gRPC 1.51 tells clients the limit (SETTINGS_MAX_HEADER_LIST_SIZE), and takes a hundred times as much.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from joblet_agent.errors import LimitReached
from joblet_agent.rpc.handlers import Context, Handler, Interceptor, guarded
from joblet_agent.units import format_bytes

_OVERHEAD = 32
"""Bytes that HTTP/2 counts for each header besides its name and value (RFC 9113, 6.5.2)."""


class HeaderLimit(Interceptor):
    """Refuse calls with more. Comes after the caller is authenticated."""

    def __init__(self, most: int) -> None:
        self._most = most

    def wrapped(self, handler: Handler, method: str) -> Handler:
        """Return the handler, refusing calls beyond the limit."""
        return guarded(handler, self._checked)

    @asynccontextmanager
    async def _checked(self, context: Context) -> AsyncIterator[None]:
        headers = context.invocation_metadata() or ()
        size = sum(len(name) + len(value) + _OVERHEAD for name, value in headers)
        if size > self._most:
            raise LimitReached(
                f"cannot serve the call: its headers have {size} bytes, more than "
                f"{format_bytes(self._most)} (rpc.max_metadata)",
                reason="HEADERS_TOO_LARGE",
                hint="send data in the request, not in headers",
            )
        yield
