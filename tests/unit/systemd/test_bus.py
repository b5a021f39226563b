"""A system bus that is not well: whoever asks is told so, and the agent goes on."""

import asyncio
import io
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
from dbus_next._private.unmarshaller import Unmarshaller
from dbus_next.constants import MessageType
from dbus_next.message import Message

from joblet_agent.errors import HostUnavailable
from joblet_agent.systemd import bus as module
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.connection import Connection
from joblet_agent.systemd.signals import message_size

HELD = 20.0
"""Seconds after which the loop is taken to be held for ever; the agent's own deadline is 10."""

Script = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _nobody_holds_the_loop() -> Iterator[None]:
    """A loop that is held hears no deadline of its own."""

    def fail(_number: int, _frame: FrameType | None) -> None:
        pytest.fail("the loop was held")

    before = signal.signal(signal.SIGALRM, fail)
    signal.setitimer(signal.ITIMER_REAL, HELD)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], None]]:
    """Return what begins a bus that treats its one caller as told."""
    address = tmp_path / "bus"
    threads: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX)

    def begin(script: Script) -> None:
        listener.bind(str(address))
        listener.listen()
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={address}")

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.settimeout(HELD)
                script(caller)

        threads.append(threading.Thread(target=serve))
        threads[0].start()

    yield begin
    for thread in threads:
        thread.join()
    listener.close()


def hang_up(caller: socket.socket) -> None:
    caller.recv(1)


def talk_without_end(caller: socket.socket) -> None:
    try:
        while True:
            caller.sendall(b"A" * 4096)
    except OSError:
        return


def authenticate(caller: socket.socket, until: bytes = b"BEGIN\r\n") -> None:
    """Close before everything has been read, and the caller may lose what it was sent."""
    received = b""
    while not received.endswith(b"\r\n"):
        received += caller.recv(4096)
    caller.sendall(b"OK 1234deadbeef\r\n")
    while until not in received:
        received += caller.recv(4096)


@pytest.mark.parametrize("script", [hang_up, talk_without_end, authenticate])
def test_r8_a_bus_that_ends_while_it_is_greeted_is_told(
    bus: Callable[[Script], None], script: Script
) -> None:
    bus(script)

    async def main() -> None:
        with pytest.raises(HostUnavailable) as told:
            await SystemBus(lambda _signal: None, lambda: None).open()
        assert told.value.reason == "NO_SYSTEM_BUS"

    asyncio.run(main())


def greet(caller: socket.socket) -> None:
    authenticate(caller, until=b"Hello")
    hello = Message(
        message_type=MessageType.METHOD_RETURN, reply_serial=1, serial=1, signature="s", body=[":1.1"]
    )
    caller.sendall(hello._marshall())  # type: ignore[no-untyped-call]


def test_r8_a_call_on_a_connection_that_is_closed_fails_at_once(bus: Callable[[Script], None]) -> None:
    bus(greet)

    async def main() -> None:
        connection = await Connection(lambda _signal: None).connect()
        assert isinstance(await connection.end(), EOFError)
        with pytest.raises(EOFError):
            await connection.call(
                Message(destination="a.b", path="/a", interface="a.b", member="C", signature="", body=[])
            )

    asyncio.run(main())


def test_r8_a_systemd_that_sleeps_on_a_call_is_woken(
    bus: Callable[[Script], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "WAKE_AFTER", 0.05)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notified.bind(str(tmp_path / "notify"))
    notified.settimeout(HELD)

    def answer(caller: socket.socket, call: Message) -> None:
        reply = Message(message_type=MessageType.METHOD_RETURN, reply_serial=call.serial, serial=call.serial)
        caller.sendall(reply._marshall())  # type: ignore[no-untyped-call]

    def sleep_on(caller: socket.socket) -> None:
        greet(caller)
        received = b""
        while data := caller.recv(65536):
            received += data
            while (size := message_size(received)) is not None and size <= len(received):
                call = Unmarshaller(io.BytesIO(received[:size])).unmarshall()  # type: ignore[no-untyped-call]
                received = received[size:]
                if call.member == "StopUnit":
                    assert notified.recv(100) == b"WATCHDOG=1"
                answer(caller, call)

    bus(sleep_on)

    async def main() -> None:
        system = SystemBus(lambda _signal: None, lambda: None)
        await system.open()
        await asyncio.gather(system.manager("StopUnit"), system.manager("StopUnit"))
        await system.close()

    asyncio.run(main())
    notified.close()
