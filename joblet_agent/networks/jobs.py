"""Jobs on networks: from before their record is stored until the kernel has forgotten them.

The order that makes kill -9 harmless between any two lines::

    start    place (memory) → record with the attachment → store → attach → StartTransientUnit
    end      the outcome → store → unit released → detach → the address is free
    recover  places of unfinished jobs → apply, which removes what no unfinished job has → launches

An address is free when the kernel has forgotten it: at once if it never heard of it, else after detach
or apply.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from joblet_agent.config import JobsConfig, NetworksConfig
from joblet_agent.errors import HostUnavailable, InvalidRequest, JobletError, NotOffered, NotPermitted
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.identity import Identity
from joblet_agent.model.ids import JobId
from joblet_agent.model.job import JobRecord, JobSpec
from joblet_agent.model.network import Attachment, BuiltIn, Network
from joblet_agent.networks.catalog import Catalog, blocked
from joblet_agent.networks.check import check_attachable, clash_of
from joblet_agent.networks.name_keeper import NameKeeper
from joblet_agent.networks.names import namespace_path
from joblet_agent.networks.place import NO_PLACE, Place
from joblet_agent.ports import NameServers, NetworkBackend, NetworkStore

_HOST_RESOLVER = Path("/etc/resolv.conf")
_FIRST_PAUSE, _MOST_PAUSE = 0.5, 30.0
_SOON, _DEADLINE = 5.0, 8.0  # published clients wait 10 s for the reply
_LONG = 120.0  # a host that boots is busy with much else

_log = logging.getLogger(__name__)


class JobNetworks:
    """Gives jobs their places on networks, and lets the kernel know."""

    def __init__(
        self,
        *,
        config: NetworksConfig,
        jobs_config: JobsConfig,
        catalog: Catalog,
        store: NetworkStore,
        backend: NetworkBackend,
        servers: NameServers,
        names: NameKeeper,
        has_address: Callable[[str], bool],
    ) -> None:
        """``has_address`` says whether an IP address is one of this host's."""
        self._config = config
        self._jobs_config = jobs_config
        self._catalog = catalog
        self._store = store
        self._backend = backend
        self._servers = servers
        self._names = names
        self._has_address = has_address
        self._is_asked = asyncio.Event()
        """The service is told everything or is being told: what is asked of it later comes on top."""
        self._is_applied = asyncio.Event()
        """The kernel has what was wanted when the service was told."""
        self._is_tried = asyncio.Event()
        """Not set while nobody knows yet whether the kernel can have what is wanted."""
        self._failure: JobletError | None = None
        self._wanted = asyncio.Event()
        self._troubles: dict[JobId, str] = {}
        self._tasks = Tasks()

    # -- before a job has a record -----------------------------------------------------------------

    def admit(self, spec: JobSpec, caller: Identity) -> JobSpec:
        """Return the spec with its network named and its ports in one spelling.

        Raises InvalidRequest for a network that is not there and for options that it cannot have, NotOffered
        and NotPermitted for what is switched off.
        """
        spec = replace(spec, network=spec.network or self._jobs_config.default_network)
        entry = self._catalog.find(spec.network)
        if entry is None:
            raise self._catalog.unknown(spec.network)
        self.require_permitted(spec, caller.role)
        spec = check_attachable(spec, entry.network)
        for port in spec.ports:
            if port.address and not self._has_address(port.address):
                raise InvalidRequest(
                    f"cannot run job: address {port.address} of --publish is none of this host's",
                    reason="ADDRESS_UNKNOWN",
                    hint="use an address of this host (ip address), or leave it out for all of them",
                )
        return spec

    def require_host_permitted(self, spec: JobSpec, role: str, act: str = "cannot run job") -> None:
        """Raise NotPermitted for the host's network, unless the role may use it. ``act`` begins the text."""
        if spec.network == BuiltIn.HOST and not self._config.host.allows(role):
            raise NotPermitted(
                f"{act}: role {role or 'unknown'} may not use --network=host on this node",
                reason="NETWORK_NOT_PERMITTED",
                hint="use --network=bridge; an administrator can set networks.host in its configuration",
            )

    def require_permitted(self, spec: JobSpec, role: str) -> None:
        """Raise NotOffered or NotPermitted for what the configuration has switched off."""
        self.require_host_permitted(spec, role)
        if spec.network not in set(BuiltIn) and spec.network and not self._config.custom:
            raise NotOffered(
                f"cannot run job: custom networks are switched off on this node, {spec.network} is one",
                reason="NETWORKS_SWITCHED_OFF",
                hint="use --network=bridge; an administrator can set networks.custom: true",
            )
        if spec.ports and not self._config.publish:
            raise NotOffered(
                "cannot run job: published ports are switched off on this node (--publish)",
                reason="PUBLISH_SWITCHED_OFF",
                hint="leave --publish out; an administrator can set networks.publish: true",
            )

    # -- a job's way -------------------------------------------------------------------------------

    def place(self, record: JobRecord) -> Attachment | None:
        """Give the job its place; nobody outside this process hears of it.

        Everything is asked again that was asked when the job was accepted. Raises as ``admit`` does,
        LimitReached for a full network and a port that another job has, HostUnavailable for a network that
        cannot be used now.
        """
        self.require_permitted(record.spec, record.role)
        return self._catalog.join(record).member.attachment

    async def attach(self, record: JobRecord) -> Place:
        """Let the kernel have what the stored record says.

        Raises HostUnavailable, and LimitReached (PORT_TAKEN) for a port that something on the host has.
        """
        joined, entry = self._catalog.joined(record.id), self._catalog.entry_of(record.id)
        if joined is None or entry is None or joined.member.attachment is None:
            return self.place_of(record)
        joined.is_told = True
        path, _ = await asyncio.gather(self._attach(joined.member.attachment), self._names.show(entry))
        return replace(self.place_of(record), namespace=path)

    async def _attach(self, attachment: Attachment) -> Path:
        await self.until_applied()
        return await self._backend.attach(attachment)

    def place_of(self, record: JobRecord) -> Place:
        """Return the place of a job that has one, as it is told to people."""
        if record.spec.network == BuiltIn.HOST:
            return Place(resolver=_HOST_RESOLVER)
        attachment = record.attachment
        entry = self._catalog.get(attachment.network) if attachment else None
        if entry is None or entry.network is None:
            return NO_PLACE
        return Place(namespace_path(record.id), self._servers.resolver(entry.network))

    def forget(self, job_id: JobId) -> None:
        """Free the place of a job that the kernel has never heard of; another's stays until ``leave``."""
        joined = self._catalog.joined(job_id)
        if joined is not None and not joined.is_told:
            self._free(job_id)

    async def leave(self, job_id: JobId) -> None:
        """Let the kernel forget the job, then free its place. What fails is tried again in the background."""
        self._troubles.pop(job_id, None)
        joined = self._catalog.joined(job_id)
        if joined is None:
            return
        if joined.is_told:
            joined.is_leaving = True
            try:
                await self.until_applied()
                await self._backend.detach(job_id)
            except JobletError as error:
                _log.warning("job %s has ended, its network is not cleared away yet: %s", job_id, error)
                self._wanted.set()
                return
        self._free(job_id)

    def _free(self, job_id: JobId) -> None:
        entry = self._catalog.leave(job_id)
        if entry is not None:
            self._names.changed(entry)

    def trouble(self, job_id: JobId) -> str:
        """Say what is wrong with the network of a job that runs; empty for nothing."""
        return self._troubles.get(job_id, "")

    # -- the kernel as a whole ---------------------------------------------------------------------

    async def recover(self, records: Iterable[JobRecord]) -> None:
        """Take over what the store has, and these jobs that may be running. Call once, before any launch.

        If the kernel's networks cannot be looked after, the agent goes on without; it is tried again.
        """
        self._backend.listen(self._restarted)
        for record in records:
            if not self._catalog.adopt(record):
                self._note(record.id, f"its network {record.spec.network} is not there any more")
        self._wanted.set()
        repair = self._tasks.start(self._repair(), "networks")
        tried = self._tasks.start(self._is_tried.wait(), "networks-tried")
        done, _ = await asyncio.wait({repair, tried}, timeout=_SOON, return_when=asyncio.FIRST_COMPLETED)
        if repair in done:
            repair.result()  # it never returns: this raises
        if not done:
            _log.info("the network service takes its time; jobs with networks wait for it")
        self._names.keep_only(self._catalog)
        for entry in self._catalog:
            self._names.recover(entry)

    async def close(self) -> None:
        """Look after nothing more; everything stays as it is."""
        await self._tasks.close()

    def _restarted(self) -> None:
        self._is_tried.clear()
        self._failure = None
        self._is_asked.clear()
        self._is_applied.clear()
        self._wanted.set()

    async def until_applied(self, *, has_time: bool = False) -> None:
        """Return when the network service can be asked for more than it was told.

        Raises HostUnavailable at once while it cannot be told; with ``has_time``, when nobody waits for a
        reply, after two minutes: then it returns when the kernel has what is wanted, which takes its time on
        a host that boots.
        """
        if (self._is_applied if has_time else self._is_asked).is_set():
            return
        try:
            async with asyncio.timeout(_LONG if has_time else _DEADLINE):
                await (self._is_applied if has_time else self._is_tried).wait()
        except TimeoutError as error:
            if self._failure is not None:
                raise self._failure.anew() from error
            raise HostUnavailable(
                "cannot do network work: the network service does not answer",
                reason="NO_NETWORK_SERVICE",
                hint="see: systemctl status joblet-networks",
            ) from error
        if self._failure is not None and not has_time:
            raise self._failure.anew()

    async def _repair(self) -> None:
        """Apply whenever it is wanted, until it is done; one line in the log for each row of failures."""
        pause = _FIRST_PAUSE
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._apply()
                await self._forget_removed()
            except JobletError as error:
                if pause == _FIRST_PAUSE:
                    _log.warning("cannot look after networks, trying again: %s", error)
                self._failure = None if self._is_asked.is_set() else error.anew()
                self._is_tried.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wanted.wait()
                self._wanted.set()
                pause = min(2 * pause, _MOST_PAUSE)
            else:
                if pause != _FIRST_PAUSE:
                    _log.info("networks are looked after again")
                self._failure = None
                self._is_tried.set()
                pause = _FIRST_PAUSE

    async def _apply(self) -> None:
        """Tell the service everything.

        It does one thing after the other. So nothing may wait between the lists and the call: what is asked
        of it later comes on top of them.
        """
        self._block(await self._backend.occupied())
        wanted = [
            entry.network
            for entry in self._catalog
            if entry.network is not None and not entry.is_removed and entry.trouble is None
        ]
        leaving = self._catalog.leaving()
        was_asked = self._is_asked.is_set()
        self._is_asked.set()  # a restart during the call takes it back
        try:
            troubles = await self._backend.apply(wanted, self._catalog.attachments())
        except BaseException:
            if not was_asked:
                self._is_asked.clear()
            raise
        if self._is_asked.is_set():
            self._is_applied.set()
        self._note_all({**self._catalog.misplaced(), **troubles})
        for job_id in leaving:
            self._free(job_id)

    def _block(self, occupied: Sequence[IPv4Network | IPv6Network]) -> None:
        """Keep jobs off networks whose ranges have become something else's, unless some are on them.

        Of two networks that overlap, which only another configuration brings about, the built-in one stays.
        """
        usable: list[Network] = []
        for entry in self._catalog:
            if (network := entry.network) is None or entry.is_removed:
                continue
            found = clash_of(network.range4, usable, occupied) or clash_of(network.range6, usable, occupied)
            if found is None or entry.jobs:
                entry.trouble = None
                usable.append(network)
                continue
            if entry.trouble is None:
                _log.warning("network %s cannot be used: its range overlaps with %s", entry.name, found)
            entry.trouble = blocked(network, found)

    async def _forget_removed(self) -> None:
        """Finish the removal of networks that the kernel has forgotten by now."""
        for entry in self._catalog:
            if entry.is_removed:
                await self._names.dismiss(entry)
                await self._store.delete(entry.name)
                self._catalog.discard(entry)

    def _note_all(self, troubles: Mapping[JobId, str]) -> None:
        for job_id in [known for known in self._troubles if known not in troubles]:
            if self._catalog.joined(job_id) is not None:
                del self._troubles[job_id]
        for job_id, text in troubles.items():
            self._note(job_id, text)

    def _note(self, job_id: JobId, text: str) -> None:
        if self._troubles.get(job_id) != text:
            self._troubles[job_id] = text
            _log.warning("job %s goes on, but its network is not whole: %s", job_id, text)
