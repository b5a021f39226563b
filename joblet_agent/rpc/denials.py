"""Denied calls in the audit trail: the first of a caller one by one, of a flood the number.

So nobody who may do nothing can fill the journal, nor hide what others try behind a flood of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from joblet_agent.model.audit import AuditEntry, AuditResult
from joblet_agent.ports import AuditLog

AT_ONCE = 20
"""Denied calls of one caller that are recorded in a row."""
_PER_SECOND = 0.5
"""And how many more on average."""
_TELL_AFTER = 10.0
"""Seconds after which the number of those that were not recorded is."""
MOST_CALLERS = 256
"""Who have an account of their own; what is beyond shares one."""


@dataclass(slots=True)
class _Account:
    left: float
    at: float
    omitted: AuditEntry | None = None
    """Stands for all that have not been recorded."""


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> None:
        """Let it not come."""
        ...


class Timing(Protocol):
    """What the event loop is needed for."""

    def time(self) -> float:
        """Return a time in seconds that only goes forward."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call back after so many seconds."""
        ...


class Denials:
    """Writes denied calls, as many as a caller has left."""

    def __init__(self, audit: AuditLog, loop: Timing) -> None:
        self._audit = audit
        self._loop = loop
        self._accounts: dict[str, _Account] = {}
        self._timer: Timer | None = None

    def write(self, entry: AuditEntry) -> None:
        """Record the denied call now, or count it."""
        account = self._account(entry.caller)
        if account.left >= 1:
            account.left -= 1
            self._audit.write(entry)
            return
        if account.omitted is None:
            account.omitted = replace(entry, result=AuditResult.NOT_RECORDED, count=1)
        else:
            account.omitted = replace(account.omitted, count=account.omitted.count + 1)
        if self._timer is None:
            self._timer = self._loop.call_later(_TELL_AFTER, self._tell)

    def close(self) -> None:
        """Tell now how many were not recorded."""
        if self._timer is not None:
            self._timer.cancel()
            self._tell()

    def _tell(self) -> None:
        self._timer = None
        for account in self._accounts.values():
            if account.omitted is not None:
                self._audit.write(account.omitted)
                account.omitted = None

    def _account(self, caller: str) -> _Account:
        now = self._loop.time()
        account = self._accounts.get(caller)
        if account is None:
            self._forget_quiet(now)
            key = caller if len(self._accounts) < MOST_CALLERS else ""
            account = self._accounts.setdefault(key, _Account(AT_ONCE, now))
        account.left = min(AT_ONCE, account.left + (now - account.at) * _PER_SECOND)
        account.at = now
        return account

    def _forget_quiet(self, now: float) -> None:
        """Drop accounts that are as good as new; only when they are many, as it looks at all."""
        if len(self._accounts) < MOST_CALLERS:
            return
        self._accounts = {
            caller: account
            for caller, account in self._accounts.items()
            if account.omitted is not None or account.left + (now - account.at) * _PER_SECOND < AT_ONCE
        }
