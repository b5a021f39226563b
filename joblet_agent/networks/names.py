"""What networks and jobs are called in the kernel and by their neighbours. Pure.

Names of networks have been checked (check.py) before they come here.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

from joblet_agent.model.ids import JobId
from joblet_agent.model.network import BuiltIn, IPAddress

BRIDGES: Mapping[str, str] = {BuiltIn.BRIDGE: "joblet0", BuiltIn.ISOLATED: "joblet-isolated"}

_NAMESPACES = Path("/run/netns")
_DIGEST = 8
_PLAIN = re.compile(r"[a-z0-9-]{1,8}")  # the kernel takes 15 bytes
_LIKE_DIGEST = re.compile(f"[0-9a-f]{{{_DIGEST}}}")
# One label of a name in DNS. No dots: no job answers in the place of a host of the outside.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# What inet_aton(3) takes for an address, before anybody asks a server.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
# Loopback; and what programs ask for on their own, to do as the answer tells (proxies, tunnels).
_NEVER = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "wpad", "isatap"})


def bridge_name(network: str) -> str:
    """Return the name of the network's bridge. Two networks have the same only if their digests are."""
    if network in BRIDGES:
        return BRIDGES[network]
    if _PLAIN.fullmatch(network) and not _LIKE_DIGEST.fullmatch(network):
        return f"joblet-{network}"
    return f"joblet-{sha256(network.encode()).hexdigest()[:_DIGEST]}"


def namespace_path(job_id: JobId) -> Path:
    """Return where the job's network namespace is mounted."""
    return _NAMESPACES / f"joblet-{job_id}"


def host_names(
    members: Iterable[tuple[JobId, str, tuple[IPAddress, ...]]],
) -> Mapping[str, tuple[IPAddress, ...]]:
    """Return names with their addresses, from jobs' ids, names and addresses.

    A job is known by its id, the first eight characters of that, and its name, if that can be the name of a
    host. Several jobs of one name share it; nobody gets a name that is another's id.
    """
    names: dict[str, tuple[IPAddress, ...]] = {}
    given: dict[str, tuple[IPAddress, ...]] = {}
    for job_id, name, addresses in members:
        for own in (job_id, job_id[:8]):
            names[own] = (*names.get(own, ()), *addresses)
        if (label := host_name(name)) is not None:
            given[label] = (*given.get(label, ()), *addresses)
    return {**given, **names}


def host_name(job_name: str) -> str | None:
    """Return under which name jobs of this name are found, whatever the case; None: by their ids alone."""
    if not job_name.isascii():  # some letters beyond have one of ASCII as their small letter
        return None
    label = job_name.lower()
    if not _LABEL.fullmatch(label) or _NUMBER.fullmatch(label) or label in _NEVER:
        return None
    return label
