"""New certificates in time: of the agent, and of the CA itself, beside which the former one goes on.

A client knows only the CAs that there were when it was issued. So the oldest CA goes on to sign for the
agent, and to have its revocation list, until the last certificate of a client that it has signed has ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from cryptography import x509

from joblet_agent.errors import WrongState
from joblet_agent.model.certificate import CertificateState
from joblet_agent.pki.certificates import alternatives_of, span_of
from joblet_agent.pki.index import Index, Record, state_of
from joblet_agent.pki.listener_files import fits
from joblet_agent.pki.names import address, host_name, unique
from joblet_agent.pki.signing import Signing

TOLD_BEFORE = timedelta(days=30)
"""A client's certificate that is due is told of from so long before its end on."""


@dataclass(slots=True)
class Renewed:
    """What was done, and what only people can do."""

    server: x509.Certificate | None = None
    authority: x509.Certificate | None = None
    retired: tuple[x509.Certificate, ...] = ()
    has_foreign_server: bool = False
    """The agent's certificate is of a CA that is not ours, and was left alone."""
    ending: list[Record] = field(default_factory=list)
    """Newest certificates of clients that are about to end."""


class Renewal:
    """Renews what is the agent's own. Methods wait for each other and for those of CertificateAuthority."""

    def __init__(self, signing: Signing) -> None:
        self._signing = signing

    def server(self, names: Sequence[str] = (), addresses: Sequence[str] = ()) -> Renewed:
        """Make a new certificate of the agent, with these names besides those that it was asked for before.

        The key stays; remove server.key to have another one.
        """
        wanted = [host_name(each) for each in names], [str(address(each)) for each in addresses]
        with self._signing.store.opened() as index:
            if self._is_foreign(self._signing.files.server(), index.authorities):
                raise WrongState(
                    "cannot renew server.crt: it is of another CA than the one here",
                    reason="FOREIGN_SERVER",
                    hint="renew it with that CA, or move server.crt and server.key away first",
                )
            after = replace(
                index,
                names=unique((*index.names, *wanted[0])),
                addresses=unique((*index.addresses, *wanted[1])),
            )
            if after != index:
                self._signing.store.save(after)
            return Renewed(server=self._signing.server(self._signing.publish(after)))

    def authority(self, days: int | None = None) -> Renewed:
        """Make the next CA, which lives as long as the one before; that one stays beside it."""
        with self._signing.store.opened() as index:
            after = self._signing.publish(self._add(index, days))
            return Renewed(authority=after.authorities[-1])

    def due(self) -> Renewed:
        """Renew what has less than a third of its life left or lacks a name; finish what was interrupted."""
        with self._signing.store.opened() as index:
            return self._due(index)

    def _due(self, index: Index) -> Renewed:
        done, now = Renewed(), self._signing.now()
        if state_of(index.authorities[-1], now) is not CertificateState.VALID:
            index = self._add(index, None)
            done.authority = index.authorities[-1]
        done.retired = tuple(each for each in index.authorities[:-1] if self._is_done_with(index, each))
        staying = (each for each in index.authorities if each not in done.retired)
        index = replace(index, authorities=tuple(staying))
        if self._is_foreign(self._signing.files.server(), (*index.authorities, *done.retired)):
            done.has_foreign_server = True
        elif not self._is_good(self._signing.files.server(), index):
            done.server = self._signing.server(index)
        index = self._signing.publish(index, done.retired)
        if done.retired:
            self._signing.store.save(index)
        done.ending = [each for each in _newest(index) if self._is_ending(each)]
        return done

    def _add(self, index: Index, days: int | None) -> Index:
        life = span_of(index.authorities[-1])
        return self._signing.add_authority(index, days or (life.until - life.since).days)

    def _is_foreign(self, server: x509.Certificate | None, own: Sequence[x509.Certificate]) -> bool:
        """Say whether the agent's certificate is of a CA that is not ours."""
        return server is not None and server.issuer not in {each.subject for each in own}

    def _is_good(self, server: x509.Certificate | None, index: Index) -> bool:
        """Say whether the agent's certificate can stay.

        That is: in time, known to every client, with its key, and for the names of the configuration.
        """
        return (
            server is not None
            and state_of(server, self._signing.now()) is CertificateState.VALID
            and server.issuer == index.authorities[0].subject
            and fits(server, self._signing.files.server_key())
            and alternatives_of(server).issuperset(self._signing.find_host().asked_for)
        )

    def _is_done_with(self, index: Index, authority: x509.Certificate) -> bool:
        now = self._signing.now()
        return state_of(authority, now) is CertificateState.EXPIRED or all(
            now >= record.until for record in index.issued_by(authority)
        )

    def _is_ending(self, record: Record) -> bool:
        now = self._signing.now()
        return record.state(now) is CertificateState.DUE and record.until - now <= TOLD_BEFORE


def _newest(index: Index) -> list[Record]:
    return list({record.name: record for record in index.records}.values())
