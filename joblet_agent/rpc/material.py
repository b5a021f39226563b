"""What the network listener needs of the directory of certificates: read and checked. Does not watch it."""

from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

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

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return what gRPC uses for a connection."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.authorities)


def read_material(directory: Path) -> Material:
    """Read the files. Raises BadTrust when they cannot be used, or are just being replaced."""
    authorities, chain, key = (_content(directory / name) for name in NEEDED)
    revoked = _content(directory / REVOKED) if (directory / REVOKED).exists() else None
    _check_pair(chain, key)
    return Material(authorities, chain, key, revoked, read_trust(authorities, revoked))


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise BadTrust(f"{path.name}: {error.strerror}") from error
    if len(content) > _MOST_BYTES:
        raise BadTrust(f"{path.name} has more than {_MOST_BYTES} bytes")
    return content


def _check_pair(chain: bytes, key: bytes) -> None:
    try:
        certified = x509.load_pem_x509_certificate(chain).public_key()
        own = load_pem_private_key(key, password=None).public_key()
    except (ValueError, TypeError) as error:
        raise BadTrust(f"server.crt or server.key cannot be read: {error}") from error
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    if certified.public_bytes(*form) != own.public_bytes(*form):
        raise BadTrust("server.key is not the key of server.crt")
