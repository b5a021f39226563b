"""What things of ours are called in the kernel. Pure.

Everything there that is named so is ours: whatever is not wanted of it is removed.
"""

import hashlib
import re
from pathlib import Path

from joblet_agent.model.job import JobId

SOCKET = Path("/run/joblet-networks/socket")
NAMESPACES = Path("/run/netns")
"""Where ``ip netns`` looks, too."""
JOB_END = "eth0"
"""The link in a job's namespace."""

_LONGEST = 15  # IFNAMSIZ of netdevice(7), without the final zero
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAMESPACE = re.compile(f"joblet-({_UUID})")
_BRIDGE = re.compile(r"joblet[a-z0-9-]{1,9}")
_HOST_END = re.compile(r"jb-[0-9a-f]{12}")
_MIRROR = re.compile(r"jbi-[0-9a-f]{8}")


def bridge_name(network: str) -> str:
    """Return the name of the bridge of a network that somebody made."""
    name = f"joblet-{network}"
    return name if len(name) <= _LONGEST and is_bridge(name) else f"joblet-{_digest(network)}"


def is_bridge(name: str) -> bool:
    """Say whether a bridge of this name is ours."""
    return _BRIDGE.fullmatch(name) is not None


def host_end(job_id: JobId) -> str:
    """Return the name of the host's end of a job's link."""
    return f"jb-{job_id.replace('-', '')[:12]}"


def is_host_end(name: str) -> bool:
    """Say whether a veth of this name is the host's end of a job's link."""
    return _HOST_END.fullmatch(name) is not None


def mirror_name(bridge: str) -> str:
    """Return the name of the ifb device that what jobs of the bridge send passes through."""
    return f"jbi-{_digest(bridge)}"


def is_mirror(name: str) -> bool:
    """Say whether an ifb device of this name is ours."""
    return _MIRROR.fullmatch(name) is not None


def namespace_path(job_id: JobId) -> Path:
    """Return where the namespace of a job is mounted."""
    return NAMESPACES / f"joblet-{job_id}"


def job_of(namespace: str) -> JobId | None:
    """Return whose namespace a file of that name in NAMESPACES is; None if it is not ours."""
    match = _NAMESPACE.fullmatch(namespace)
    return JobId(match[1]) if match else None


def is_job_id(text: str) -> bool:
    """Say whether the text can be part of the names above."""
    return re.fullmatch(_UUID, text) is not None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
