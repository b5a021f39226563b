"""Every error the agent tells a caller about.

JobletError
├── InvalidRequest          INVALID_ARGUMENT     the request can never work as it stands
│   ├── InvalidConfig                            … and it is the configuration file
│   └── NotOffered          UNIMPLEMENTED        known to the API, not offered by this agent
├── NotFound                NOT_FOUND            no such job, network, …
├── AmbiguousId             INVALID_ARGUMENT     an id prefix fits more than one job
├── WrongState              FAILED_PRECONDITION  the job is not in a state that allows it
├── EventsGone              FAILED_PRECONDITION  events from that point on are not kept any more
├── NotAuthenticated        UNAUTHENTICATED      nobody we know
├── NotPermitted            PERMISSION_DENIED    somebody who may not
├── LimitReached            RESOURCE_EXHAUSTED   a limit that the text names
├── HostUnavailable         UNAVAILABLE          systemd, the bus or the disk does not answer now
├── LaunchFailed            INTERNAL             systemd refused the unit, in its own words
└── StoreFailed             INTERNAL             the state database refused

An adapter raises one of these ``from`` the library's own error; ``rpc/status.py`` turns it into
the wire's answer; nobody in between catches it. Texts read ``cannot X: reason``.
"""

from enum import Enum
from typing import ClassVar, Self


class Code(Enum):
    """Kind of failure; each has exactly one gRPC status (rpc/status.py)."""

    INVALID_ARGUMENT = "invalid-argument"
    UNIMPLEMENTED = "unimplemented"
    NOT_FOUND = "not-found"
    FAILED_PRECONDITION = "failed-precondition"
    UNAUTHENTICATED = "unauthenticated"
    PERMISSION_DENIED = "permission-denied"
    RESOURCE_EXHAUSTED = "resource-exhausted"
    UNAVAILABLE = "unavailable"
    INTERNAL = "internal"


class JobletError(Exception):
    """An error with a stable ``reason`` for programs and a ``hint`` for people.

    ``reason`` is upper case with underscores (``JOB_NOT_FOUND``) and never changes its meaning.
    ``hint`` says what the person can do next, or is None.
    """

    code: ClassVar[Code] = Code.INTERNAL

    def __init__(self, text: str, *, reason: str, hint: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.hint = hint

    def anew(self) -> Self:
        """Return the same error, for another who raises it.

        One that is kept and raised again would carry the frames of whoever was first, and rpc/memory.py
        clears them: a task that still waits in one of them would never wake.
        """
        return type(self)(str(self), reason=self.reason, hint=self.hint)


class InvalidRequest(JobletError):
    """The request can never work as it stands."""

    code = Code.INVALID_ARGUMENT


class InvalidConfig(InvalidRequest):
    """The configuration file is wrong; the text names file, line and key."""


class NotOffered(InvalidRequest):
    """The API knows it, this agent does not offer it."""

    code = Code.UNIMPLEMENTED


class NotFound(JobletError):
    """There is no such thing."""

    code = Code.NOT_FOUND


class AmbiguousId(JobletError):
    """An id prefix fits more than one job; nothing is done to any of them."""

    code = Code.INVALID_ARGUMENT


class WrongState(JobletError):
    """The job's state does not allow it."""

    code = Code.FAILED_PRECONDITION


class EventsGone(JobletError):
    """Some of the events from the wanted point on are not kept any more."""

    code = Code.FAILED_PRECONDITION


class NotAuthenticated(JobletError):
    """Nobody we know."""

    code = Code.UNAUTHENTICATED


class NotPermitted(JobletError):
    """Somebody who may not."""

    code = Code.PERMISSION_DENIED


class LimitReached(JobletError):
    """A limit is reached; the text names it."""

    code = Code.RESOURCE_EXHAUSTED


class HostUnavailable(JobletError):
    """systemd, the bus or the disk does not answer now; trying again may help."""

    code = Code.UNAVAILABLE


class LaunchFailed(JobletError):
    """systemd refused the unit."""

    code = Code.INTERNAL


class StoreFailed(JobletError):
    """The state database refused."""

    code = Code.INTERNAL
