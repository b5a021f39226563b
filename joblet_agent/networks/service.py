"""The use cases of networks: make, list, remove.

The order that makes kill -9 harmless between any two lines::

    create   store → kernel; a network that is stored is made at the next start
    remove   nobody may join → store "removed" → name server, kernel → store forgets it;
             what is "removed" is finished at the next start
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import replace
from ipaddress import IPv6Network
from secrets import randbits
from typing import Any, TypeVar

from joblet_agent.config import NetworksConfig
from joblet_agent.errors import (
    HostUnavailable,
    InvalidRequest,
    JobletError,
    LimitReached,
    NotOffered,
    StoreFailed,
    WrongState,
)
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.ids import JobId
from joblet_agent.model.network import BuiltIn, Network, NetworkSpec, NetworkView
from joblet_agent.networks.catalog import Catalog, Entry, not_found
from joblet_agent.networks.check import check_network_name, checked_network
from joblet_agent.networks.name_keeper import NameKeeper
from joblet_agent.ports import Clock, NetworkBackend, NetworkStore, StoredNetwork

_MOST_NAMED = 3

T = TypeVar("T")

_log = logging.getLogger(__name__)


class NetworkService:
    """What callers can do with networks."""

    def __init__(
        self,
        *,
        config: NetworksConfig,
        catalog: Catalog,
        store: NetworkStore,
        backend: NetworkBackend,
        names: NameKeeper,
        clock: Clock,
        until_applied: Callable[[], Awaitable[None]],
        let_go: Callable[[Iterable[JobId]], Awaitable[None]],
    ) -> None:
        """``until_applied`` returns when the network service can be asked for more, or raises (JobNetworks).

        ``let_go`` returns when jobs that have ended hold nothing any more (JobRegistry).
        """
        self._config = config
        self._catalog = catalog
        self._store = store
        self._backend = backend
        self._names = names
        self._clock = clock
        self._until_applied = until_applied
        self._let_go = let_go
        self._edits = asyncio.Lock()
        self._tasks = Tasks()

    async def open(self) -> None:
        """Take over what the store has. Call once, before anything else of networks."""
        self._catalog.open(await self._store.host_range(_random_range6()))
        for stored in await self._store.all():
            if self._catalog.get(stored.network.name) is not None:
                _log.error("network %s is left out: there is a built-in one", stored.network.name)
                continue
            entry = self._catalog.add(stored.network)
            entry.is_closed = entry.is_removed = stored.is_removed

    async def close(self) -> None:
        """Change nothing more; what was under way is finished by the next agent."""
        await self._tasks.close()

    def all(self) -> list[NetworkView]:
        """Return every network, built-in ones first, then by name."""
        order = list(BuiltIn)
        shown = [entry for entry in self._catalog if self._is_shown(entry)]
        return [
            _view(entry)
            for entry in sorted(
                shown,
                key=lambda entry: (
                    order.index(BuiltIn(entry.name)) if entry.is_builtin else len(order),
                    entry.name,
                ),
            )
        ]

    def get(self, name: str) -> NetworkView:
        """Return the network. Raises NotFound."""
        entry = self._catalog.find(name)
        if entry is None or not self._is_shown(entry):
            raise not_found(name)
        return _view(entry)

    def _is_shown(self, entry: Entry) -> bool:
        if entry.name == BuiltIn.HOST:
            return bool(entry.jobs) or self._config.host.allows("admin")
        return not entry.is_closed

    async def create(self, spec: NetworkSpec) -> Network:
        """Make a network and return it when jobs can be on it; whoever asked may go away.

        Raises InvalidRequest, NotOffered, LimitReached, HostUnavailable, StoreFailed; there is none then.
        """
        return await self._shielded(self._create(spec), f"create-network-{spec.name[:15]}")

    async def _create(self, spec: NetworkSpec) -> Network:
        check_network_name(spec.name)
        if not self._config.custom:
            raise NotOffered(
                "cannot create network: custom networks are switched off on this node",
                reason="NETWORKS_SWITCHED_OFF",
                hint="an administrator can set networks.custom: true in the agent's configuration",
            )
        async with self._edits:
            self._check_room()
            await self._until_applied()
            occupied = await self._backend.occupied()
            checked = checked_network(spec, self._catalog.networks, occupied, self._catalog.free6)
            network = replace(checked, created_at=self._clock.now())
            await self._store.save(StoredNetwork(network))
            entry = self._catalog.add(network)
            entry.is_closed = True
            try:
                await self._backend.create(network)
            except JobletError:
                await self._take_back(entry)
                raise
            entry.is_closed = False
        return network

    async def _take_back(self, entry: Entry) -> None:
        """Forget a network that could not be made, at the latest when networks are repaired."""
        assert entry.network is not None
        entry.is_removed = True
        try:
            await self._store.save(StoredNetwork(entry.network, is_removed=True))
            await self._backend.remove(entry.network)
            await self._store.delete(entry.name)
        except JobletError as error:
            _log.warning("network %s, which could not be made, is cleared away later: %s", entry.name, error)
        else:
            self._catalog.discard(entry)

    def _check_room(self) -> None:
        custom = sum(not entry.is_builtin for entry in self._catalog)
        if custom >= self._config.max_custom:
            raise LimitReached(
                f"cannot create network: there are {custom} already (networks.max_custom)",
                reason="TOO_MANY_NETWORKS",
                hint="remove those that are not needed: rnx network list",
            )

    async def remove(self, name: str) -> None:
        """Leave nothing of the network; whoever asked may go away.

        Raises NotFound, InvalidRequest for a built-in one, WrongState (NETWORK_IN_USE) while a job is on it,
        also one that is just starting, StoreFailed; and HostUnavailable if the kernel is to forget
        it later.
        """
        await self._shielded(self._remove(name), f"remove-network-{name[:15]}")

    async def _remove(self, name: str) -> None:
        async with self._edits:
            entry = self._catalog.get(name)
            if entry is None:
                raise not_found(name)
            if entry.is_builtin or entry.network is None:
                raise InvalidRequest(
                    f"cannot remove network {name}: it is built in",
                    reason="NETWORK_BUILT_IN",
                    hint="leave it as it is; it costs nothing while no job is on it",
                )
            await self._let_go(entry.jobs)
            if entry.jobs:
                raise _in_use(entry)
            # From here on no job may join: there is no await between the line above and this one.
            entry.is_closed = True
            if not entry.is_removed:
                await self._mark_removed(entry, entry.network)
            await self._finish(entry, entry.network)

    async def _mark_removed(self, entry: Entry, network: Network) -> None:
        try:
            await self._store.save(StoredNetwork(network, is_removed=True))
        except StoreFailed:
            entry.is_closed = False
            raise
        entry.is_removed = True

    async def _finish(self, entry: Entry, network: Network) -> None:
        try:
            await self._until_applied()
            await self._names.dismiss(entry)
            await self._backend.remove(network)
        except HostUnavailable as error:
            raise HostUnavailable(
                f"network {entry.name} is removed for jobs, but not cleared away yet: {error}",
                reason="NETWORK_NOT_CLEARED",
                hint="it is tried again when networks are repaired; or remove it again",
            ) from error
        await self._store.delete(entry.name)
        self._catalog.discard(entry)

    async def _shielded(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Do it to its end, even if whoever asked goes away."""
        return await asyncio.shield(self._tasks.start(work, name))


def _view(entry: Entry) -> NetworkView:
    members = tuple(joined.member for joined in entry.jobs.values())
    return NetworkView(entry.name, entry.network, members)


def _in_use(entry: Entry) -> WrongState:
    ids = [job_id[:8] for job_id in entry.jobs]
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    noun = "job" if len(ids) == 1 else "jobs"
    return WrongState(
        f"network {entry.name} is in use by {noun} {', '.join(ids[:_MOST_NAMED])}{more}",
        reason="NETWORK_IN_USE",
        hint="stop them first, or wait until they have ended",
    )


def _random_range6() -> IPv6Network:
    """Return a unique local range (RFC 4193, section 3.2)."""
    return IPv6Network(((0xFD << 120) | (randbits(40) << 80), 48))
