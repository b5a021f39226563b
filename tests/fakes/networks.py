"""The networks of a kernel, the servers of their names, and the store of networks, in memory."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from joblet_agent.errors import HostUnavailable, JobletError, LimitReached, StoreFailed
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, IPAddress, Network
from joblet_agent.ports import StoredNetwork


def no_service() -> HostUnavailable:
    """What the real one raises when there is no service."""
    return HostUnavailable(
        "cannot do network work: the network service did not answer within 15 s",
        reason="NO_NETWORK_SERVICE",
        hint="see: systemctl status joblet-networks.service joblet-networks.socket",
    )


class FakeNetworkBackend:
    """A kernel that outlives agents; it refuses an address that it has already."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls
        self.networks: dict[str, Network] = {}
        self.attachments: dict[JobId, Attachment] = {}
        self.ranges: list[IPv4Network | IPv6Network] = []
        self.taken_ports: set[int] = set()
        self.damaged: dict[JobId, str] = {}
        self.failures: dict[str, JobletError] = {}
        """Calls that raise, by their name."""
        self.may_forget = asyncio.Event()
        """Not set: a job is being forgotten, and that takes its time."""
        self.may_forget.set()
        self.may_apply = asyncio.Event()
        """Not set: everything is being told, and that takes its time; attaching waits longer than it may."""
        self.may_apply.set()
        self.applied = 0
        self.restarted: Callable[[], None] = lambda: None

    def listen(self, restarted: Callable[[], None]) -> None:
        self.restarted = restarted

    async def apply(
        self, networks: Sequence[Network], attachments: Sequence[Attachment]
    ) -> Mapping[JobId, str]:
        await self._do("apply")
        await self.may_apply.wait()
        self.applied += 1
        self.networks = {network.name: network for network in networks}
        self.attachments = {attachment.job_id: attachment for attachment in attachments}
        return {job_id: why for job_id, why in self.damaged.items() if job_id in self.attachments}

    async def create(self, network: Network) -> None:
        await self._do(f"create {network.name}")
        self.networks[network.name] = network

    async def remove(self, network: Network) -> None:
        await self._do(f"remove {network.name}")
        self.networks.pop(network.name, None)

    async def attach(self, attachment: Attachment) -> Path:
        await self._do(f"attach {attachment.job_id}")
        if not self.may_apply.is_set():
            raise no_service()
        assert attachment.network in self.networks, "there is no such bridge"
        for other in self.attachments.values():
            assert other.job_id == attachment.job_id or other.address4 != attachment.address4, "given twice"
        if any(port.host_port in self.taken_ports for port in attachment.ports):
            raise LimitReached("cannot publish: the port is in use on the host", reason="PORT_TAKEN")
        self.attachments[attachment.job_id] = attachment
        return Path(f"/run/netns/joblet-{attachment.job_id}")

    async def detach(self, job_id: JobId) -> None:
        await self.may_forget.wait()
        await self._do(f"detach {job_id}")
        self.attachments.pop(job_id, None)

    async def occupied(self) -> Sequence[IPv4Network | IPv6Network]:
        await self._do("occupied")
        return list(self.ranges)

    def interface(self, job_id: JobId) -> str:
        return f"jb-{job_id.replace('-', '')[:12]}"

    async def _do(self, call: str) -> None:
        await asyncio.sleep(0)  # a real one takes a moment
        failure = self.failures.get(call.split(maxsplit=1)[0])
        if failure is not None:
            raise failure
        if call.split(maxsplit=1)[0] not in {"apply", "occupied"}:  # what every agent does at its start
            self.calls.append(call)


class FakeNameServers:
    """Servers that outlive agents."""

    def __init__(self) -> None:
        self.names: dict[str, Mapping[str, Sequence[IPAddress]]] = {}
        self.failure: JobletError | None = None
        self.tellings = 0

    async def serve(self, network: Network) -> None:
        await self._moment()
        self.names.setdefault(network.name, {})

    async def dismiss(self, network: Network) -> None:
        await self._moment()
        self.names.pop(network.name, None)

    async def keep_only(self, networks: Collection[Network]) -> None:
        await self._moment()
        kept = {network.name for network in networks}
        self.names = {name: told for name, told in self.names.items() if name in kept}

    async def tell(self, network: Network, names: Mapping[str, Sequence[IPAddress]]) -> None:
        await self._moment()
        self.tellings += 1
        self.names[network.name] = names

    def resolver(self, network: Network) -> Path:
        return Path(f"/run/joblet/dns/{network.name}/resolv.conf")

    async def _moment(self) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure


class MemoryNetworkStore:
    """Keeps networks in a dict."""

    def __init__(self) -> None:
        self.networks: dict[str, StoredNetwork] = {}
        self.range6: IPv6Network | None = None
        self.failure: StoreFailed | None = None

    async def save(self, stored: StoredNetwork) -> None:
        await self._write()
        self.networks[stored.network.name] = stored

    async def delete(self, name: str) -> None:
        await self._write()
        self.networks.pop(name, None)

    async def all(self) -> Sequence[StoredNetwork]:
        return sorted(
            self.networks.values(), key=lambda each: (str(each.network.created_at), each.network.name)
        )

    async def host_range(self, fresh: IPv6Network) -> IPv6Network:
        await self._write()
        self.range6 = self.range6 or fresh
        return self.range6

    async def _write(self) -> None:
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
