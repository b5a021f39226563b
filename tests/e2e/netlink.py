"""The network service without the agent: what is told to its socket, and what is then in the kernel."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network, PublishedPort
from joblet_agent.netlink.client import NetlinkBackend
from joblet_agent.netlink.names import NAMESPACES, host_end, namespace_path
from tests.e2e.agent import command

SERVICE = "joblet-networks.service"
OURS = ("joblet", "jb-", "jbi-")


def network(name: str, number: int, **fields: Any) -> Network:
    """Return a network whose ranges have the number in them."""
    return Network(
        name,
        f"joblet-{name}",
        IPv4Network(f"10.77.{number}.0/24"),
        IPv6Network(f"fd77:0:0:{number}::/64"),
        **fields,
    )


def attachment(
    on: Network, number: int, *, bandwidth: int = 0, ports: tuple[PublishedPort, ...] = ()
) -> Attachment:
    """Return the place of a new job, with the address of that number."""
    job_id = JobId(str(uuid.uuid4()))
    return Attachment(job_id, on.name, on.range4[number], on.range6[number], bandwidth, ports)


@asynccontextmanager
async def service() -> AsyncIterator[NetlinkBackend]:
    """Yield the agent's side of the service, which knows of no network; leave nothing behind."""
    backend = NetlinkBackend()
    await backend.open()
    try:
        await backend.apply([], [])
        yield backend
    finally:
        await backend.apply([], [])
        await backend.close()


def kill_service() -> None:
    """Kill the service as the kernel would; systemd starts another, at the latest for who asks for it."""
    command("systemctl", "kill", "--signal=KILL", SERVICE, check=False)


def inside(job_id: JobId, *words: str) -> str:
    """Return what a command prints that runs in the job's namespace, with root's rights."""
    done = subprocess.run(
        ["nsenter", f"--net={namespace_path(job_id)}", "--", *words],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def links(job_id: JobId | None = None) -> dict[str, dict[str, Any]]:
    """Return what ``ip`` tells about links, of the host or in a job's namespace."""
    words = ("ip", "-details", "-json", "link", "show")
    told = command(*words).stdout if job_id is None else inside(job_id, *words)
    return {link["ifname"]: link for link in json.loads(told)}


def addresses(device: str, job_id: JobId | None = None) -> set[str]:
    """Return the addresses of a link that others can reach."""
    words = ("ip", "-json", "address", "show", "dev", device, "scope", "global")
    told = json.loads(command(*words).stdout if job_id is None else inside(job_id, *words))
    return {
        f"{found['local']}/{found['prefixlen']}"
        for link in told
        for found in link.get("addr_info", ())
        if found  # some print an empty object for other links, and for addresses of other scopes
    }


def routes(job_id: JobId) -> set[str]:
    """Return the gateways of a job's default routes."""
    told = [
        json.loads(inside(job_id, "ip", f"-{one}", "-json", "route", "show", "default")) for one in (4, 6)
    ]
    return {route["gateway"] for found in told for route in found}


def ours() -> set[str]:
    """Return the names of everything of ours in the kernel: links, namespaces."""
    found = {name for name in links() if name.startswith(OURS)}
    return found | {entry.name for entry in NAMESPACES.iterdir() if entry.name.startswith("joblet-")}


def named(*attachments: Attachment) -> set[str]:
    """Return the names that these attachments have in the kernel."""
    pairs = ((host_end(one.job_id), namespace_path(one.job_id).name) for one in attachments)
    return {name for pair in pairs for name in pair}


def namespaces_of_the_service() -> int:
    """Return how many descriptors of namespaces the service has."""
    pid = command("systemctl", "show", "--property=MainPID", "--value", SERVICE).stdout.strip()
    return sum(1 for entry in Path(f"/proc/{pid}/fd").iterdir() if "net:[" in str(entry.readlink()))


async def all_of(*calls: Any) -> list[Any]:
    """Return the results of calls that are made at the same time."""
    return list(await asyncio.gather(*calls))
