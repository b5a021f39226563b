"""What joins a job's namespace to the bridge of its network."""

from ipaddress import ip_interface

from joblet_agent.model.network import Attachment, Network
from joblet_agent.netlink import bandwidth, settings
from joblet_agent.netlink.links import Interface, Link, Links
from joblet_agent.netlink.names import JOB_END, host_end
from joblet_agent.netlink.spares import Spare

_MTU = 1500
_TBF = "tbf"


def connect(links: Links, spare: Spare, attachment: Attachment, network: Network, bridge: int) -> None:
    """Join a namespace that was just prepared. Raises OSError."""
    name, inside = host_end(attachment.job_id), spare.inside
    links.add_pair(name, spare.namespace, master=bridge, mac=_mac(attachment), mtu=network.mtu or _MTU)
    if network.is_isolated or network.bandwidth or attachment.bandwidth:
        outer = links.named(name).index
        if network.is_isolated:  # before anything passes
            links.set_isolated(outer, True)
        if attachment.bandwidth:
            bandwidth.limit_link(links, outer, attachment.bandwidth)
        if network.bandwidth:
            bandwidth.limit_port(links, outer, network)
    end = inside.named(JOB_END).index
    inside.change(end, state="up")
    for address in _addresses(attachment, network):
        inside.add_address(end, address)
    for gateway in _gateways(network):
        inside.route_by(end, gateway)
    if attachment.bandwidth:
        bandwidth.limit_link(inside, end, attachment.bandwidth)


def repair(
    links: Links, namespace: int, inside: Links, attachment: Attachment, network: Network, bridge: int
) -> None:
    """Let everything be as ``connect`` makes it, whatever there is. Raises OSError."""
    inside.raise_loopback()
    outer, inner = _ends(links, namespace, inside, attachment, network, bridge)
    _repair_inside(inside, inner, attachment, network)
    mtu = network.mtu or _MTU
    if outer.mtu != mtu:
        links.change(outer.index, mtu=mtu)
    if outer.master != bridge:
        links.change(outer.index, master=bridge)
    if outer.master != bridge or outer.is_isolated != network.is_isolated:
        links.set_isolated(outer.index, network.is_isolated)
    if not outer.is_up:
        links.change(outer.index, state="up")
    _repair_limit(links, outer, attachment)
    bandwidth.limit_port(links, outer.index, network)


def _repair_inside(inside: Links, end: Link, attachment: Attachment, network: Network) -> None:
    mtu = network.mtu or _MTU
    if end.mac != _mac(attachment):
        inside.change(end.index, address=_mac(attachment))
    if end.mtu != mtu:
        inside.change(end.index, mtu=mtu)
    if not end.is_up:
        inside.change(end.index, state="up")
    wanted, present = set(_addresses(attachment, network)), inside.addresses(end.index)
    for address in present - wanted:
        inside.remove_address(end.index, address)
    for address in wanted - present:
        inside.add_address(end.index, address)
    for gateway in set(_gateways(network)) - inside.gateways():
        inside.route_by(end.index, gateway)
    _repair_limit(inside, end, attachment)


def _repair_limit(links: Links, end: Link, attachment: Attachment) -> None:
    if attachment.bandwidth or end.qdisc == _TBF:
        bandwidth.limit_link(links, end.index, attachment.bandwidth)


def _ends(
    links: Links, namespace: int, inside: Links, attachment: Attachment, network: Network, bridge: int
) -> tuple[Link, Link]:
    """Return the host's end and the job's; of a pair that is made anew if these do not belong together."""
    name = host_end(attachment.job_id)
    outer, inner = links.find(name), inside.find(JOB_END)
    if outer is not None and inner is not None and inner.peer == outer.index:
        return outer, inner
    if inner is not None:
        inside.remove(JOB_END)
    links.remove(name)
    links.add_pair(name, namespace, master=bridge, mac=_mac(attachment), mtu=network.mtu or _MTU)
    return links.named(name), inside.named(JOB_END)


def _addresses(attachment: Attachment, network: Network) -> list[Interface]:
    found: list[Interface] = [ip_interface(f"{attachment.address4}/{network.range4.prefixlen}")]
    if settings.has_ipv6():
        found.append(ip_interface(f"{attachment.address6}/{network.range6.prefixlen}"))
    return found


def _gateways(network: Network) -> list[str]:
    return [str(network.gateway4), *([str(network.gateway6)] if settings.has_ipv6() else [])]


def _mac(attachment: Attachment) -> str:
    """Return the address that belongs to the IP address: whoever knows it from another job is not misled."""
    return "02:6a:" + attachment.address4.packed.hex(":")
