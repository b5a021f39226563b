"""Which networks there are now, and who is on them. In memory; nothing here waits.

That is what makes "in use" and "first free address" true: a job joins in one step, and a
network is closed to jobs in one step.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Network

from joblet_agent.config import NetworksConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.jobs.check import quoted
from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord
from joblet_agent.model.network import Attachment, BuiltIn, Member, Network
from joblet_agent.networks.addresses import AddressPool
from joblet_agent.networks.check import clash, shown_port
from joblet_agent.networks.names import BRIDGES

_BUILT_IN_SUBNETS = {BuiltIn.BRIDGE: 1, BuiltIn.ISOLATED: 2}
_FIRST_CUSTOM_SUBNET, _MOST_SUBNETS = 16, 65536


@dataclass(slots=True)
class Joined:
    """A job on a network."""

    member: Member
    is_told: bool = False
    """The kernel may have something of it."""
    is_leaving: bool = False
    """It has ended, and the kernel is still to forget it."""


@dataclass(slots=True)
class Entry:
    """A network and its jobs."""

    name: str
    network: Network | None = None
    """None for those without addresses, ``none`` and ``host``."""
    pool: AddressPool | None = None
    jobs: dict[JobId, Joined] = field(default_factory=dict)
    is_closed: bool = False
    """It is being made or removed: no job may join."""
    is_removed: bool = False
    trouble: JobletError | None = None
    """Why no job can be on it for now."""

    @property
    def is_builtin(self) -> bool:
        """True for one that is always there."""
        return self.network is None or self.network.is_builtin


class Catalog:
    """All networks by name."""

    def __init__(self, config: NetworksConfig) -> None:
        self._config = config
        self._entries: dict[str, Entry] = {name: Entry(name) for name in (BuiltIn.NONE, BuiltIn.HOST)}
        self._places: dict[JobId, Entry] = {}
        self._range6 = IPv6Network("fd00::/48")

    def open(self, range6: IPv6Network) -> None:
        """Make the built-in networks; ``range6`` is the host's."""
        self._range6 = self._config.ula or range6
        for name, range4 in (
            (BuiltIn.BRIDGE, self._config.bridge),
            (BuiltIn.ISOLATED, self._config.isolated),
        ):
            self.add(
                Network(
                    name=name.value,
                    bridge=BRIDGES[name],
                    range4=range4,
                    range6=self._subnet(_BUILT_IN_SUBNETS[name]),
                    is_isolated=name is BuiltIn.ISOLATED,
                    is_builtin=True,
                )
            )

    def add(self, network: Network) -> Entry:
        """Take in a network of a new name."""
        pool = AddressPool(network.name, network.range4, network.range6)
        entry = Entry(network.name, network, pool)
        self._entries[network.name] = entry
        return entry

    def discard(self, entry: Entry) -> None:
        """Forget a network without jobs."""
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]

    def __iter__(self) -> Iterator[Entry]:
        return iter(list(self._entries.values()))

    def get(self, name: str) -> Entry | None:
        """Return the network of the name, also one that is being made or removed."""
        return self._entries.get(name)

    def find(self, name: str) -> Entry | None:
        """Return the network that callers may know of."""
        entry = self._entries.get(name)
        return None if entry is None or entry.is_closed else entry

    @property
    def networks(self) -> list[Network]:
        """Every network with addresses, also those that are being made or removed."""
        return [entry.network for entry in self if entry.network is not None]

    @property
    def free6(self) -> Iterable[IPv6Network]:
        """IPv6 ranges for networks that are made, in order."""
        return (self._subnet(number) for number in range(_FIRST_CUSTOM_SUBNET, _MOST_SUBNETS))

    def _subnet(self, number: int) -> IPv6Network:
        return IPv6Network((int(self._range6.network_address) + (number << 64), 64))

    # -- jobs --------------------------------------------------------------------------------------

    def joined(self, job_id: JobId) -> Joined | None:
        """Return the job's place."""
        entry = self._places.get(job_id)
        return entry.jobs[job_id] if entry is not None else None

    def entry_of(self, job_id: JobId) -> Entry | None:
        """Return the network that the job is on."""
        return self._places.get(job_id)

    def join(self, record: JobRecord) -> Joined:
        """Give the job a place on its network; one that has one keeps it.

        Raises InvalidRequest for a network that is not there, LimitReached for one that is full and for a
        port that another job has published, and what keeps jobs off it.
        """
        known = self.joined(record.id)
        if known is not None:
            return known
        entry = self.find(record.spec.network or BuiltIn.NONE)
        if entry is None:
            raise self.unknown(record.spec.network)
        if entry.trouble is not None:
            raise entry.trouble.anew()
        if entry.network is None or entry.pool is None:
            return self._put(entry, record, None)
        self._check_ports(record)
        address4, address6 = entry.pool.take()
        spec = record.spec
        attachment = Attachment(record.id, entry.name, address4, address6, spec.bandwidth, spec.ports)
        return self._put(entry, record, attachment)

    def adopt(self, record: JobRecord) -> bool:
        """Take in a job that was found; False if its network is not there any more."""
        entry = self._entries.get(record.spec.network or BuiltIn.NONE)
        attachment = record.attachment
        if entry is None:
            return False
        if entry.pool is None:
            self._put(entry, record, None)
            return True
        if attachment is None:
            return True  # it never got so far
        self._put(entry, record, attachment).is_told = True
        entry.pool.keep(attachment.address4)
        return True

    def _put(self, entry: Entry, record: JobRecord, attachment: Attachment | None) -> Joined:
        joined = Joined(Member(record.id, record.spec.name, record.started_by, attachment))
        entry.jobs[record.id] = joined
        self._places[record.id] = entry
        return joined

    def leave(self, job_id: JobId) -> Entry | None:
        """Free the job's place and return the network; None for a job that has none."""
        entry = self._places.pop(job_id, None)
        if entry is None:
            return None
        attachment = entry.jobs.pop(job_id).member.attachment
        if attachment is not None and entry.pool is not None:
            entry.pool.give_back(attachment.address4)
        return entry

    def attachments(self) -> list[Attachment]:
        """Return those of all jobs that have not ended."""
        return [
            joined.member.attachment
            for entry in self
            for joined in entry.jobs.values()
            if joined.member.attachment is not None and joined.is_told and not joined.is_leaving
        ]

    def misplaced(self) -> dict[JobId, str]:
        """Return the jobs whose addresses are not of their network any more, with words for people."""
        return {
            attachment.job_id: f"{attachment.address4} is no address of {network.name} any more, which is "
            f"{network.range4} now"
            for attachment in self.attachments()
            if (network := self._entries[attachment.network].network) is not None
            and attachment.address4 not in network.range4
        }

    def leaving(self) -> list[JobId]:
        """Return the jobs that the kernel is still to forget."""
        return [job_id for entry in self for job_id, joined in entry.jobs.items() if joined.is_leaving]

    def _check_ports(self, record: JobRecord) -> None:
        if not record.spec.ports:
            return
        for entry in self:
            for job_id, joined in entry.jobs.items():
                for taken in joined.member.attachment.ports if joined.member.attachment else ():
                    for port in record.spec.ports:
                        if clash(port, taken):
                            raise LimitReached(
                                f"cannot start job: port {shown_port(port)} of the host is published by job "
                                f"{job_id[:8]} already (--publish)",
                                reason="PORT_TAKEN",
                                hint="choose another port or address, or wait until that job has ended",
                            )

    def unknown(self, name: str) -> InvalidRequest:
        """Return the error for a network that is not there."""
        known = sorted(entry.name for entry in self if not entry.is_closed and entry.name != BuiltIn.HOST)
        return InvalidRequest(
            f"cannot run job: there is no network {quoted(name)}",
            reason="UNKNOWN_NETWORK",
            hint="networks are: " + ", ".join(known),
        )


def not_found(name: str) -> NotFound:
    """Return the error for a network that is asked for and not there."""
    return NotFound(
        f"there is no network {quoted(name)}", reason="NETWORK_NOT_FOUND", hint="see: rnx network list"
    )


def blocked(network: Network, clash: str) -> HostUnavailable:
    """Return the error for a network whose range is something else's on this host by now."""
    key = {BuiltIn.BRIDGE: "networks.bridge", BuiltIn.ISOLATED: "networks.isolated"}.get(
        BuiltIn(network.name) if network.is_builtin else BuiltIn.NONE
    )
    return HostUnavailable(
        f"cannot use the network {network.name}: its range overlaps with {clash}",
        reason="RANGE_OVERLAPS",
        hint=f"an administrator can set another range ({key}) in the agent's configuration"
        if key
        else "remove the network and make it again with another range",
    )
