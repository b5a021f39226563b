"""Certificates of every kind, good and bad, made in the test itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import indent
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    secret: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def until(self) -> datetime:
        if hasattr(self.certificate, "not_valid_after_utc"):  # from cryptography 42 on
            return self.certificate.not_valid_after_utc
        return self.certificate.not_valid_after.replace(tzinfo=UTC)

    @property
    def key(self) -> bytes:
        return self.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


Unit = str | tuple[str, ...]
"""An OU; several in a tuple are in one part of the name, as ``OU=a+OU=b``."""


def subject(name: str | None, units: Sequence[Unit]) -> x509.Name:
    parts = [] if name is None else [[_attribute(NameOID.COMMON_NAME, name)]]
    for unit in units:
        values = (unit,) if isinstance(unit, str) else unit
        parts.append([_attribute(NameOID.ORGANIZATIONAL_UNIT_NAME, value) for value in values])
    return x509.Name([x509.RelativeDistinguishedName(part) for part in parts])


def _attribute(kind: x509.ObjectIdentifier, value: str) -> "x509.NameAttribute[str]":
    return x509.NameAttribute(
        kind, value, _validate=False
    )  # others make what this library would not: empty ones


def make(
    name: str | None,
    *units: Unit,
    ca: Pair | None = None,
    usage: Sequence[x509.ObjectIdentifier] | None = (CLIENT,),
    is_ca: bool = False,
    since: timedelta = -DAY,
    until: timedelta = DAY,
    hosts: Sequence[str] = ("joblet", "localhost"),
    secret: Any = None,
) -> Pair:
    """Return a certificate, signed by itself without a CA; times are from now."""
    secret = secret or ec.generate_private_key(ec.SECP256R1())
    own = subject(name, units)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(ca.certificate.subject if ca else own)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if usage is not None and not is_ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    if usage and SERVER in usage:
        names = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return Pair(builder.sign(ca.secret if ca else secret, hashes.SHA256()), secret)


def make_ca(name: str = "test CA") -> Pair:
    return make(name, is_ca=True)


def make_server(ca: Pair | None, name: str = "joblet") -> Pair:
    return make(name, ca=ca, usage=(SERVER,))


def revocation(ca: Pair, *revoked: Pair) -> bytes:
    """Return the CA's list of these certificates."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(now - DAY)
        .next_update(now + DAY)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - DAY).build())
    return builder.sign(ca.secret, hashes.SHA256()).public_bytes(Encoding.PEM)


def bundle(pair: Pair, ca: Pair, address: str, *, node: str = "default", key: bytes | None = None) -> str:
    """Return an ``rnx-config.yml`` with one node, as an administrator hands it out."""
    parts = {"cert": pair.pem, "key": key or pair.key, "ca": ca.pem}
    texts = [f"    {name}: |\n{indent(pem.decode(), ' ' * 6)}" for name, pem in parts.items()]
    return f'version: "3.0"\nnodes:\n  {node}:\n    address: "{address}"\n{"".join(texts)}'


def place(path: Path, content: bytes) -> None:
    """Put a file in its place, whole, as the agent's own tools do."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(content)
    fresh.rename(path)


def furnish(directory: Path, server: Pair, *authorities: Pair) -> None:
    """Make the directory what a listener needs."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    place(directory / "ca.crt", b"".join(ca.pem for ca in authorities))
    place(directory / "server.key", server.key)
    place(directory / "server.crt", server.pem)
