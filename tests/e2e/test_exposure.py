"""What `systemd-analyze security` makes of a running job, and why the rest is as it is."""

import json
import re

import pytest

from tests.e2e.agent import Client, command
from tests.e2e.host import unit_of
from tests.e2e.inside import running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

MOST = {"none": 2.0, "bridge": 2.2}
"""By network, of 10; see docs/isolation.md."""
MUST_STAY = {
    # The launcher's, who drops it before the command runs; systemd-analyze sees the unit only.
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
    # A uid for each job and a /tmp of its own in memory do the same, or more.
    "PrivateUsers",
    "PrivateTmp",
    # Addresses of its own loopback are allowed, and on a network those that the network's rules let it reach.
    "IPAddressDeny",
    # What ProtectClock= lets a unit read, the real time clock, is not in the job's /dev.
    "DeviceAllow",
    # A user's IPC objects in the host's namespace: the job has a namespace of its own.
    "RemoveIPC",
}
NOT_IN_STRICT = {
    "RestrictAddressFamilies_AF_NETLINK",
    "SystemCallFilter_resources",
    "MemoryDenyWriteExecute",
}


@pytest.mark.parametrize("network", MOST)
@pytest.mark.parametrize(("profile", "left"), [("default", MUST_STAY), ("strict", MUST_STAY - NOT_IN_STRICT)])
def test_the_exposure_of_a_running_job(client: Client, *, profile: str, left: set[str], network: str) -> None:
    fields = {"profile": profile, "network": network}
    with running(client, "sh", "-c", "echo ready; exec sleep 1000", **fields) as job_id:
        words = ("systemd-analyze", "security", "--no-pager")
        told = command(*words, "--json=short", unit_of(job_id), check=False).stdout
        overall = command(*words, unit_of(job_id), check=False).stdout.splitlines()[-1]
    exposed = {
        row["json_field"] for row in json.loads(told) if float(row["exposure"] or 0) and not row["set"]
    }
    assert exposed <= left
    level = re.search(r": ([0-9.]+) ", overall)
    assert level is not None, overall
    assert float(level[1]) <= MOST[network]
