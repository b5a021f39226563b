"""The connection to the system bus: one call at a time from its users' view, some on the wire.

Messages with explicit signatures, no proxies, no introspection. A bus that is gone is sought again
for ever; calls made meanwhile fail with HostUnavailable. Every error of the library ends here.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dbus_next.constants import MessageType
from dbus_next.errors import AuthError
from dbus_next.message import Message

from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed, NotFound
from joblet_agent.pauses import GrowingPause
from joblet_agent.systemd.connection import Connection, SignalHandler

SYSTEMD = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_CALLS_IN_FLIGHT = 64  # the bus daemon refuses more than 128 without a reply
_CALL_DEADLINE = 30.0
PATIENCE = 10.0
"""Seconds for an answer, after which the connection is given up and the call repeated on a new one."""
# A signal must not come twice; the others are what makes a connection.
_NOT_REPEATED = {"KillUnit", "AddMatch", "Subscribe"}
_CONNECT_DEADLINE = 10.0
_RECONNECT_FIRST, _RECONNECT_MOST = 0.05, 1.0

# Never one rule per unit: the bus daemon allows 512 to a connection.
_MATCH_RULES = (
    f"type='signal',sender='{SYSTEMD}',interface='{_PROPERTIES}',member='PropertiesChanged',"
    "path_namespace='/org/freedesktop/systemd1/unit'",
    # By member: UnitNew, JobNew and the like come twenty times for every job.
    f"type='signal',sender='{SYSTEMD}',interface='{_MANAGER}',path='{_MANAGER_PATH}',member='UnitRemoved'",
    f"type='signal',sender='{SYSTEMD}',interface='{_MANAGER}',path='{_MANAGER_PATH}',member='Reloading'",
    f"type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{SYSTEMD}'",
)

_log = logging.getLogger(__name__)


class SystemBus:
    """A connection to the system bus that comes back by itself.

    ``on_connected`` runs after each (re)connect, when the match rules and systemd's ``Subscribe``
    are in place: what was missed before then has to be asked for.

    systemd was seen to leave a call, of a burst or alone, without an answer and to do nothing at all until
    its caller hung up (systemd 252 and 257 with dbus 1.14 and 1.16, Linux 6.18; why is not known). So a
    connection without an answer for ``PATIENCE`` is given up, and its calls are repeated on the next one.
    """

    def __init__(self, on_signal: SignalHandler, on_connected: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._on_connected = on_connected
        self.awaited: set[str] = set()
        """Object paths of units whose changes are wanted for a while."""
        self._bus: Connection | None = None
        self._is_connected = asyncio.Event()
        self._asks_anew = False
        """It has given up a connection and makes another: calls wait for that."""
        self._slots = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect once, raising HostUnavailable if that fails, and stay connected from then on."""
        await self._connect()
        self._keeper = asyncio.create_task(self._keep(), name="system-bus")

    async def close(self) -> None:
        """Disconnect; calls under way fail."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._drop()

    def _drop(self) -> None:
        if self._bus is not None:
            self._bus.close()
        self._forget()

    def _forget(self) -> None:
        self._bus = None
        self._is_connected.clear()

    async def manager(self, member: str, signature: str = "", body: Sequence[Any] = ()) -> Sequence[Any]:
        """Call a method of systemd's Manager (org.freedesktop.systemd1(5))."""
        return await self._call(SYSTEMD, _MANAGER_PATH, _MANAGER, member, signature, body)

    async def property(self, path: str, interface: str, name: str) -> Any:
        """Read one property of a unit. A unit that is gone answers with defaults, not with an error."""
        body = await self._call(
            SYSTEMD, path, _PROPERTIES, "Get", "ss", [f"org.freedesktop.systemd1.{interface}", name]
        )
        return body[0].value

    async def properties(self, path: str, interface: str) -> dict[str, Any]:
        """Read all properties of one interface of a unit, as plain values."""
        body = await self._call(
            SYSTEMD, path, _PROPERTIES, "GetAll", "s", [f"org.freedesktop.systemd1.{interface}"]
        )
        return {name: variant.value for name, variant in body[0].items()}

    async def manager_property(self, name: str) -> Any:
        """Read one property of systemd's Manager."""
        body = await self._call(SYSTEMD, _MANAGER_PATH, _PROPERTIES, "Get", "ss", [_MANAGER, name])
        return body[0].value

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(_CONNECT_DEADLINE):
                self._bus = await Connection(self._on_signal, self.awaited).connect()
                self._is_connected.set()
                await self._listen()
        except (OSError, EOFError, AuthError, TimeoutError) as error:
            self._drop()
            raise HostUnavailable(
                f"cannot reach the system bus: {error or 'no answer'}",
                reason="NO_SYSTEM_BUS",
                hint="is dbus running? see: systemctl status dbus.socket dbus.service",
            ) from error
        except JobletError:
            self._drop()
            raise

    async def _listen(self) -> None:
        for rule in _MATCH_RULES:
            await self._call(
                "org.freedesktop.DBus",
                "/org/freedesktop/DBus",
                "org.freedesktop.DBus",
                "AddMatch",
                "s",
                [rule],
            )
        await self.subscribe()

    async def subscribe(self) -> None:
        """Ask systemd for the signals of units; after each start of systemd or of the bus."""
        try:
            await self.manager("Subscribe")
        except _AlreadySubscribed:
            _log.debug("systemd came to the bus after us, and has the subscription already")

    async def _keep(self) -> None:
        pause = GrowingPause(first=_RECONNECT_FIRST, most=_RECONNECT_MOST)
        while True:
            if self._bus is not None:
                _log.debug("system bus: %s", await self._bus.end())
            self._forget()
            _log.warning("the system bus is gone; jobs go on, starts wait until it is back")
            while self._bus is None:
                await pause.wait()
                try:
                    await self._connect()
                except JobletError as error:
                    self._asks_anew = False
                    _log.debug("%s", error)
            self._asks_anew = False
            pause.reset()
            _log.warning("the system bus is back")
            self._on_connected()

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> Sequence[Any]:
        def message() -> Message:
            return Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )

        async with self._slots:
            if self._bus is None and not self._asks_anew:
                raise _unavailable(member, "the system bus is gone")
            try:
                async with asyncio.timeout(_CALL_DEADLINE):
                    reply, is_repeated = await self._reply(message)
            except TimeoutError as error:
                raise _unavailable(member, f"no answer within {_CALL_DEADLINE:.0f} s") from error
            except (OSError, EOFError) as error:
                raise _unavailable(member, str(error) or "the system bus is gone") from error
        if reply is None:
            raise _unavailable(member, "the system bus is gone")
        if reply.message_type is not MessageType.ERROR:
            answer: Sequence[Any] = reply.body
            return answer
        refusal = map_bus_error(member, reply.error_name or "", str(reply.body[0]) if reply.body else "")
        if is_repeated and isinstance(refusal, UnitIsThere):
            return ()  # it was carried out the first time
        raise refusal

    async def _reply(self, message: Callable[[], Message]) -> tuple[Message | None, bool]:
        """Call, if need be again on a new connection; return the reply, and whether it was called again."""
        is_repeated = False
        while True:
            await self._is_connected.wait()
            bus, call = self._bus, message()
            if bus is None:
                continue
            if call.member in _NOT_REPEATED:
                return await bus.call(call), is_repeated
            try:
                async with asyncio.timeout(PATIENCE):
                    reply = await bus.call(call)
            except TimeoutError:
                if bus is self._bus:
                    _log.warning("systemd has not answered %s for %g s; asking anew", call.member, PATIENCE)
                    bus.is_given_up = self._asks_anew = True
                    self._drop()
            else:
                if reply is not None or not bus.is_given_up:
                    return reply, is_repeated
            is_repeated = True


class _AlreadySubscribed(LaunchFailed):
    """systemd sends its signals to us already."""


class UnitIsThere(LaunchFailed):
    """systemd knows a unit of the name already."""


class ArgumentsRefused(LaunchFailed):
    """systemd understood the call, and not what it says; ``words`` are its own."""

    def __init__(self, member: str, words: str) -> None:
        super().__init__(f"systemd refused {member}: {words}", reason="SYSTEMD_REFUSED")
        self.words = words


def _unavailable(member: str, why: str) -> HostUnavailable:
    return HostUnavailable(f"cannot ask systemd to {member}: {why}", reason="SYSTEMD_UNAVAILABLE")


_REFUSED: Mapping[str, type[LaunchFailed]] = {
    "AlreadySubscribed": _AlreadySubscribed,
    "UnitExists": UnitIsThere,
}


def map_bus_error(member: str, name: str, text: str) -> JobletError:
    """Turn a D-Bus error reply into ours, keeping systemd's words."""
    short = name.rpartition(".")[2]
    if short in {"NoSuchUnit", "UnknownObject", "UnknownMethod"}:
        return NotFound(f"systemd does not know the unit: {text}", reason="UNIT_NOT_FOUND")
    if short in {"NoReply", "ServiceUnknown", "NameHasNoOwner", "Disconnected", "TimedOut", "LimitsExceeded"}:
        return _unavailable(member, text or short)
    if short == "InvalidArgs" or name.startswith("System.Error.ERANGE"):
        return ArgumentsRefused(member, text)
    refused = _REFUSED.get(short, LaunchFailed)
    return refused(f"systemd refused {member}: {text} ({short})", reason="SYSTEMD_REFUSED")
