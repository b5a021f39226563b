"""Whom a client certificate names, and whether it is still good. Pure.

The certificate itself is read and never its printed subject: a name may be ``x,OU=admin``. TLS has checked
most of this when the connection was made; it is checked again for every call, because connections outlive
certificates, CAs and revocation lists.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from joblet_agent.errors import NotAuthenticated
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pki.certificates import span_of
from joblet_agent.pki.names import LOCAL, is_common_name, is_reserved

_ASK_FOR_ANOTHER = "ask an administrator of the node for another one"
_UNREADABLE = (
    ValueError,
    TypeError,
    KeyError,  # a text of a kind that it does not know, from version 43 on
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for bytes that are no certificate, or none that it knows."""
_PEM_CRL = re.compile(rb"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
_PEM_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class BadTrust(Exception):
    """The CA certificates or the revocation lists cannot be used; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to believe."""

    authorities: tuple[x509.Certificate, ...]
    revoked: frozenset[tuple[bytes, int]] = frozenset()
    """Issuer and serial number."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who it is, and how long it is true if nothing is revoked."""

    identity: Identity
    since: datetime
    until: datetime


def read_trust(authorities: bytes, revoked: bytes | None) -> Trust:
    """Return what the PEM files say: CA certificates, and their revocation lists if there are any.

    Every list must be signed by one of the CAs. Raises BadTrust.
    """
    try:
        cas = tuple(x509.load_pem_x509_certificate(pem) for pem in _PEM_CERTIFICATE.findall(authorities))
        lists = [x509.load_pem_x509_crl(pem) for pem in _PEM_CRL.findall(revoked or b"")]
    except _UNREADABLE as error:
        raise BadTrust(f"no certificate or revocation list: {error}") from error
    if not cas:
        raise BadTrust("there is no CA certificate")
    if revoked is not None and not lists:
        raise BadTrust("there is no revocation list in the file for it")
    try:
        return Trust(cas, frozenset(entry for each in lists for entry in _revoked_by(each, cas)))
    except _UNREADABLE as error:
        raise BadTrust(f"no usable certificate or revocation list: {error}") from error


def _revoked_by(
    revoked: x509.CertificateRevocationList, authorities: Sequence[x509.Certificate]
) -> list[tuple[bytes, int]]:
    for ca in authorities:
        if ca.subject == revoked.issuer and revoked.is_signature_valid(ca.public_key()):  # type: ignore[arg-type]
            issuer = revoked.issuer.public_bytes()
            return [(issuer, entry.serial_number) for entry in revoked]
    raise BadTrust("the revocation list is not signed by a CA that is there")


def judge(pem: bytes, trust: Trust, now: datetime) -> Verdict:
    """Return whom the client certificate names. Raises NotAuthenticated with the reason why it is refused."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        identity = _identity(certificate)
        _check_purpose(certificate)
        since, until = _checked_issue(certificate, trust)
    except _UNREADABLE as error:
        raise refused("it cannot be read", "CERTIFICATE_UNREADABLE") from error
    verdict = Verdict(identity, since, until)
    check_time(verdict, now)
    return verdict


def check_time(verdict: Verdict, now: datetime) -> None:
    """Raise NotAuthenticated if the certificate is not valid now."""
    if now < verdict.since:
        raise refused(
            f"it begins at {verdict.since:%Y-%m-%d %H:%M:%S} UTC, and here it is {now:%Y-%m-%d %H:%M:%S}",
            "CERTIFICATE_NOT_YET_VALID",
            "compare the clocks of the two machines",
        )
    if now >= verdict.until:
        raise refused(
            f"it expired at {verdict.until:%Y-%m-%d %H:%M:%S} UTC, and here it is {now:%Y-%m-%d %H:%M:%S}",
            "CERTIFICATE_EXPIRED",
            "get a new one from an administrator, and compare the clocks",
        )


def refused(why: str, reason: str, hint: str | None = None) -> NotAuthenticated:
    """Return the error that refuses a certificate."""
    return NotAuthenticated(
        f"cannot accept the client certificate: {why}", reason=reason, hint=hint or _ASK_FOR_ANOTHER
    )


def _identity(certificate: x509.Certificate) -> Identity:
    names = _texts(certificate, NameOID.COMMON_NAME)
    if len(names) != 1 or not is_common_name(names[0]):
        raise refused(
            "its subject must have exactly one name (CN), of printable characters", "CERTIFICATE_NAME"
        )
    name = names[0]
    if is_reserved(name):
        raise refused(f"the name {LOCAL} belongs to the local socket", "CERTIFICATE_NAME")
    units = _texts(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    if len(units) != 1:
        raise refused(
            f"its subject must have exactly one OU, which is the role, and has {len(units)}",
            "CERTIFICATE_ROLE",
        )
    # casefold() would take a Kelvin sign for a k; only ASCII has an upper and a lower case here.
    if not units[0].isascii() or units[0].lower() not in list(Role):
        raise refused(f"its OU must be one of {', '.join(Role)}", "CERTIFICATE_ROLE")
    return Identity(name, Role(units[0].lower()))


def _texts(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> list[str]:
    values = [attribute.value for attribute in certificate.subject.get_attributes_for_oid(oid)]
    if not all(isinstance(value, str) for value in values):
        raise ValueError("a name that is no text")
    return [str(value) for value in values]


def _check_purpose(certificate: x509.Certificate) -> None:
    extensions = certificate.extensions
    try:
        usage = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier("1.3.6.1.5.5.7.3.0")])
    if ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        raise refused("it is not for clients (extended key usage clientAuth)", "CERTIFICATE_PURPOSE")
    try:
        is_ca = extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return
    if is_ca:
        raise refused("it is the certificate of a CA", "CERTIFICATE_PURPOSE")


def _checked_issue(certificate: x509.Certificate, trust: Trust) -> tuple[datetime, datetime]:
    """Return from when to when both the certificate and its CA are valid."""
    if (certificate.issuer.public_bytes(), certificate.serial_number) in trust.revoked:
        raise refused("it has been revoked", "CERTIFICATE_REVOKED")
    spans = [span_of(ca) for ca in trust.authorities if _has_signed(ca, certificate)]
    if not spans:
        raise refused("no CA of this node has signed it", "CERTIFICATE_UNKNOWN_CA")
    own = span_of(certificate)
    longest = max(spans, key=lambda span: span.until)
    return max(own.since, longest.since), min(own.until, longest.until)


def _has_signed(ca: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Say whether the CA has; cryptography does it itself from version 40 on."""
    if ca.subject != certificate.issuer:
        return False
    key, digest = ca.public_key(), certificate.signature_hash_algorithm
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        match key:
            case ec.EllipticCurvePublicKey() if digest is not None:
                key.verify(signature, signed, ec.ECDSA(digest))
            case rsa.RSAPublicKey() if digest is not None:
                key.verify(signature, signed, padding.PKCS1v15(), digest)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
                key.verify(signature, signed)
            case _:
                return False
    except InvalidSignature:
        return False
    return True
