"""The use cases of ``joblet-agent pki``: a CA of this host's own.

Whatever is done is in the index before it has an effect, and the files of the listener follow from the index.
So a command that was killed is finished by the next one, ``renew --due`` of the timer at the latest, and no
certificate leaves that cannot be revoked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from joblet_agent.errors import NotFound, WrongState
from joblet_agent.model.certificate import AUTHORITY, SERVER, CertificateState
from joblet_agent.model.identity import Role
from joblet_agent.pki.certificates import (
    span_of,
)
from joblet_agent.pki.index import Index, Record, pem_of, serial_of, state_of
from joblet_agent.pki.listener_files import ListenerFiles
from joblet_agent.pki.listing import Row
from joblet_agent.pki.names import (
    HostNames,
    address,
    client_name,
    host_name,
)
from joblet_agent.pki.renewal import Renewal
from joblet_agent.pki.signing import Issued, Signing
from joblet_agent.pki.store import CA_EXISTS, FOLDER, CaStore

AUTHORITY_DAYS, CLIENT_DAYS = 3650, 365
MOST_DAYS = 36500


@dataclass(frozen=True, slots=True)
class Holding:
    """What there is of certificates."""

    index: Index
    server: x509.Certificate | None
    now: datetime

    @property
    def rows(self) -> list[Row]:
        """Return the CAs, the agent's certificate, and those of clients."""
        own = [(each, AUTHORITY) for each in self.index.authorities]
        own += [(self.server, SERVER)] if self.server else []
        rows = [
            Row(kind, kind, serial_of(each), span_of(each).until, state_of(each, self.now))
            for each, kind in own
        ]
        return rows + [
            Row(each.name, each.role, each.serial, each.until, each.state(self.now))
            for each in self.index.records
        ]


class CertificateAuthority:
    """The CA in a directory of the listener. Methods that change something wait for each other."""

    def __init__(
        self,
        directory: Path,
        find_host: Callable[[], HostNames],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._files = ListenerFiles(directory)
        self.store = CaStore(directory / FOLDER)
        self._now = now
        self._signing = Signing(self.store, self._files, find_host, now)

    @property
    def renewal(self) -> Renewal:
        """Return what renews the CA's and the agent's own certificates."""
        return Renewal(self._signing)

    @property
    def lacks_certificates(self) -> bool:
        """Say whether there are none, or only those of an ``init`` that was interrupted."""
        present = [path.name for path in self._files.present]
        return "server.crt" not in present and (self.store.is_there or not present)

    def init(
        self, names: Sequence[str] = (), addresses: Sequence[str] = (), days: int = AUTHORITY_DAYS
    ) -> Holding:
        """Make the CA, its empty revocation list, and the agent's certificate.

        Raises WrongState if there is a CA, or a certificate of another one.
        """
        wanted = Index(names=tuple(map(host_name, names)), addresses=_addresses(addresses))
        self._files.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.store.is_there and self._files.present:
            raise WrongState(
                f"cannot make a CA: {self._files.present[0]} is there, of a CA of your own",
                reason="CERTIFICATES_EXIST",
                hint="go on with that CA (docs/certificates.md), or move its files away first",
            )
        self.store.directory.mkdir(mode=0o700, exist_ok=True)
        with self.store.locked():
            if not self.store.is_there:
                self._signing.add_authority(wanted, days)
            elif self._files.server() is not None:
                raise WrongState(
                    f"there is a CA in {self.store.directory} already; nothing was changed",
                    reason=CA_EXISTS,
                    hint="joblet-agent pki issue NAME --role ROLE makes certificates with it",
                )
            index = self._signing.publish(self.store.read())
            return Holding(index, self._signing.server(index), self._now())

    def issue(self, name: str, role: Role, days: int = CLIENT_DAYS) -> Issued:
        """Make a certificate for a client who has none. Raises InvalidRequest or WrongState."""
        client_name(name)
        with self.store.opened() as index:
            valid = self._usable(index.of_name(name))
            if valid:
                raise WrongState(
                    f"cannot issue a certificate for {name}: there is one already, as {valid[-1].role}, "
                    f"until {valid[-1].until:%Y-%m-%d}",
                    reason="NAME_TAKEN",
                    hint="joblet-agent pki renew makes the next one; joblet-agent pki revoke ends this one",
                )
            return self._signing.client(index, name, role, days)

    def renew(self, name: str, days: int = CLIENT_DAYS) -> Issued:
        """Make the next certificate, with a key of its own, for a client. The one before stays good.

        Raises NotFound or WrongState.
        """
        with self.store.opened() as index:
            known = index.of_name(name)
            if not known:
                raise _unknown(name)
            if known[-1].revoked:
                raise WrongState(
                    f"cannot renew the certificate of {name}: it has been revoked",
                    reason="CERTIFICATE_REVOKED",
                    hint="if the client may come back: joblet-agent pki issue with its name and a role",
                )
            return self._signing.client(index, name, known[-1].role, days)

    def revoke(self, text: str) -> list[Record]:
        """Revoke all certificates of a name, or one by its serial number; return which ones.

        They count no more from the next call on. Raises NotFound.
        """
        with self.store.opened() as index:
            records = index.of_name(text) or index.of_serial(text)
            if not records:
                raise _unknown(text)
            usable = self._usable(records)
            after = index.with_revoked({record.serial for record in usable}, self._now())
            if usable:
                self.store.save(after)
            self._signing.publish(after)
            return usable

    def holding(self) -> Holding:
        """Return what there is. Raises WrongState if there is no CA."""
        return Holding(self.store.read(), self._files.server(), self._now())

    def export(self, name: str | None) -> str:
        """Return a client's newest certificate as PEM; without a name the CA's, newest first.

        Raises NotFound.
        """
        index = self.store.read()
        if name is None:
            return "".join(map(pem_of, reversed(index.authorities)))
        found = index.of_name(name) or index.of_serial(name)
        if not found:
            raise _unknown(name)
        return pem_of(found[-1].certificate)

    def _usable(self, records: Sequence[Record]) -> list[Record]:
        return [
            each
            for each in records
            if each.state(self._now()) in (CertificateState.VALID, CertificateState.DUE)
        ]


def _addresses(texts: Sequence[str]) -> tuple[str, ...]:
    return tuple(str(address(text)) for text in texts)


def _unknown(text: str) -> NotFound:
    return NotFound(
        f"there is no certificate of {text}, by name or by serial number",
        reason="CERTIFICATE_NOT_FOUND",
        hint="joblet-agent pki list shows them",
    )
