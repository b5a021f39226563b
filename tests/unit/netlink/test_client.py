"""The agent's side of the network service's socket, against a service that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

import pytest

from joblet_agent.errors import HostUnavailable, LimitReached
from joblet_agent.model.job import JobId
from joblet_agent.model.network import Attachment, Network
from joblet_agent.netlink import client as client_module
from joblet_agent.netlink import wire
from joblet_agent.netlink.client import NetlinkBackend

JOB = JobId("01234567-89ab-cdef-0123-456789abcdef")
NETWORK = Network("lab", "joblet-lab", IPv4Network("10.10.0.0/24"), IPv6Network("fd00:1::/64"))
ATTACHMENT = Attachment(JOB, "lab", IPv4Address("10.10.0.2"), IPv6Address("fd00:1::2"))


@dataclass
class Service:
    """Answers each call with what the test says; None ends the connection instead."""

    answer: Callable[[wire.Request], bytes | None]
    is_told: bool = True
    calls: list[str] = field(default_factory=list)
    greeting: bytes | None = None
    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    came_again: asyncio.Event = field(default_factory=asyncio.Event)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.writers:
            self.came_again.set()
        self.writers.append(writer)
        writer.write(self.greeting or wire.write_hello(wire.Hello(self.is_told)))
        while line := await reader.readline():
            request = wire.read_request(line)
            self.calls.append(request.call)
            if request.call == "apply":
                self.is_told = True
            if (answer := self.answer(request)) is None:
                break
            writer.write(answer)
        writer.close()

    def hang_up(self) -> None:
        for writer in self.writers:
            writer.close()


@asynccontextmanager
async def connected(path: Path, service: Service) -> AsyncIterator[NetlinkBackend]:
    server = await asyncio.start_unix_server(service.converse, path)
    backend = NetlinkBackend(path)
    await backend.open()
    try:
        yield backend
    finally:
        await backend.close()
        server.close()
        service.hang_up()
        await server.wait_closed()


def done(request: wire.Request) -> bytes:
    return wire.write_result(request.id, {} if request.call == "apply" else None)


def test_a_call_is_made_and_answered(tmp_path: Path) -> None:
    def answer(request: wire.Request) -> bytes:
        assert wire.attachment_from_fields(request.fields["attachment"]) == ATTACHMENT
        return wire.write_result(request.id, "/run/netns/x")

    async def run() -> None:
        async with connected(tmp_path / "s", Service(answer)) as backend:
            assert await backend.attach(ATTACHMENT) == Path("/run/netns/x")

    asyncio.run(run())


def test_an_error_of_the_service_is_raised_as_it_was(tmp_path: Path) -> None:
    def answer(request: wire.Request) -> bytes:
        return wire.write_error(request.id, LimitReached("cannot publish", reason="PORT_TAKEN"))

    async def run() -> None:
        async with connected(tmp_path / "s", Service(answer)) as backend:
            with pytest.raises(LimitReached) as told:
                await backend.attach(ATTACHMENT)
            assert told.value.reason == "PORT_TAKEN"

    asyncio.run(run())


def test_a_service_that_forgot_is_told_before_anything_else(tmp_path: Path) -> None:
    service = Service(done, is_told=False)

    async def run() -> None:
        async with connected(tmp_path / "s", service) as backend:
            restarted = asyncio.Event()
            backend.listen(restarted.set)
            creating = asyncio.create_task(backend.create(NETWORK))
            await asyncio.wait_for(restarted.wait(), 10)
            assert await backend.apply([NETWORK], []) == {}
            await asyncio.wait_for(creating, 10)
        assert service.calls == ["apply", "create"]

    asyncio.run(run())


def test_a_call_whose_answer_was_lost_is_made_again(tmp_path: Path) -> None:
    def answer(request: wire.Request) -> bytes | None:
        return None if service.calls == ["detach"] else done(request)

    service = Service(answer)

    async def run() -> None:
        async with connected(tmp_path / "s", service) as backend:
            await asyncio.wait_for(backend.detach(JOB), 10)
        assert service.calls == ["detach", "detach"]

    asyncio.run(run())


def test_each_new_service_is_told_of(tmp_path: Path) -> None:
    service = Service(done, is_told=False)

    async def run() -> None:
        async with connected(tmp_path / "s", service) as backend:
            times: asyncio.Queue[None] = asyncio.Queue()
            backend.listen(lambda: times.put_nowait(None))
            await asyncio.wait_for(times.get(), 10)
            service.hang_up()
            await asyncio.wait_for(times.get(), 10)

    asyncio.run(run())


def test_a_service_that_is_not_there_is_told_after_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CALL_DEADLINE", 0.2)

    async def run() -> None:
        backend = NetlinkBackend(tmp_path / "nobody")
        await backend.open()
        try:
            with pytest.raises(HostUnavailable) as told:
                await backend.occupied()
            assert told.value.reason == "NO_NETWORK_SERVICE"
        finally:
            await backend.close()

    asyncio.run(run())


@pytest.mark.parametrize("result", [None, 5, ["nonsense"], {"x": 1}])
def test_an_answer_that_is_not_understood_is_an_error(tmp_path: Path, result: object) -> None:
    service = Service(lambda request: wire.write_result(request.id, result))

    async def run() -> None:
        async with connected(tmp_path / "s", service) as backend:
            with pytest.raises(HostUnavailable, match="not understood"):
                await backend.occupied()

    asyncio.run(run())


def test_a_service_that_speaks_otherwise_is_sought_again(tmp_path: Path) -> None:
    service = Service(lambda request: wire.write_result(request.id, []), greeting=b"220 welcome\n")

    async def run() -> None:
        async with connected(tmp_path / "s", service) as backend:
            asking = asyncio.create_task(backend.occupied())
            await asyncio.wait_for(service.came_again.wait(), 10)
            service.greeting = None
            assert await asyncio.wait_for(asking, 10) == []

    asyncio.run(run())
