"""The host's network: ranges for jobs, the listener's address and port, name servers, other firewalls."""

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from joblet_agent.config import Listening
from joblet_agent.fitness.finding import Probe, Subject, Verdict, failed, ok, unknown, warning
from joblet_agent.fitness.modules import NETWORKS, Modules
from joblet_agent.fitness.scene import Host, Scene
from joblet_agent.netlink.names import is_bridge
from joblet_agent.networks.check import clash_of
from joblet_agent.networks.names import BRIDGES
from joblet_agent.systemd.names import AGENT_UNIT

_LISTENING = "0A"  # TCP_LISTEN, in /proc/net/tcp


def _ranges(scene: Scene) -> Verdict:
    networks = scene.loaded.config.networks
    occupied = list(_routes(scene.host))
    for key, own in (("bridge", networks.bridge), ("isolated", networks.isolated), ("ula", networks.ula)):
        if own is not None and (clash := clash_of(own, (), occupied)) is not None:
            return failed(
                f"networks.{key} {own} overlaps with {clash}",
                f"jobs on the network {key} do not start"
                if key != "ula"
                else "networks cannot have these IPv6 addresses",
                f"another range for networks.{key}, then restart the agent (ip route shows what is taken)",
            )
    return ok(f"{networks.bridge} and {networks.isolated} are free for jobs")


def _routes(host: Host) -> Iterator[IPv4Network | IPv6Network]:
    """Yield where routes lead to, but the default route and those of our bridges."""
    for line in host.lines("/proc/net/route")[1:]:
        link, target, _, _, _, _, _, mask = line.split()[:8]
        if not is_bridge(link) and int(mask, 16):
            packed = struct.pack("=I", int(target, 16)), bin(int(mask, 16)).count("1")
            yield IPv4Network(packed, strict=False)
    for line in host.lines("/proc/net/ipv6_route"):
        fields = line.split()
        target6, length = bytes.fromhex(fields[0]), int(fields[1], 16)
        if length and not is_bridge(fields[9]) and fields[9] != "lo":
            yield IPv6Network((target6, length), strict=False)


def _listens(scene: Scene) -> bool:
    """Say whether the agent listens on the network, or will."""
    config = scene.loaded.config
    match config.listener.enabled:
        case Listening.NO:
            return False
        case Listening.YES:
            return True
        case Listening.AUTO:
            return scene.host.is_there(config.tls.directory / "server.crt")


def _unreachable(scene: Scene, text: str, remedy: str) -> Verdict:
    if scene.loaded.config.listener.enabled is Listening.YES:
        return failed(text, "the agent does not start", remedy)
    return warning(text, "no client reaches the agent over the network", remedy)


def _address(scene: Scene) -> Verdict | None:
    address = scene.loaded.config.listener.address
    if not _listens(scene):
        return None
    if scene.host.facts.has_address(address):
        return ok(f"{address} is an address of this host")
    return _unreachable(scene, f"{address} is no address of this host", "set listener.address (ip address)")


def _port(scene: Scene) -> Verdict | None:
    listener = scene.loaded.config.listener
    if not _listens(scene):
        return None
    taken = set(_listening(scene.host, listener.address, listener.port))
    if not taken:
        return ok(f"port {listener.port} is free")
    agent = scene.survey.units[AGENT_UNIT].settings if scene.survey else {}
    try:
        own = set(_sockets(scene.host, agent["MainPID"])) if agent.get("MainPID") else set()
    except PermissionError:
        return unknown(f"whether it is the agent that has port {listener.port}", "run it as root")
    if taken & own:
        return ok(f"the agent listens on port {listener.port}")
    return _unreachable(
        scene, f"another program has port {listener.port}", "see which: ss -ltnp; or set listener.port"
    )


def _listening(host: Host, address: str, port: int) -> Iterator[str]:
    """Yield the inodes of sockets that listen on the port, for the address; proc_net(5)."""
    own = ip_address(address)
    for name in ("tcp", "tcp6"):
        for line in host.lines(f"/proc/net/{name}")[1:]:
            fields = line.split()
            place, _, number = fields[1].partition(":")
            if fields[3] != _LISTENING or int(number, 16) != port:
                continue
            words = struct.unpack(f">{len(place) // 8}I", bytes.fromhex(place))
            theirs = ip_address(struct.pack(f"={len(words)}I", *words))
            if own.is_unspecified or theirs.is_unspecified or theirs == own:
                yield fields[9]


def _sockets(host: Host, pid: int) -> Iterator[str]:
    for link in host.path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(link)
        if target.startswith("socket:["):
            yield target[8:-1]


def _resolver(scene: Scene) -> Verdict:
    if any(line.split()[:1] == ["nameserver"] for line in scene.host.lines("/etc/resolv.conf")):
        return ok("the host has name servers, and jobs ask them")
    return warning(
        "/etc/resolv.conf names no server",
        "jobs on networks find each other, and no names of the outside",
        "name servers in /etc/resolv.conf (systemd-resolved, or what sets up the network)",
    )


def _firewalls(scene: Scene) -> Verdict | None:
    if not Modules(scene.host).is_present("nf_tables", NETWORKS["nf_tables"]):
        return None  # there are no rules yet, and asking would load the module
    if not scene.is_root:
        return unknown("whether other firewalls are in jobs' way", "run it as root")
    from joblet_agent.netlink.host_rules import host_obstacles  # noqa: PLC0415 - libnftables

    found = host_obstacles(_bridges(scene.host))
    if not found:
        return ok("no other firewall is in jobs' way")
    what, _, mend = found[0].partition("; to allow them: ")
    more = f" (and {len(found) - 1} more chains)" if len(found) > 1 else ""
    return warning(what + more, "jobs may not reach the outside, one another, or name servers", mend)


def _bridges(host: Host) -> Sequence[str]:
    """Return the bridges that there are, or the first of those that will be."""
    names: Iterable[str] = (line.partition(":")[0].strip() for line in host.lines("/proc/net/dev"))
    return [name for name in names if is_bridge(name)] or list(BRIDGES.values())


PROBES: Sequence[Probe] = (
    Probe("NETWORK_RANGES", Subject.NETWORK, _ranges),
    Probe("NETWORK_ADDRESS", Subject.NETWORK, _address),
    Probe("NETWORK_PORT", Subject.NETWORK, _port),
    Probe("NETWORK_NAMES", Subject.NETWORK, _resolver),
    Probe("NETWORK_FIREWALLS", Subject.NETWORK, _firewalls),
)
