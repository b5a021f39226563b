"""The bridge of a network: its device, the host's addresses on it, its settings and limits."""

import errno
import hashlib
from ipaddress import ip_interface

from joblet_agent.model.network import Network
from joblet_agent.netlink import bandwidth, settings
from joblet_agent.netlink.links import Interface, Links

_KIND = "bridge"
_MTU = 1500  # of a bridge that nobody told anything


def make_bridge(links: Links, network: Network) -> None:
    """Let the bridge be there and as it should be, whatever there was. Raises OSError."""
    link = links.find(network.bridge)
    if link is None:
        links.add_bridge(network.bridge, _mac(network.bridge))
        link = links.named(network.bridge)
    elif link.kind != _KIND:
        raise OSError(errno.EEXIST, f"a link {network.bridge} that is no bridge is there")
    elif link.mac != _mac(network.bridge):
        links.change(link.index, address=_mac(network.bridge))
    settings.forward()
    settings.prepare_bridge(network.bridge)
    if link.mtu != (network.mtu or _MTU):
        links.change(link.index, mtu=network.mtu or _MTU)
    links.change(link.index, state="up")
    wanted = gateways(network)
    present = links.addresses(link.index)
    for address in present - wanted:
        links.remove_address(link.index, address)
    for address in wanted - present:
        links.add_address(link.index, address)
    bandwidth.limit_bridge(links, link.index, network)


def gateways(network: Network) -> set[Interface]:
    """Return the host's addresses on the network."""
    found: set[Interface] = {ip_interface(f"{network.gateway4}/{network.range4.prefixlen}")}
    if settings.has_ipv6():
        found.add(ip_interface(f"{network.gateway6}/{network.range6.prefixlen}"))
    return found


def _mac(bridge: str) -> str:
    """Return an address that stays, locally administered: jobs remember it (ARP)."""
    return "02:" + hashlib.sha256(bridge.encode()).digest()[:5].hex(":")
