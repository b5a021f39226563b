"""What the network listener reads: ``ca.crt``, ``revoked.pem``, ``server.key``, ``server.crt``.

Each is replaced as a whole, and the agent takes them only when they fit each other (rpc/material.py); so they
are written in an order in which they do at every moment. Certificates and lists of other CAs, which somebody
has added by hand, stay.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from joblet_agent.errors import HostUnavailable
from joblet_agent.pki.certificates import Key, key_pem, make_key, read_key
from joblet_agent.pki.files import PUBLIC, SECRET, place
from joblet_agent.pki.index import pem_of

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----\n?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ListenerFiles:
    """The files of ``tls.directory``."""

    directory: Path

    @property
    def present(self) -> list[Path]:
        """Return those that are there already."""
        names = ("ca.crt", "server.crt", "server.key", "revoked.pem")
        return [self.directory / name for name in names if (self.directory / name).exists()]

    def server(self) -> x509.Certificate | None:
        """Return the agent's certificate. Raises HostUnavailable if it cannot be read."""
        found = self._certificates("server.crt")
        return found[0] if found else None

    def server_key(self) -> Key:
        """Return the agent's key, a new one if there is none. Raises HostUnavailable if it cannot be read."""
        path = self.directory / "server.key"
        if not path.exists():
            place(path, key_pem(make_key()), SECRET)
        try:
            return read_key(path.read_bytes())
        except ValueError as error:
            raise HostUnavailable(
                f"cannot use {path}: {error}",
                reason="SERVER_KEY_UNUSABLE",
                hint="remove it, and joblet-agent pki renew server makes another one",
            ) from error

    def put_server(self, certificate: x509.Certificate) -> None:
        """Put the agent's certificate in its place."""
        place(self.directory / "server.crt", pem_of(certificate).encode(), PUBLIC)

    def put_trust(
        self,
        authorities: Sequence[x509.Certificate],
        lists: Mapping[x509.Name, x509.CertificateRevocationList],
        retired: Sequence[x509.Certificate],
    ) -> None:
        """Trust these CAs, with these lists, and the retired ones no more."""
        before = self._certificates("ca.crt")
        after = [*authorities, *(each for each in before if each not in [*authorities, *retired])]
        gone = {each.subject for each in retired}
        kept = [each for each in self.lists() if each.issuer not in {*lists, *gone}]
        self._put_authorities([*after, *(each for each in before if each in retired)])
        texts = [each.public_bytes(Encoding.PEM) for each in [*lists.values(), *kept]]
        place(self.directory / "revoked.pem", b"".join(texts), PUBLIC)
        self._put_authorities(after)

    def lists(self) -> list[x509.CertificateRevocationList]:
        """Return the revocation lists. Raises HostUnavailable if they cannot be read."""
        try:
            return [x509.load_pem_x509_crl(each) for each in self._pem("revoked.pem")]
        except ValueError as error:
            raise self._unreadable("revoked.pem", error) from error

    def trusted(self) -> list[x509.Certificate]:
        """Return the CAs that the listener trusts."""
        return self._certificates("ca.crt")

    def _put_authorities(self, authorities: Sequence[x509.Certificate]) -> None:
        if authorities != self._certificates("ca.crt"):
            place(self.directory / "ca.crt", "".join(map(pem_of, authorities)).encode(), PUBLIC)

    def _certificates(self, name: str) -> list[x509.Certificate]:
        try:
            return [x509.load_pem_x509_certificate(each) for each in self._pem(name)]
        except ValueError as error:
            raise self._unreadable(name, error) from error

    def _pem(self, name: str) -> list[bytes]:
        try:
            text = (self.directory / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        return [found[0].encode() for found in _PEM.finditer(text)]

    def _unreadable(self, name: str, error: ValueError) -> HostUnavailable:
        return HostUnavailable(
            f"cannot read {self.directory / name}: {error}",
            reason="CERTIFICATE_UNREADABLE",
            hint="see what it is with: openssl x509 -text, openssl crl -text",
        )


def fits(certificate: x509.Certificate, key: Key) -> bool:
    """Say whether it is the certificate of this key."""
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
