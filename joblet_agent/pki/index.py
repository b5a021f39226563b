"""What the CA knows of the certificates it has issued: ``index.json``. Pure.

The certificates themselves are in it, so nothing is written down twice. Keys of clients are not: those
are in the file of whoever asked, and nowhere else.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from joblet_agent.model.certificate import CertificateState, state_at
from joblet_agent.model.identity import Role
from joblet_agent.pki.certificates import span_of

VERSION = 1


class IndexFault(Exception):
    """The text is not an index; the text says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """A certificate that has been issued."""

    certificate: x509.Certificate
    revoked: datetime | None = None

    @property
    def name(self) -> str:
        """Return the CN."""
        return _text(self.certificate, NameOID.COMMON_NAME)

    @property
    def role(self) -> Role:
        """Return the OU."""
        return Role(_text(self.certificate, NameOID.ORGANIZATIONAL_UNIT_NAME))

    @property
    def serial(self) -> str:
        """Return the serial number as openssl(1) prints it."""
        return serial_of(self.certificate)

    @property
    def until(self) -> datetime:
        """Return the end of its life."""
        return span_of(self.certificate).until

    def state(self, now: datetime) -> CertificateState:
        """Return what is the case now."""
        return CertificateState.REVOKED if self.revoked else state_of(self.certificate, now)


@dataclass(frozen=True, slots=True)
class Index:
    """Everything that has been issued. The newest CA, which signs for clients, comes last."""

    authorities: tuple[x509.Certificate, ...] = ()
    """More than one: certificates of former CAs are still in use."""
    records: tuple[Record, ...] = ()
    names: tuple[str, ...] = ()
    """DNS names of the server that were asked for, besides those that the host has."""
    addresses: tuple[str, ...] = ()
    lists: int = 0
    """Revocation lists made so far; the next one has the next number."""

    def of_name(self, name: str) -> list[Record]:
        """Return the certificates of a client, oldest first."""
        return [record for record in self.records if record.name == name]

    def of_serial(self, text: str) -> list[Record]:
        """Return the certificate with this serial number in hexadecimal digits, colons allowed."""
        wanted = text.replace(":", "").upper().removeprefix("0X").lstrip("0")
        return [record for record in self.records if wanted and record.serial.lstrip("0") == wanted]

    def issued_by(self, authority: x509.Certificate) -> Iterator[Record]:
        """Yield the certificates of clients that this CA has signed."""
        return (record for record in self.records if record.certificate.issuer == authority.subject)

    def with_revoked(self, serials: set[str], now: datetime) -> "Index":
        """Return the index with these revoked, those that are already as they were."""
        records = (
            replace(record, revoked=now) if record.serial in serials and not record.revoked else record
            for record in self.records
        )
        return replace(self, records=tuple(records))


def state_of(certificate: x509.Certificate, now: datetime) -> CertificateState:
    """Return what is the case with a certificate that is not revoked."""
    span = span_of(certificate)
    return state_at(span.since, span.until, now)


def serial_of(certificate: x509.Certificate) -> str:
    """Return the serial number in whole bytes, as openssl(1) prints it."""
    text = f"{certificate.serial_number:X}"
    return text.rjust(len(text) + len(text) % 2, "0")


def pem_of(certificate: x509.Certificate) -> str:
    """Return the certificate as text."""
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def write_index(index: Index) -> str:
    """Return the text of the file."""
    content = {
        "version": VERSION,
        "authorities": [pem_of(each) for each in index.authorities],
        "names": list(index.names),
        "addresses": list(index.addresses),
        "lists": index.lists,
        "certificates": [
            {
                "name": record.name,  # for people; what counts is the certificate
                "revoked": record.revoked.isoformat() if record.revoked else None,
                "certificate": pem_of(record.certificate),
            }
            for record in index.records
        ],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def read_index(text: str) -> Index:
    """Return what the file says. Raises IndexFault."""
    try:
        content = json.loads(text)
        if content["version"] != VERSION:
            raise IndexFault(f"its version is {content['version']}, and not {VERSION}")
        return Index(
            authorities=tuple(_certificate(each) for each in content["authorities"]),
            records=tuple(_record(each) for each in content["certificates"]),
            names=tuple(map(str, content["names"])),
            addresses=tuple(map(str, content["addresses"])),
            lists=int(content["lists"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IndexFault(f"{type(error).__name__}: {error}") from error


def _record(content: dict[str, str | None]) -> Record:
    revoked = content["revoked"]
    moment = datetime.fromisoformat(revoked).astimezone(UTC) if revoked else None
    record = Record(_certificate(str(content["certificate"])), moment)
    _ = record.name, record.role  # a ValueError, here and not later
    return record


def _certificate(pem: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem.encode("ascii"))


def _text(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> str:
    (attribute,) = certificate.subject.get_attributes_for_oid(oid)
    return str(attribute.value)
