"""Authentication by client certificate, for calls and, as long as they last, for streams."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from joblet_agent.errors import NotAuthenticated
from joblet_agent.model.identity import Identity
from joblet_agent.pki.verdict import Trust, Verdict, check_time, judge
from joblet_agent.rpc.auth import no_certificate
from joblet_agent.rpc.handlers import Context

MOST_KNOWN = 1024
"""Certificates whose verdict is kept."""

_FURTHEST = 30 * 86400.0
"""Seconds; event loops do not like timers further away."""

End = Callable[[NotAuthenticated], None]


class CertificateAuthenticator:
    """Knows callers by their certificates. Belongs to the event loop."""

    def __init__(self, trust: Trust, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._trust = trust
        self._now = now
        self._known: dict[bytes, Verdict] = {}
        self._streams: set[_Attendance] = set()

    def __call__(self, context: Context) -> Identity:
        """Return who calls. Raises NotAuthenticated."""
        return self._verdict(_certificate(context)).identity

    def trust(self, trust: Trust) -> None:
        """Judge by this from now on, streams that there are included."""
        self._trust = trust
        self._known.clear()
        for stream in list(self._streams):
            stream.look()

    @contextmanager
    def attend(self, context: Context, end: End) -> Iterator[None]:
        """Call ``end`` when the certificate of a stream's caller stops being good."""
        stream = _Attendance(lambda: self._verdict(_certificate(context)), self._now, end)
        self._streams.add(stream)
        try:
            stream.look()
            yield
        finally:
            self._streams.discard(stream)
            stream.close()

    def _verdict(self, pem: bytes) -> Verdict:
        verdict = self._known.get(pem)
        if verdict is not None:
            check_time(verdict, self._now())
            return verdict
        verdict = judge(pem, self._trust, self._now())
        if len(self._known) >= MOST_KNOWN:
            del self._known[next(iter(self._known))]
        self._known[pem] = verdict
        return verdict


class _Attendance:
    """One stream and the one timer for the moment when its certificate expires."""

    def __init__(self, verdict: Callable[[], Verdict], now: Callable[[], datetime], end: End) -> None:
        self._verdict = verdict
        self._now = now
        self._end = end
        self._timer: asyncio.TimerHandle | None = None

    def look(self) -> None:
        """Look at the certificate again: the clock may have been set, the CA or the list changed."""
        self.close()
        try:
            verdict = self._verdict()
        except NotAuthenticated as error:
            self._end(error)
            return
        left = (verdict.until - self._now()).total_seconds()
        self._timer = asyncio.get_running_loop().call_later(min(left, _FURTHEST) + 0.001, self.look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _certificate(context: Context) -> bytes:
    found = tuple(context.auth_context().get("x509_pem_cert", ()))
    if len(found) != 1:
        raise no_certificate()
    return bytes(found[0])
