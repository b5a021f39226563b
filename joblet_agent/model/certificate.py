"""The life of a certificate, for those who must not miss its end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

SERVER, AUTHORITY = "server", "ca"
"""The agent's certificate, and that of a CA."""


class CertificateState(StrEnum):
    """What is the case with a certificate."""

    VALID = "valid"
    DUE = "due"
    """Valid, and less than a third of its life is left: time to renew it."""
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class CertificateLife:
    """A certificate, and from when to when it is valid."""

    kind: str
    """SERVER or AUTHORITY."""
    subject: str
    """As RFC 4514 writes it."""
    since: datetime
    until: datetime

    def state(self, now: datetime) -> CertificateState:
        """Return what is the case now."""
        return state_at(self.since, self.until, now)

    def days_left(self, now: datetime) -> int:
        """Return whole days; negative from the moment of the end on."""
        return days_left(self.until, now)


def state_at(since: datetime, until: datetime, now: datetime) -> CertificateState:
    """Return what is the case with a certificate that is not revoked."""
    if now >= until:
        return CertificateState.EXPIRED
    return CertificateState.DUE if is_due(since, until, now) else CertificateState.VALID


def is_due(since: datetime, until: datetime, now: datetime) -> bool:
    """Say whether less than a third of the life is left."""
    return until - now < (until - since) / 3


def days_left(until: datetime, now: datetime) -> int:
    """Return whole days; negative from the moment of the end on."""
    return (until - now) // timedelta(days=1)
