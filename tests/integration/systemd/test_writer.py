"""A thousand calls queued at once: the repair of dbus-next's writer, and why it is there (mapping 3.2.2)."""

import asyncio
import importlib.util
from types import ModuleType
from typing import Any

import pytest
from dbus_next.constants import BusType
from dbus_next.message import Message

from joblet_agent.systemd.connection import Connection
from tests.contract.unit_manager_cases import SOON

pytestmark = pytest.mark.systemd

CALLS = 1000
# Together more than the socket holds, so that it is full before the bus has read any of it.
LONG = "x" * 4000


def call() -> Message:
    """Answered by the bus itself."""
    return Message(
        destination="org.freedesktop.DBus",
        path="/org/freedesktop/DBus",
        interface="org.freedesktop.DBus",
        member="NameHasOwner",
        signature="s",
        body=[LONG],
    )


def test_a_thousand_calls_queued_at_once_are_all_answered() -> None:
    async def main() -> None:
        bus = Connection(lambda _signal: None)
        await bus.connect()
        try:
            async with asyncio.timeout(SOON):
                answers = await asyncio.gather(*(bus.call(call()) for _ in range(CALLS)))
        finally:
            bus.close()
        assert [answer.body for answer in answers if answer] == [[False]] * CALLS

    asyncio.run(main())


def unrepaired() -> ModuleType:
    """The library's module anew, as nobody has touched it."""
    spec = importlib.util.find_spec("dbus_next.aio.message_bus")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_without_the_repair_the_connection_is_lost() -> None:
    """When this fails, the library has been repaired, and systemd/writer.py can go."""

    async def main() -> None:
        bus: Any = unrepaired().MessageBus(bus_type=BusType.SYSTEM)
        await bus.connect()
        calls = [asyncio.ensure_future(bus.call(call())) for _ in range(CALLS)]
        lost = asyncio.ensure_future(bus.wait_for_disconnect())
        async with asyncio.timeout(SOON):
            await asyncio.wait(
                {lost, asyncio.gather(*calls, return_exceptions=True)}, return_when="FIRST_COMPLETED"
            )
        assert isinstance(lost.exception() if lost.done() else None, BlockingIOError)
        bus._writer.fut.exception()  # asked for, or the collector complains that nobody did
        for waiting in calls:
            waiting.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        bus._stream.close()
        bus._sock.close()

    asyncio.run(main())
