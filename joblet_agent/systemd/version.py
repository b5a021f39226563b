"""The systemd of this host, and whether it is one that jobs can run on."""

import re
from pathlib import Path

from joblet_agent.errors import HostUnavailable

OLDEST = 252
_CGROUP2_MARK = Path("/sys/fs/cgroup/cgroup.controllers")


def version_number(text: str) -> int:
    """Return the number in systemd's words for its version; 0 if there is none."""
    match = re.match(r"v?(\d+)", text)
    return int(match.group(1)) if match else 0


def require_host(version_text: str) -> int:
    """Return systemd's version from the Manager's ``Version`` property ("257.13-1~deb13u1").

    Raises HostUnavailable when it is older than 252 or the host has no unified cgroup tree.
    """
    version = version_number(version_text)
    if version < OLDEST:
        raise HostUnavailable(
            f"cannot run jobs on systemd {version_text!r}: {OLDEST} or newer is needed",
            reason="SYSTEMD_TOO_OLD",
        )
    if not _CGROUP2_MARK.exists():
        raise HostUnavailable(
            "cannot run jobs: /sys/fs/cgroup is not a unified (version 2) cgroup tree",
            reason="NO_CGROUP2",
            hint="boot with systemd.unified_cgroup_hierarchy=1",
        )
    return version
