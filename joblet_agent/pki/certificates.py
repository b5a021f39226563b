"""Making certificates and revocation lists, with ECDSA P-256. Pure, but for random keys and serials."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from joblet_agent.model.identity import Role
from joblet_agent.pki.names import Address

Key = ec.EllipticCurvePrivateKey

_CLOCKS = timedelta(minutes=10)
"""How far a client's clock may be behind when a certificate is new."""
_FOR_EVER = datetime.max.replace(tzinfo=UTC)
_LONGEST_ORGANISATION = 64  # ub-organization-name of RFC 5280


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA that can sign."""

    certificate: x509.Certificate
    key: Key


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when a certificate is to be valid."""

    since: datetime
    until: datetime

    @classmethod
    def of(cls, now: datetime, days: int) -> "Span":
        """Return so many days from now on."""
        return cls(now - _CLOCKS, now + timedelta(days=days))


def make_key() -> Key:
    """Return a new private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """Return the key as PKCS #8, without a password: the file's mode protects it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes) -> Key:
    """Return the key. Raises ValueError if it is none, or not of an elliptic curve."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # it has a password
        raise ValueError(str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not a key of an elliptic curve")
    return key


def make_authority(key: Key, host: str, span: Span) -> x509.Certificate:
    """Return the certificate of a new CA. Its name is its own, so that nobody takes two CAs for one."""
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, host[:_LONGEST_ORGANISATION] or "joblet"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Joblet CA {serial:040x}"[:26]),
        ]
    )
    builder = (
        _builder(name, name, key, serial, span)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256())


def make_server(
    key: Key, issuer: Issuer, names: Sequence[str], addresses: Sequence[Address], span: Span
) -> x509.Certificate:
    """Return the agent's certificate, good for these names and addresses."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "joblet-server")])
    alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
    builder = _leaf(subject, key, issuer, span, ExtendedKeyUsageOID.SERVER_AUTH)
    return builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False).sign(
        issuer.key, hashes.SHA256()
    )


def make_client(key: Key, issuer: Issuer, name: str, role: Role, span: Span) -> x509.Certificate:
    """Return a client's certificate: its CN is the name, its OU the role (pki/verdict.py reads them)."""
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, name),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
        ]
    )
    return _leaf(subject, key, issuer, span, ExtendedKeyUsageOID.CLIENT_AUTH).sign(
        issuer.key, hashes.SHA256()
    )


def make_revocation_list(
    issuer: Issuer, revoked: Iterable[tuple[int, datetime]], number: int, span: Span
) -> x509.CertificateRevocationList:
    """Return the CA's list of these serial numbers, each with the time of its revocation."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(span.since)
        .next_update(span.until)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
    )
    for serial, moment in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(moment).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256())


def span_of(certificate: x509.Certificate) -> Span:
    """Return from when to when the certificate is valid."""
    if hasattr(certificate, "not_valid_after_utc"):  # from cryptography 42 on
        return Span(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    return Span(
        certificate.not_valid_before.replace(tzinfo=UTC), certificate.not_valid_after.replace(tzinfo=UTC)
    )


def alternatives_of(certificate: x509.Certificate) -> frozenset[str]:
    """Return the names and addresses that a server's certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    names = found.get_values_for_type(x509.DNSName)
    return frozenset((*names, *map(str, found.get_values_for_type(x509.IPAddress))))


def span_of_list(revoked: x509.CertificateRevocationList) -> Span:
    """Return from when to when the list is to be used; without an end for ever."""
    if hasattr(revoked, "next_update_utc"):  # from cryptography 42 on
        return Span(revoked.last_update_utc, revoked.next_update_utc or _FOR_EVER)
    until = revoked.next_update
    return Span(revoked.last_update.replace(tzinfo=UTC), until.replace(tzinfo=UTC) if until else _FOR_EVER)


def _leaf(
    subject: x509.Name, key: Key, issuer: Issuer, span: Span, purpose: x509.ObjectIdentifier
) -> x509.CertificateBuilder:
    return (
        _builder(subject, issuer.certificate.subject, key, x509.random_serial_number(), span)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(_issued_by(issuer), critical=False)
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, serial: int, span: Span
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(span.since)
        .not_valid_after(span.until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _issued_by(issuer: Issuer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
