"""Limits of bandwidth, as queues of links (tc-tbf(8)).

A queue limits what a link sends. What a job receives is sent by the host's end of its link, and what it sends
by its own end, in its namespace, where jobs have no right to change it. To the jobs of a network everything
from outside is sent by the bridge device, while what they send each other is not.

What the jobs of a network send is led through one ifb device, as only what is sent has a queue: where it
arrives from each job, unless it is for another job. Not where it leaves the bridge: with br_netfilter, which
Docker loads, rules have seen it by then, and would not know it again.
"""

import errno
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from joblet_agent.model.network import Network
from joblet_agent.netlink import settings
from joblet_agent.netlink.links import Links, os_errors, suppress_errors
from joblet_agent.netlink.names import mirror_name

_BITS = 8
_RATE_MOST = 2**32 - 1  # bytes per second of struct tc_ratespec
_BURST_PER_RATE = 20  # what comes in 50 ms may pass at once: a busy host looks that late after its queues
_BURST_LEAST = 32 * 1024
_QUEUE_PER_RATE = 10  # what is sent in 100 ms may wait
_QUEUE_LEAST = 128 * 1024
_INGRESS = 0xFFFF0000
_IPV4, _IPV6 = 0x0800, 0x86DD  # ETH_P_IP, ETH_P_IPV6
_DESTINATION = {4: 16, 6: 24}  # bytes from the beginning of the packet
_ANYTHING = ["0x0/0x0+0"]
_UNUSED_CLASS = 0x10001  # the library wants one
# Neighbour discovery and the like: never waits, and never leaves the network.
_ON_LINK = (IPv6Network("fe80::/10"), IPv6Network("ff00::/8"))


def limit_link(links: Links, index: int, bandwidth: int) -> None:
    """Limit what the link sends, in bits per second; 0 lifts the limit. Packets under way stay."""
    if not bandwidth:
        with suppress_errors(errno.EINVAL, errno.ENOENT), os_errors():  # it has none
            links.netlink.tc("del", index=index)
        return
    rate = max(1, min(bandwidth // _BITS, _RATE_MOST))
    burst = max(rate // _BURST_PER_RATE, _BURST_LEAST)
    queue = min(burst + max(rate // _QUEUE_PER_RATE, _QUEUE_LEAST), _RATE_MOST)
    with os_errors():
        # The library wants a latency, too, and does not use it.
        links.netlink.tc("replace", "tbf", index, rate=rate, burst=burst, limit=queue, latency=0)


def limit_bridge(links: Links, index: int, network: Network) -> None:
    """Limit what the jobs of the network receive, and prepare the device for what they send."""
    limit_link(links, index, network.bandwidth)
    mirror = mirror_name(network.bridge)
    if not network.bandwidth:
        links.remove(mirror)
        return
    with suppress_errors(errno.EEXIST):
        links.add_mirror(mirror)
    device = links.named(mirror).index
    links.change(device, state="up")
    limit_link(links, device, network.bandwidth)


def limit_port(links: Links, index: int, network: Network) -> None:
    """Let what comes from the host's end of a job's link be limited with what comes from the other jobs."""
    with suppress_errors(errno.EINVAL, errno.ENOENT), os_errors():  # it had no limit
        links.netlink.tc("del", "ingress", index)
    if not network.bandwidth:
        return
    device = links.named(mirror_name(network.bridge)).index
    limited = {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": device}
    with os_errors():
        links.netlink.tc("add", "ingress", index)
    rules: list[tuple[int, list[str], Any]] = [
        (_IPV4, _keys(ip_network(network.gateway4)), limited),
        (_IPV4, _keys(network.range4), None),
        (_IPV4, _ANYTHING, limited),
    ]
    if settings.has_ipv6():
        rules += [(_IPV6, _keys(ip_network(network.gateway6)), limited), (_IPV6, _keys(network.range6), None)]
        rules += [(_IPV6, _keys(range6), None) for range6 in _ON_LINK]
        rules += [(_IPV6, _ANYTHING, limited)]
    for priority, (protocol, keys, action) in enumerate(rules, 1):
        with os_errors():
            links.netlink.tc(
                "add-filter",
                "u32",
                index,
                parent=_INGRESS,
                prio=priority,
                protocol=protocol,
                target=_UNUSED_CLASS,
                keys=keys,
                **({"action": action} if action else {}),
            )


def _keys(target: IPv4Network | IPv6Network) -> list[str]:
    """Return what u32 compares (tc-u32(8)): the words of the destination that the range covers."""
    found = []
    address, mask = target.network_address.packed, target.netmask.packed
    for at in range(0, len(address), 4):
        if any(mask[at : at + 4]):
            place = _DESTINATION[target.version] + at
            found.append(f"0x{address[at : at + 4].hex()}/0x{mask[at : at + 4].hex()}+{place}")
    return found
