"""The agent's side of the network service's socket (ports.NetworkBackend). No pyroute2 here."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import TypeVar

from joblet_agent.errors import HostUnavailable
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network
from joblet_agent.netlink import wire
from joblet_agent.netlink.names import SOCKET, host_end
from joblet_agent.pauses import GrowingPause

_CALL_DEADLINE = 15.0
_APPLY_DEADLINE = 60.0  # hundreds of attachments, each looked at
_RECONNECT_FIRST, _RECONNECT_MOST = 0.05, 1.0
_HINT = "see: systemctl status joblet-networks.service joblet-networks.socket"

T = TypeVar("T")

_log = logging.getLogger(__name__)


class _Lost(Exception):
    """The connection ended before the answer."""


class NetlinkBackend:
    """A connection to the network service that comes back by itself.

    Calls wait, within their deadline, for a service that is away, and are made again if it ended before it
    answered: each of them done twice is the same as once. Those that change something wait until a service
    that was started anew has been told everything with ``apply``.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = path
        self._restarted: Callable[[], None] = _nobody_listens
        self._writer: asyncio.StreamWriter | None = None
        self._is_connected = asyncio.Event()
        self._is_told = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._number = 0
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Seek the service from now on; whether it is there shows at the first call."""
        self._keeper = asyncio.create_task(self._keep(), name="network-service")

    async def close(self) -> None:
        """Disconnect; calls under way fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def listen(self, restarted: Callable[[], None]) -> None:
        """See ports.NetworkBackend."""
        self._restarted = restarted

    async def apply(
        self, networks: Sequence[Network], attachments: Sequence[Attachment]
    ) -> Mapping[JobId, str]:
        """See ports.NetworkBackend."""
        fields = {
            "networks": [wire.network_to_fields(network) for network in networks],
            "attachments": [wire.attachment_to_fields(attachment) for attachment in attachments],
        }
        result = await self._call("apply", fields, self._is_connected, _APPLY_DEADLINE)
        if self._is_connected.is_set():
            self._is_told.set()
        return _understood(wire.reasons_from_result, result)

    async def create(self, network: Network) -> None:
        """See ports.NetworkBackend."""
        await self._call("create", {"network": wire.network_to_fields(network)}, self._is_told)

    async def remove(self, network: Network) -> None:
        """See ports.NetworkBackend."""
        await self._call("remove", {"network": wire.network_to_fields(network)}, self._is_told)

    async def attach(self, attachment: Attachment) -> Path:
        """See ports.NetworkBackend."""
        fields = {"attachment": wire.attachment_to_fields(attachment)}
        return Path(str(await self._call("attach", fields, self._is_told)))

    async def detach(self, job_id: JobId) -> None:
        """See ports.NetworkBackend."""
        await self._call("detach", {"job": job_id}, self._is_told)

    async def occupied(self) -> Sequence[IPv4Network | IPv6Network]:
        """See ports.NetworkBackend."""
        result = await self._call("occupied", {}, self._is_connected)
        return _understood(wire.ranges_from_result, result)

    def interface(self, job_id: JobId) -> str:
        """See ports.NetworkBackend."""
        return host_end(job_id)

    async def _call(
        self, name: str, fields: wire.Fields, wanted: asyncio.Event, deadline: float | None = None
    ) -> object:
        if deadline is None:
            deadline = _CALL_DEADLINE
        try:
            async with asyncio.timeout(deadline):
                while True:
                    await wanted.wait()
                    with suppress(_Lost):
                        return await self._ask(name, fields)
        except TimeoutError as error:
            what = "answer" if wanted.is_set() or not self._is_connected.is_set() else "know what is wanted"
            raise HostUnavailable(
                f"cannot do network work: the network service did not {what} within {deadline:.0f} s",
                reason="NO_NETWORK_SERVICE",
                hint=_HINT,
            ) from error

    async def _ask(self, name: str, fields: wire.Fields) -> object:
        writer = self._writer
        if writer is None:
            raise _Lost
        self._number = number = self._number + 1
        self._waiting[number] = answer = asyncio.get_running_loop().create_future()
        try:
            writer.write(wire.write_request(number, name, fields))
            return await answer
        finally:
            del self._waiting[number]

    async def _keep(self) -> None:
        pause = GrowingPause(first=_RECONNECT_FIRST, most=_RECONNECT_MOST)
        while True:
            try:
                await self._stay_connected()
                pause.reset()
                _log.warning("the network service is gone; jobs go on, and it is sought again")
            except (OSError, ValueError, wire.Malformed) as error:  # ValueError: a line without an end
                _log.debug("network service: %s", error)
            await pause.wait()

    async def _stay_connected(self) -> None:
        """Connect, and take what the service says until it ends the connection."""
        reader, writer = await asyncio.open_unix_connection(self._path, limit=wire.LINE_MOST)
        try:
            hello = wire.read_reply(await reader.readline())
            if not isinstance(hello, wire.Hello):
                raise wire.Malformed("no hello")
            self._writer = writer
            self._is_connected.set()
            if hello.is_told:
                self._is_told.set()
            else:
                self._restarted()
            while line := await reader.readline():
                self._take(wire.read_reply(line))
        finally:
            self._writer = None
            self._is_connected.clear()
            self._is_told.clear()
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(_Lost())
            writer.close()

    def _take(self, reply: wire.Reply | wire.Hello) -> None:
        answer = self._waiting.get(reply.id) if isinstance(reply, wire.Reply) else None
        if answer is None or answer.done():  # its caller does not wait any more
            return
        assert isinstance(reply, wire.Reply)
        if reply.error is not None:
            answer.set_exception(reply.error)
        else:
            answer.set_result(reply.result)


def _understood(read: Callable[[object], T], result: object) -> T:
    try:
        return read(result)
    except wire.Malformed as error:
        raise HostUnavailable(
            f"cannot do network work: the network service is not understood: {error}",
            reason="NO_NETWORK_SERVICE",
            hint=_HINT,
        ) from error


def _nobody_listens() -> None:
    pass
