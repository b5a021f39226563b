"""Says in the log, in time, that certificates of the network listener end: one line each time."""

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta

from joblet_agent.model.certificate import AUTHORITY, CertificateLife

TOLD_AT = (30, 7, 1, 0)
"""Days before the end."""

_LONGEST = timedelta(days=1)
"""Between two looks: the clock may be set, and event loops do not like timers further away."""
_LOG = logging.getLogger(__name__)


class ExpiryWatch:
    """Follows the certificates that are in use. Belongs to the event loop."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._lives: tuple[CertificateLife, ...] = ()
        self._told: dict[CertificateLife, int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def follow(self, lives: Iterable[CertificateLife]) -> None:
        """Look at these from now on, and no more at those before."""
        self._lives = tuple(lives)
        self._told = {life: days for life, days in self._told.items() if life in self._lives}
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self.close()
        now = self._now()
        for life in self._lives:
            passed = [days for days in TOLD_AT if life.until - now <= timedelta(days=days)]
            if passed and passed[-1] < self._told.get(life, TOLD_AT[0] + 1):
                self._told[life] = passed[-1]
                _LOG.log(logging.ERROR if passed[-1] == 0 else logging.WARNING, "%s", _told(life, now))
        if self._lives:
            wait = min([_LONGEST, *(at - now for at in self._moments() if at > now)])
            self._timer = asyncio.get_running_loop().call_later(wait.total_seconds() + 0.001, self._look)

    def _moments(self) -> Iterable[datetime]:
        return (life.until - timedelta(days=days) for life in self._lives for days in TOLD_AT)


def _told(life: CertificateLife, now: datetime) -> str:
    what = f"the CA {life.subject}" if life.kind == AUTHORITY else "the agent's certificate"
    end = f"{life.until:%Y-%m-%d %H:%M} UTC"
    todo = f"renew it: joblet-agent pki renew {life.kind}, or with the CA of your own"
    if now >= life.until:
        refused = (
            "clients whose certificates it has signed are" if life.kind == AUTHORITY else "every client is"
        )
        return f"{what} has expired at {end}, {refused} refused: {todo}"
    left = life.days_left(now)
    return f"{what} ends at {end}, {_in(left)}: {todo}"


def _in(days: int) -> str:
    if not days:
        return "in less than a day"
    return "in 1 day" if days == 1 else f"in {days} days"
