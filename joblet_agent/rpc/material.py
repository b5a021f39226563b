"""What the network listener needs of the directory of certificates: read and checked. Does not watch it."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from joblet_agent.model.certificate import AUTHORITY, SERVER, CertificateLife
from joblet_agent.pki.certificates import span_of
from joblet_agent.pki.verdict import BadTrust, Trust, read_trust
from joblet_agent.rpc.tls import NEEDED, REVOKED

__all__ = ["BadTrust", "Material", "read_material"]

_MOST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Material:
    """What the files of the directory say, checked."""

    authorities: bytes
    chain: bytes
    key: bytes
    revoked: bytes | None
    trust: Trust
    lives: tuple[CertificateLife, ...]
    """Of the agent's certificate and of the CAs."""

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what gRPC uses for a connection."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)


def read_material(directory: Path) -> Material:
    """Read the files. Raises BadTrust when they cannot be used, or are just being replaced."""
    authorities, chain, key = (_content(directory / name) for name in NEEDED)
    revoked = _content(directory / REVOKED) if (directory / REVOKED).exists() else None
    server = _checked_server(chain, key)
    trust = read_trust(authorities, revoked)
    lives = _life(SERVER, server), *(_life(AUTHORITY, each) for each in trust.authorities)
    return Material(authorities, chain, key, revoked, trust, lives)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadTrust(f"{path.name}: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise BadTrust(f"{path.name} has more than {_MOST_BYTES} bytes")
    return content


def _checked_server(chain: bytes, key: bytes) -> x509.Certificate:
    try:
        server = x509.load_pem_x509_certificate(chain)
        certified = server.public_key()
        own = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise BadTrust(f"server.crt or server.key cannot be read: {error}") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if certified.public_bytes(*form) != own.public_bytes(*form):
        raise BadTrust("server.key is not the key of server.crt")
    return server


def _life(kind: str, certificate: x509.Certificate) -> CertificateLife:
    span = span_of(certificate)
    return CertificateLife(kind, certificate.subject.rfc4514_string(), span.since, span.until)
