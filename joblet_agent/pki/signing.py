"""Making what the index and the configuration call for: CAs, the agent's certificate, clients' certificates.

Whatever is made is in the index before it has an effect. Callers hold the lock of the store.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.certificate import days_left
from joblet_agent.model.identity import Role
from joblet_agent.pki.certificates import (
    Issuer,
    Key,
    Span,
    make_authority,
    make_client,
    make_key,
    make_server,
    span_of,
)
from joblet_agent.pki.index import Index, Record
from joblet_agent.pki.listener_files import ListenerFiles
from joblet_agent.pki.names import EVERY_HOST, HostNames, address, unique
from joblet_agent.pki.revocation import is_current, make_lists
from joblet_agent.pki.store import CaStore

SERVER_DAYS = 365


@dataclass(frozen=True, slots=True)
class Issued:
    """A client's new certificate, its key, and the CAs that the client is to trust."""

    record: Record
    key: Key
    authorities: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class Signing:
    """Signs with the CAs of the store, for the files of the listener."""

    store: CaStore
    files: ListenerFiles
    find_host: Callable[[], HostNames]
    now: Callable[[], datetime]

    def client(self, index: Index, name: str, role: Role, days: int) -> Issued:
        """Make a client's certificate, by the newest CA. Raises InvalidRequest if the CA ends before it."""
        issuer = self.store.issuer(index.authorities[-1])
        key = make_key()
        certificate = make_client(key, issuer, name, role, self._span(days, issuer))
        record = Record(certificate)
        self.store.save(replace(index, records=(*index.records, record)))
        return Issued(record, key, tuple(reversed(index.authorities)))

    def add_authority(self, index: Index, days: int) -> Index:
        """Make a CA, and return the index that has it. Nobody trusts it before it is published."""
        key = make_key()
        host = self.find_host()
        certificate = make_authority(key, host.names[0] if host.names else "", Span.of(self.now(), days))
        self.store.keep_key(certificate, key)
        after = replace(index, authorities=(*index.authorities, certificate))
        self.store.save(after)
        return after

    def publish(self, index: Index, retired: Sequence[x509.Certificate] = ()) -> Index:
        """Make the listener's CAs and revocation lists what the index says."""
        lists, trusted = self.files.lists(), self.files.trusted()
        is_done = all(
            each in trusted and is_current(index, each, lists, self.now()) for each in index.authorities
        )
        if is_done and not any(each in trusted for each in retired):
            return index
        index = replace(index, lists=index.lists + 1)
        self.store.save(replace(index, authorities=(*retired, *index.authorities)))
        issuers = [self.store.issuer(each) for each in index.authorities]
        newest_first = tuple(reversed(index.authorities))
        self.files.put_trust(newest_first, make_lists(index, issuers, self.now()), retired)
        return index

    def server(self, index: Index) -> x509.Certificate:
        """Make the agent's certificate, with the key that it has.

        The oldest CA signs it: that one is known to every client, the newer ones only to those that were
        issued since.
        """
        issuer = self.store.issuer(index.authorities[0])
        until = min(Span.of(self.now(), SERVER_DAYS).until, span_of(issuer.certificate).until)
        host = self.find_host()
        certificate = make_server(
            self.files.server_key(),
            issuer,
            unique((*EVERY_HOST.names, *host.names, *index.names)),
            tuple(dict.fromkeys((*EVERY_HOST.addresses, *host.addresses, *map(address, index.addresses)))),
            replace(Span.of(self.now(), SERVER_DAYS), until=until),
        )
        self.files.put_server(certificate)
        return certificate

    def _span(self, days: int, issuer: Issuer) -> Span:
        span = Span.of(self.now(), days)
        if span.until > span_of(issuer.certificate).until:
            left = days_left(span_of(issuer.certificate).until, self.now())
            raise InvalidRequest(
                f"cannot issue a certificate for {days} days: the CA itself ends in {left}",
                reason="CA_ENDS_BEFORE",
                hint=f"joblet-agent pki renew ca, or --days {max(left, 1)}",
            )
        return span
