"""The connection to the system bus: one call at a time from its users' view, 64 on the wire.

Messages with explicit signatures, no proxies, no introspection. A bus that is gone is sought again
for ever; calls made meanwhile fail with HostUnavailable. Every error of the library ends here.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from dbus_next.constants import MessageType
from dbus_next.errors import AuthError
from dbus_next.message import Message

from joblet_agent.errors import HostUnavailable, JobletError, LaunchFailed, NotFound
from joblet_agent.pauses import GrowingPause
from joblet_agent.systemd.connection import Connection, SignalHandler
from joblet_agent.systemd.notify import wake_systemd

SYSTEMD = "org.freedesktop.systemd1"
_MANAGER_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_CALLS_IN_FLIGHT = 64  # the bus daemon refuses more than 128 without a reply
_CALL_DEADLINE = 30.0
WAKE_AFTER = 1.0
"""Seconds that calls wait for an answer before systemd is woken."""
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
    """

    def __init__(self, on_signal: SignalHandler, on_connected: Callable[[], None]) -> None:
        self._on_signal = on_signal
        self._on_connected = on_connected
        self.awaited: set[str] = set()
        """Object paths of units whose changes are wanted for a while."""
        self._bus: Connection | None = None
        self._slots = asyncio.Semaphore(_CALLS_IN_FLIGHT)
        self._waiting = 0
        self._waking: asyncio.TimerHandle | None = None
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
            self._bus = None

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
            self._bus = None
            _log.warning("the system bus is gone; jobs go on, starts wait until it is back")
            while self._bus is None:
                await pause.wait()
                try:
                    await self._connect()
                except JobletError as error:
                    _log.debug("%s", error)
            pause.reset()
            _log.warning("the system bus is back")
            self._on_connected()

    async def _call(
        self, destination: str, path: str, interface: str, member: str, signature: str, body: Sequence[Any]
    ) -> Sequence[Any]:
        async with self._slots:
            bus = self._bus
            if bus is None:
                raise _unavailable(member, "the system bus is gone")
            message = Message(
                destination=destination,
                path=path,
                interface=interface,
                member=member,
                signature=signature,
                body=list(body),
            )
            try:
                async with asyncio.timeout(_CALL_DEADLINE):
                    with self._woken():
                        reply = await bus.call(message)
            except TimeoutError as error:
                bus._method_return_handlers.pop(message.serial, None)  # it would leak
                raise _unavailable(member, f"no answer within {_CALL_DEADLINE:.0f} s") from error
            except asyncio.CancelledError:
                bus._method_return_handlers.pop(message.serial, None)
                raise
            except (OSError, EOFError) as error:
                raise _unavailable(member, str(error) or "the system bus is gone") from error
        if reply is None:
            raise _unavailable(member, "the system bus is gone")
        if reply.message_type is MessageType.ERROR:
            raise map_bus_error(member, reply.error_name or "", str(reply.body[0]) if reply.body else "")
        body_of_reply: Sequence[Any] = reply.body
        return body_of_reply

    @contextmanager
    def _woken(self) -> Iterator[None]:
        """Wake systemd, again and again, as long as calls have no answer.

        It was seen to sleep on calls that it had, and on all that came over the bus after them, until
        something else came: a process ended, or systemctl was run (systemd 252 and 257, Linux 6.18). While
        sd-bus has messages to hand on it does not wait for more of them (sd_bus_get_events(3)), but for a
        timer that is due at once.
        """
        self._waiting += 1
        if self._waking is None:
            self._waking = asyncio.get_running_loop().call_later(WAKE_AFTER, self._wake)
        try:
            yield
        finally:
            self._waiting -= 1
            if not self._waiting and self._waking is not None:
                self._waking.cancel()
                self._waking = None

    def _wake(self) -> None:
        _log.debug(
            "systemd has left %d calls without an answer for %g s; it is woken", self._waiting, WAKE_AFTER
        )
        wake_systemd()
        self._waking = asyncio.get_running_loop().call_later(WAKE_AFTER, self._wake)


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
