"""Networks of jobs, and what ties a job to one.

Must not know: proto messages, netlink, nftables, SQL.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from joblet_agent.model.ids import JobId

IPAddress = IPv4Address | IPv6Address


class BuiltIn(StrEnum):
    """Networks that are always there."""

    NONE = "none"
    """Loopback only."""
    ISOLATED = "isolated"
    """The outside, and nobody else: no other job, no other network, none of the host's own services."""
    BRIDGE = "bridge"
    """Jobs on it reach each other and the outside."""
    HOST = "host"
    """The host's own network namespace; only where the configuration allows it to the role."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network with a bridge on the host: ``bridge``, ``isolated`` or one that somebody made."""

    name: str
    bridge: str
    """Name of the bridge device (at most 15 bytes)."""
    range4: IPv4Network
    """The first address is the gateway's: the bridge has it."""
    range6: IPv6Network
    is_internal: bool = False
    """No way to the outside."""
    is_isolated: bool = False
    """Its jobs do not reach each other."""
    mtu: int = 0
    """Bytes; 0 for the kernel's default."""
    dns: tuple[IPAddress, ...] = ()
    """Servers for names of the outside; none: those of the host."""
    bandwidth: int = 0
    """Bits per second between all its jobs and what is not on it, each way; 0 for no limit."""
    is_builtin: bool = False
    created_at: datetime | None = None
    """None for one that is built in."""

    @property
    def gateway4(self) -> IPv4Address:
        """The bridge's address."""
        return self.range4[1]

    @property
    def gateway6(self) -> IPv6Address:
        """The bridge's address."""
        return self.range6[1]


class Transport(StrEnum):
    """Protocols whose ports can be published."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, order=True)
class PublishedPort:
    """A port of the host that leads to one of a job."""

    host_port: int
    job_port: int
    transport: Transport = Transport.TCP
    address: str = ""
    """Address of the host, in its shortest spelling; empty for all of them."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A job's place on a network, from before its start until after its end."""

    job_id: JobId
    network: str
    address4: IPv4Address
    address6: IPv6Address
    bandwidth: int = 0
    """Bits per second, each way; 0 for no limit."""
    ports: tuple[PublishedPort, ...] = ()

    @property
    def addresses(self) -> tuple[IPAddress, IPAddress]:
        """Both, IPv4 first."""
        return self.address4, self.address6


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network that somebody wants, as asked for and not checked yet (networks/check.py)."""

    name: str
    cidr: str
    cidr6: str = ""
    """Empty: one that the agent chooses."""
    is_internal: bool = False
    mtu: int = 0
    dns: tuple[str, ...] = ()
    bandwidth: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """A job on a network."""

    job_id: JobId
    name: str = ""
    started_by: str = ""
    attachment: Attachment | None = None
    """None on the networks without addresses, ``none`` and ``host``."""


@dataclass(frozen=True, slots=True)
class NetworkView:
    """A network as it is told to people."""

    name: str
    network: Network | None
    """None for ``none`` and ``host``."""
    members: tuple[Member, ...] = ()
