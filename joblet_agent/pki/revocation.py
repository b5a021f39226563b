"""Which serial numbers the revocation lists must have, and whether they do. Pure.

Each CA has a list of its own, which only its own key can sign. So the key of a former CA stays as long as
certificates of it do: without it a new CA would let everybody back in whom the former one had revoked.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from cryptography import x509

from joblet_agent.model.certificate import CertificateState, is_due
from joblet_agent.pki.certificates import Issuer, Span, make_revocation_list, span_of_list
from joblet_agent.pki.index import Index, state_of

LIST_DAYS = 365


def revoked_of(index: Index, authority: x509.Certificate, now: datetime) -> dict[int, datetime]:
    """Return what the CA's list must have: a certificate that has expired needs no place in it."""
    return {
        record.certificate.serial_number: record.revoked
        for record in index.issued_by(authority)
        if record.revoked and state_of(record.certificate, now) is not CertificateState.EXPIRED
    }


def is_current(
    index: Index, authority: x509.Certificate, lists: Iterable[x509.CertificateRevocationList], now: datetime
) -> bool:
    """Say whether the CA's list is among these, complete and not about to end."""
    found = next((each for each in lists if each.issuer == authority.subject), None)
    if found is None or not found.is_signature_valid(authority.public_key()):  # type: ignore[arg-type]
        return False
    span = span_of_list(found)
    has = {entry.serial_number for entry in found}
    return not is_due(span.since, span.until, now) and has >= set(revoked_of(index, authority, now))


def make_lists(
    index: Index, issuers: Sequence[Issuer], now: datetime
) -> dict[x509.Name, x509.CertificateRevocationList]:
    """Return the list of each CA, by its name."""
    span = Span.of(now, LIST_DAYS)
    return {
        issuer.certificate.subject: make_revocation_list(
            issuer, revoked_of(index, issuer.certificate, now).items(), index.lists, span
        )
        for issuer in issuers
    }
