"""Links, addresses and routes, in the namespace in which the socket was opened. Blocking.

Errors of the kernel leave this package's netlink modules as OSError: errno, and the kernel's word for it.
"""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from socket import AF_INET, AF_INET6
from typing import Any, Self

from joblet_agent.netlink.library import IPRoute, NetlinkDumpInterrupted, NetlinkError
from joblet_agent.netlink.names import JOB_END

Interface = IPv4Interface | IPv6Interface

_DUMPS = 50
_IFF_UP = 0x1
_IFA_F_NODAD = 0x02
_LOOPBACK_INDEX = 1  # in every namespace
_ROUTE_TABLE_LOCAL = 255
_ROUTE_UNICAST = 1
_BRIDGE, _VETH, _MIRROR = "bridge", "veth", "ifb"


@dataclass(frozen=True, slots=True)
class Link:
    """What is looked at of a link."""

    index: int
    name: str
    kind: str
    """``bridge``, ``veth``, ``ifb``, …; empty for hardware and the loopback."""
    mac: str
    mtu: int
    is_up: bool
    master: int
    """Index of the bridge that it is a port of; 0 for none."""
    peer: int
    """Of a veth, the index of its other end, in that one's namespace; 0 for none."""
    is_isolated: bool
    qdisc: str


class Links:
    """A netlink socket. The thread that opens it has to be in the namespace that is meant."""

    def __init__(self) -> None:
        with os_errors():
            self._netlink: Any = IPRoute()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    @property
    def netlink(self) -> Any:
        """The library's own, for what is not about links."""
        return self._netlink

    def all(self) -> dict[str, Link]:
        """Return the links by name."""
        with os_errors():
            return {link.name: link for link in map(_link, _whole(self._netlink.get_links))}

    def find(self, name: str) -> Link | None:
        """Return the link; None if there is none."""
        try:
            with os_errors():
                return _link(self._netlink.link("get", ifname=name)[0])
        except OSError as error:
            if error.errno == errno.ENODEV:
                return None
            raise

    def named(self, name: str) -> Link:
        """Return the link. Raises OSError if there is none."""
        link = self.find(name)
        if link is None:
            raise OSError(errno.ENODEV, f"no link {name}")
        return link

    def add_bridge(self, name: str, mac: str) -> None:
        """Make a bridge that forwards at once. Its own address stays, whatever its ports are."""
        self._do("add", ifname=name, kind=_BRIDGE, address=mac, br_forward_delay=0, br_stp_state=0)

    def add_pair(self, name: str, namespace: int, *, master: int, mac: str, mtu: int) -> None:
        """Make a veth: this end is a port of the bridge, and up; the other, JOB_END, is in the namespace."""
        peer = {"ifname": JOB_END, "net_ns_fd": namespace, "address": mac, "mtu": mtu}
        self._do("add", ifname=name, kind=_VETH, master=master, mtu=mtu, state="up", peer=peer)

    def add_mirror(self, name: str) -> None:
        """Make an ifb device."""
        self._do("add", ifname=name, kind=_MIRROR)

    def change(self, index: int, **attributes: object) -> None:
        """Change the link: ``ifname``, ``master``, ``mtu``, ``address``, ``state``."""
        self._do("set", index=index, **attributes)

    def move_to_group(self, index: int, group: int) -> None:
        """Put the link into the group; one that is gone is no error."""
        with suppress_errors(errno.ENODEV):
            self.change(index, group=group)

    def set_isolated(self, index: int, is_isolated: bool) -> None:
        """Let a port of a bridge reach other such ports, or not."""
        with os_errors():
            self._netlink.brport("set", index=index, isolated=int(is_isolated))

    def raise_loopback(self) -> None:
        """Let the loopback be up."""
        self.change(_LOOPBACK_INDEX, state="up")

    def remove(self, name: str) -> None:
        """Remove the link; one that is gone is no error."""
        with suppress_errors(errno.ENODEV):
            self._do("del", ifname=name)

    def remove_group(self, group: int) -> None:
        """Remove all links of the group at once, which takes as long as one alone."""
        with suppress_errors(errno.ENODEV):
            self._do("del", group=group)

    def addresses(self, index: int) -> set[Interface]:
        """Return the addresses of the link, without those that the kernel makes."""
        with os_errors():
            found = [_address(message) for message in _whole(self._netlink.get_addr, index=index)]
        return {address for address in found if not address.is_link_local}

    def add_address(self, index: int, address: Interface) -> None:
        """Give the link an address, which is usable at once; one that it has is no error."""
        flags = {"flags": _IFA_F_NODAD} if address.version == 6 else {}  # noqa: PLR2004
        with suppress_errors(errno.EEXIST), os_errors():
            self._netlink.addr(
                "add",
                index=index,
                family=_family(address.version),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
                **flags,
            )

    def remove_address(self, index: int, address: Interface) -> None:
        """Take an address from the link; one that is gone is no error."""
        with suppress_errors(errno.EADDRNOTAVAIL), os_errors():
            self._netlink.addr(
                "del",
                index=index,
                family=_family(address.version),
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            )

    def route_by(self, index: int, gateway: str) -> None:
        """Let everything else go by the gateway."""
        family = _family(ip_address(gateway).version)
        with suppress_errors(errno.EEXIST), os_errors():
            self._netlink.route("add", family=family, dst="default", gateway=gateway, oif=index)

    def gateways(self) -> set[str]:
        """Return the gateways of default routes."""
        found = set()
        with os_errors():
            for family in (AF_INET, AF_INET6):
                for message in _whole(self._netlink.get_default_routes, family=family):
                    found.add(str(message.get_attr("RTA_GATEWAY")))
        return found

    def ranges(self, ours: Iterable[int]) -> list[IPv4Network | IPv6Network]:
        """Return the ranges of addresses and routes, but default routes and those of links that are ours."""
        left_out = set(ours)
        found: set[IPv4Network | IPv6Network] = set()
        with os_errors():
            for message in _whole(self._netlink.get_addr):
                if message["index"] not in left_out:
                    found.add(_address(message).network)
            for family in (AF_INET, AF_INET6):
                for message in _whole(self._netlink.get_routes, family=family):
                    target = message.get_attr("RTA_DST")
                    is_plain = message["type"] == _ROUTE_UNICAST and message["table"] != _ROUTE_TABLE_LOCAL
                    if target and is_plain and message.get_attr("RTA_OIF") not in left_out:
                        found.add(ip_network(f"{target}/{message['dst_len']}", strict=False))
        ranges = (one for one in found if not one.is_link_local and not one.is_multicast)
        return sorted(ranges, key=lambda one: (one.version, int(one.network_address), one.prefixlen))

    def _do(self, command: str, **attributes: object) -> None:
        with os_errors():
            self._netlink.link(command, **attributes)


@contextmanager
def suppress_errors(*numbers: int) -> Iterator[None]:
    """Pass over errors of these numbers."""
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


@contextmanager
def os_errors() -> Iterator[None]:
    """Let errors of the library leave as OSError."""
    try:
        yield
    except NetlinkError as error:
        raise OSError(error.code, os.strerror(error.code)) from error


def _whole(dump: Callable[..., Any], **wanted: object) -> list[Any]:
    """Return what the kernel lists; again if it changed meanwhile, as jobs come and go."""
    for _ in range(_DUMPS - 1):
        with suppress(NetlinkDumpInterrupted):
            return list(dump(**wanted))
    try:
        return list(dump(**wanted))
    except NetlinkDumpInterrupted as error:
        raise NetlinkError(errno.EAGAIN) from error


def _link(message: Any) -> Link:
    info: Any = message.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info else None
    is_port = info is not None and info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    isolated = info.get_attr("IFLA_INFO_SLAVE_DATA").get_attr("IFLA_BRPORT_ISOLATED") if is_port else None
    return Link(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        kind=kind or "",
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        is_up=bool(message["flags"] & _IFF_UP),
        master=message.get_attr("IFLA_MASTER") or 0,
        peer=message.get_attr("IFLA_LINK") or 0,
        is_isolated=bool(isolated),
        qdisc=message.get_attr("IFLA_QDISC") or "",
    )


def _address(message: Any) -> Interface:
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return ip_interface(f"{text}/{message['prefixlen']}")


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6  # noqa: PLR2004
