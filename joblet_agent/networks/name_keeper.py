"""Keeps the name servers of networks in step with the jobs that come and go.

A server that fails costs jobs their neighbours' names and nothing else: it is logged once, and tried again in
the background.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence

from joblet_agent.errors import JobletError
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.network import IPAddress, Network
from joblet_agent.networks.catalog import Entry
from joblet_agent.networks.names import host_names
from joblet_agent.pauses import GrowingPause
from joblet_agent.ports import NameServers

_LINGER = 60.0
"""Seconds that a server outlives the last job of its network: the next one need not wait for another."""
_FIRST_PAUSE, _MOST_PAUSE = 0.5, 30.0

_log = logging.getLogger(__name__)


class _State:
    """What the server of one network was told."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.is_served = False
        self.is_failing = False
        self.wanted = 0
        self.told = 0
        self.timer: asyncio.TimerHandle | None = None


class NameKeeper:
    """One server to a network in use."""

    def __init__(self, servers: NameServers, linger: float = _LINGER) -> None:
        self._servers = servers
        self._linger = linger
        self._states: dict[str, _State] = {}
        self._tasks = Tasks()

    async def close(self) -> None:
        """Leave the servers as they are."""
        for state in self._states.values():
            if state.timer is not None:
                state.timer.cancel()
        await self._tasks.close()

    async def show(self, entry: Entry) -> None:
        """Return once the network's server knows its jobs; never raises an error of ours.

        While it fails nobody waits for it.
        """
        state = self._state(entry)
        state.wanted += 1
        wanted = state.wanted
        async with state.lock:
            if state.told < wanted:  # else whoever came first has told of all
                await self._tell(entry, state)

    def changed(self, entry: Entry) -> None:
        """Let the server know, soon, that a job has left; end it a while after the last one."""
        if entry.network is None:
            return
        state = self._state(entry)
        if entry.jobs or state.is_served:
            self._tasks.start(self.show(entry), f"names-{entry.name}")
        if entry.jobs:
            return
        if state.timer is not None:
            state.timer.cancel()
        state.timer = asyncio.get_running_loop().call_later(self._linger, self._dismiss_soon, entry)

    def keep_only(self, entries: Iterable[Entry]) -> None:
        """End, soon, the servers of networks that are not there any more."""
        networks = [entry.network for entry in entries if entry.network is not None]
        self._tasks.start(self._keep_only(networks), "names")

    async def _keep_only(self, networks: Sequence[Network]) -> None:
        try:
            await self._servers.keep_only(networks)
        except JobletError as error:
            _log.warning("name servers of former networks may be left: %s", error)

    def recover(self, entry: Entry) -> None:
        """Begin with a network whose server an agent before this one may have left, up to date or not."""
        if entry.network is None:
            return
        if entry.jobs:
            self._tasks.start(self.show(entry), f"names-{entry.name}")
        else:
            self._dismiss_soon(entry)

    async def dismiss(self, entry: Entry) -> None:
        """End the server of a network that is removed. Raises HostUnavailable."""
        assert entry.network is not None
        state = self._state(entry)
        async with state.lock:
            state.is_served = False
            await self._servers.dismiss(entry.network)
        if state.timer is not None:
            state.timer.cancel()
        self._states.pop(entry.name, None)

    def _dismiss_soon(self, entry: Entry) -> None:
        self._tasks.start(self._dismiss_unused(entry), f"dismiss-{entry.name}")

    async def _dismiss_unused(self, entry: Entry) -> None:
        state = self._state(entry)
        async with state.lock:
            is_removed = self._states.get(entry.name) is not state  # its namesake has another
            if entry.jobs or entry.network is None or is_removed:
                return
            state.is_served = False
            try:
                await self._servers.dismiss(entry.network)
            except JobletError as error:
                _log.debug("the name server of network %s is not ended: %s", entry.name, error)

    async def _tell(self, entry: Entry, state: _State) -> None:
        assert entry.network is not None
        telling = state.wanted
        try:
            # The names first: a server that takes too long has them when it is there.
            await self._servers.tell(entry.network, _names(entry))
            if not state.is_served and not state.is_failing:
                await self._servers.serve(entry.network)
                state.is_served = True
        except JobletError as error:
            state.is_served = False
            if not state.is_failing:
                state.is_failing = True
                _log.warning("jobs on network %s do not find each other by name: %s", entry.name, error)
                self._tasks.start(self._try_again(entry, state), f"names-{entry.name}")
            return
        state.told = telling

    async def _try_again(self, entry: Entry, state: _State) -> None:
        """Try until it is served; without the lock, on which jobs wait."""
        assert entry.network is not None
        pause = GrowingPause(first=_FIRST_PAUSE, most=_MOST_PAUSE)
        while entry.jobs:
            await pause.wait()
            try:
                await self._servers.serve(entry.network)
            except JobletError as error:
                _log.debug("the name server of network %s: %s", entry.name, error)
                continue
            async with state.lock:
                state.is_failing, state.is_served = False, True
                await self._tell(entry, state)
            _log.info("jobs on network %s find each other by name again", entry.name)
            break
        state.is_failing = False
        # They have gone meanwhile, with those who would end it. The name may be another network's by now.
        if not entry.jobs and self._states.get(entry.name, state) is state:
            await self._dismiss_unused(entry)

    def _state(self, entry: Entry) -> _State:
        return self._states.setdefault(entry.name, _State())


def _names(entry: Entry) -> Mapping[str, tuple[IPAddress, ...]]:
    assert entry.network is not None
    if entry.network.is_isolated:
        return {}  # its jobs do not reach each other
    return host_names(
        (member.job_id, member.name, member.attachment.addresses)
        for joined in entry.jobs.values()
        if not joined.is_leaving and (member := joined.member).attachment is not None
    )
