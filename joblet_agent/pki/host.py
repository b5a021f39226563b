"""What this host is called, and its addresses, for the agent's certificate."""

import os
import socket
from ipaddress import ip_address

from joblet_agent.model.host import is_host_name
from joblet_agent.pki.names import Address, HostNames, unique

_GLOBAL = 0  # RT_SCOPE_UNIVERSE of rtnetlink(7)
_IFA_F_TEMPORARY = 0x01  # of IPv6, and of IPv4 (IFA_F_SECONDARY) one that is as good as the others


def find_host() -> HostNames:
    """Return what the host is called now, and where it can be reached."""
    return HostNames(_names(), _addresses())


def _names() -> tuple[str, ...]:
    """Return the host's name and, if the resolver knows it, its name with the domain."""
    found = (os.uname().nodename, socket.getfqdn())
    return unique(name.rstrip(".").lower() for name in found if is_host_name(name))


def _addresses() -> tuple[Address, ...]:
    """Return the addresses of the host's interfaces that others can reach; no temporary ones of IPv6."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - commands that only read do without its 60 ms

    found = []
    with IPRoute() as netlink:
        for message in netlink.get_addr():
            is_temporary = message["family"] == socket.AF_INET6 and message["flags"] & _IFA_F_TEMPORARY
            if message["scope"] == _GLOBAL and not is_temporary:
                found.append(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS"))
    return tuple(ip_address(text) for text in unique(map(str, found)))
