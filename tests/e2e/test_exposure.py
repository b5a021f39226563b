"""What `systemd-analyze security` makes of a running job, and why the rest is as it is."""

import json
import re

import pytest

from tests.e2e.agent import Client, command
from tests.e2e.host import unit_of
from tests.e2e.inside import running

pytestmark = pytest.mark.systemd

MOST = 3.0
"""Of the default profile, of 10; see docs/architecture.md."""
MUST_STAY = {
    # The launcher's, who drops it before the command runs; systemd-analyze sees the unit only.
    "UserOrDynamicUser",
    "CapabilityBoundingSet_CAP_SYS_ADMIN",
    "CapabilityBoundingSet_CAP_SET_UID_GID_PCAP",
    "SystemCallFilter_mount",
    "SystemCallFilter_privileged",
    "RestrictNamespaces_mnt",
    "RestrictNamespaces_pid",
    # Jobs need it: sockets, even if only on their own loopback; nice and taskset; code made at run time.
    "RestrictAddressFamilies_AF_INET_INET6",
    "RestrictAddressFamilies_AF_NETLINK",
    "RestrictAddressFamilies_AF_UNIX",
    "SystemCallFilter_resources",
    "MemoryDenyWriteExecute",
    "UMask",
    # A uid for each job, a /tmp of its own in memory and no network do the same, or more.
    "PrivateUsers",
    "PrivateTmp",
    "IPAddressDeny",
    # The launcher mounts a /proc of the job's own over systemd's: of these only their cost would be left.
    "ProcSubset",
    "ProtectKernelTunables",
    "ProtectKernelLogs",
    # Without CAP_SYS_TIME and @clock there is nothing left for it to do but to add a device.
    "ProtectClock",
}
NOT_IN_STRICT = {
    "RestrictAddressFamilies_AF_NETLINK",
    "SystemCallFilter_resources",
    "MemoryDenyWriteExecute",
}


@pytest.mark.parametrize(("profile", "left"), [("default", MUST_STAY), ("strict", MUST_STAY - NOT_IN_STRICT)])
def test_the_exposure_of_a_running_job(client: Client, profile: str, left: set[str]) -> None:
    with running(client, "sh", "-c", "echo ready; exec sleep 1000", profile=profile) as job_id:
        words = ("systemd-analyze", "security", "--no-pager")
        told = command(*words, "--json=short", unit_of(job_id), check=False).stdout
        overall = command(*words, unit_of(job_id), check=False).stdout.splitlines()[-1]
    exposed = {
        row["json_field"] for row in json.loads(told) if float(row["exposure"] or 0) and not row["set"]
    }
    assert exposed <= left
    level = re.search(r": ([0-9.]+) ", overall)
    assert level is not None, overall
    assert float(level[1]) <= MOST
