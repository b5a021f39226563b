import asyncio
import contextlib
import grp
import logging
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from socket import AF_UNIX
from socket import socket as new_socket
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from joblet_agent.config import AgentConfig, RpcConfig, SocketConfig
from joblet_agent.errors import HostUnavailable
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.model.identity import Identity, Role
from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.rpc.handlers import Context
from joblet_agent.rpc.server import AgentServer, _listen, build_server
from joblet_agent.rpc.services import Services
from tests.fakes.audit_log import FakeAuditLog
from tests.unit.rpc.fake_runtimes import FakeRuntimes
from tests.unit.rpc.fake_workflows import FakeWorkflows
from tests.unit.rpc.serving import (
    Caller,
    FakeExecs,
    FakeFiles,
    FakeJobs,
    FakeLive,
    FakeNetworks,
    FakeNode,
    FakeSchedules,
    FakeVolumes,
    FakeVolumeSnapshots,
    FakeWatches,
    reason_of,
    serving,
)

RUN, LOGS, LIST = "JobService/RunJob", "JobService/GetJobLogs", "JobService/ListJobs"
GROUP = grp.getgrgid(os.getgid()).gr_name
BLOCK = bytes(256 * 1024)


@asynccontextmanager
async def started(path: Path, group: str = GROUP) -> AsyncIterator[AgentServer]:
    config = AgentConfig(socket=SocketConfig(path=path, group=group))
    jobs, volumes = FakeJobs(), FakeVolumes()
    services = Services(
        jobs,
        FakeWatches(),
        FakeNode(),
        FakeFiles(),
        FakeLive(jobs),
        FakeSchedules(),
        FakeExecs(jobs),
        FakeNetworks(),
        volumes,
        volumes,
        FakeVolumeSnapshots(volumes),
        FakeWorkflows(),
        FakeRuntimes().services(),
    )
    server = build_server(services, config, FakeAuditLog())
    await server.start()
    try:
        yield server
    finally:
        await server.stop(0)


@pytest.fixture(name="socket")
def _socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rpc-") as directory:
        yield Path(directory) / "agent.sock"


def unix_socket() -> new_socket:
    return new_socket(AF_UNIX)


def mode_and_group(path: Path) -> tuple[int, str]:
    status = path.stat()
    assert stat.S_ISSOCK(status.st_mode)
    return stat.S_IMODE(status.st_mode), grp.getgrgid(status.st_gid).gr_name


def test_the_socket_is_for_root_and_the_group(socket: Path) -> None:
    async def run() -> tuple[int, str]:
        async with started(socket):
            return mode_and_group(socket)

    before = os.umask(0o022)
    try:
        assert asyncio.run(run()) == (0o660, GROUP)
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)


def test_r3_what_others_make_while_the_socket_is_bound_has_its_own_mode(socket: Path) -> None:
    """A umask counts for all threads: with another one here, jobs of recovery could not enter their /work."""

    class Server:
        def add_insecure_port(self, _address: str) -> None:
            (socket.parent / "work").mkdir(mode=0o755)
            socket.touch()

    before = os.umask(0o022)
    try:
        _listen(cast(grpc.aio.Server, Server()), socket)
    finally:
        os.umask(before)
    assert stat.S_IMODE((socket.parent / "work").stat().st_mode) == 0o755
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600


def test_without_the_group_the_socket_is_for_root_alone(
    socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> int:
        async with started(socket, group="nobody-has-this-group"):
            return mode_and_group(socket)[0]

    assert asyncio.run(run()) == 0o600
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"there is no group nobody-has-this-group: only root can use {socket}"
    ]


def test_a_socket_left_by_a_killed_agent_is_replaced(socket: Path) -> None:
    with unix_socket() as left:
        left.bind(str(socket))

    async def run() -> tuple[int, str]:
        async with started(socket):
            with unix_socket() as client:
                client.connect(str(socket))
            return mode_and_group(socket)

    assert asyncio.run(run()) == (0o660, GROUP)


@pytest.mark.parametrize("name", ["missing/agent.sock", "x" * 120])
def test_a_socket_that_cannot_be_made_is_a_clear_error(socket: Path, name: str) -> None:
    async def run() -> None:
        async with started(socket.parent / name):
            pass

    with pytest.raises(HostUnavailable, match=r"^cannot listen on ") as caught:
        asyncio.run(run())
    assert caught.value.reason == "CANNOT_LISTEN"


@pytest.mark.parametrize("name", ["%41.sock", "a b.sock", "ä.sock", "a[1]#?.sock"])
def test_the_socket_has_exactly_the_configured_path(socket: Path, name: str) -> None:
    async def run() -> list[str]:
        async with started(socket.parent / name):
            return os.listdir(socket.parent)

    assert asyncio.run(run()) == [name]


# Two-byte field 2 (command): 0xFF 0xFE is never UTF-8. Then a field that ends beyond the message.
@pytest.mark.parametrize(
    "raw", [b"\x12\x02\xff\xfe", b"\x12\x7fabc", b"\xff" * 20, b"\x72\x05\x0a\x03\xc0\x80A"]
)
def test_c8_bytes_that_are_no_request_are_refused_and_the_agent_lives(
    raw: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> grpc.aio.AioRpcError:
        jobs = FakeJobs()
        async with serving(jobs) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(RUN, raw)
            assert jobs.calls == []
            await caller.unary(LIST)
            return caught.value

    error = asyncio.run(run())
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")
    assert "UTF-8" in (error.details() or "")
    assert alarms(caplog) == []


def test_an_oversized_message_is_refused_and_the_agent_lives() -> None:
    async def run() -> grpc.aio.AioRpcError:
        jobs = FakeJobs()
        async with serving(jobs, rpc=RpcConfig(max_message=65536)) as caller:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(RUN, pb.RunJobRequest(command="x" * 65536))
            assert jobs.calls == []
            await caller.unary(LIST)
            return caught.value

    assert asyncio.run(run()).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_call_too_many_is_refused_and_the_agent_lives() -> None:
    async def run() -> grpc.aio.AioRpcError:
        async with serving(FakeJobs(chunks=silence), rpc=RpcConfig(max_concurrent=1)) as caller:
            follower = caller.stream(LOGS)
            await follower.initial_metadata()
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(LIST)
            follower.cancel()
            return caught.value

    error = asyncio.run(asyncio.wait_for(run(), 30))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_CALLS")
    assert "1 calls are being served already (rpc.max_concurrent)" in (error.details() or "")


TAKEN = {"one": 45, "two": 45, "three": 1}


def named(context: Context) -> Identity:
    """Believe whatever name a caller gives."""
    return Identity(str(dict(context.invocation_metadata() or ())["name"]), Role.OPERATOR)


async def followers(caller: Caller, name: str, count: int) -> list[Any]:
    calls = [caller.stream(LOGS, metadata=(("name", name),)) for _ in range(count)]
    for call in calls:
        await call.initial_metadata()
    return calls


async def refusal(caller: Caller, name: str) -> str | None:
    """Return why a call of that name is refused; None if it is not."""
    try:
        await caller.unary(LIST, metadata=(("name", name),))
    except grpc.aio.AioRpcError as error:
        return reason_of(error)
    return None


async def accepted(caller: Caller, name: str) -> None:
    """Call until a call is not refused: the server hears of a cancelled one a moment later."""
    for _ in range(1000):
        if await refusal(caller, name) is None:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} is refused for ever")


def test_c4_one_client_cannot_take_the_calls_of_the_others() -> None:
    async def run() -> list[str | None]:
        limits = RpcConfig(max_concurrent=100, max_per_client=10)
        async with serving(FakeJobs(chunks=silence), rpc=limits, authenticate=named) as caller:
            calls = await followers(caller, "greedy", 10)
            found = [await refusal(caller, "greedy"), await refusal(caller, "other")]
            calls[0].cancel()
            await accepted(caller, "greedy")
            return found

    assert asyncio.run(asyncio.wait_for(run(), 30)) == ["TOO_MANY_OF_CLIENT", None]


def test_c4_many_who_take_much_leave_room_for_who_takes_little() -> None:
    async def run() -> list[str | None]:
        limits = RpcConfig(max_concurrent=100, max_per_client=45)
        async with serving(FakeJobs(chunks=silence), rpc=limits, authenticate=named) as caller:
            # grpc cancels a call that nobody refers to any more.
            calls = [await followers(caller, name, count) for name, count in TAKEN.items()]
            found = [await refusal(caller, name) for name in ("three", "four")]
            assert sum(map(len, calls)) == sum(TAKEN.values())
            return found

    assert asyncio.run(asyncio.wait_for(run(), 30)) == ["TOO_MANY_CALLS", None]


async def silence() -> AsyncIterator[LogChunk]:
    await asyncio.Event().wait()
    yield LogChunk(0, b"")


async def drained(call: Any) -> None:
    """Read to the end of the stream, or to its error."""
    while await call.read():
        pass


class Reader:
    """Output, endless or one block and then silence; knows how much was taken, and when it was abandoned."""

    def __init__(self, *, endless: bool = True) -> None:
        self.taken = 0
        self._endless = endless
        self.closed = asyncio.Event()

    async def chunks(self) -> AsyncIterator[LogChunk]:
        try:
            while True:
                yield LogChunk(self.taken * len(BLOCK), BLOCK)
                self.taken += 1
                if not self._endless:
                    await asyncio.Event().wait()
        finally:
            self.closed.set()


@asynccontextmanager
async def relayed(
    target: str, path: Path, answered: bytearray | None = None
) -> AsyncIterator[Callable[[], None]]:
    """Pass connections to ``path`` on to the target; yield what cuts them, as the death of a client does.

    ``answered`` gets what the target sends.
    """
    writers: list[asyncio.StreamWriter] = []

    async def pump(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, copy: bytearray | None = None
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                if copy is not None:
                    copy += data
                writer.write(data)
                await writer.drain()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        agent_reader, agent_writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))
        writers.extend([writer, agent_writer])
        await asyncio.gather(pump(reader, agent_writer), pump(agent_reader, writer, answered))

    def cut() -> None:
        for writer in writers:
            writer.transport.abort()

    server = await asyncio.start_unix_server(relay, path)
    async with server:
        try:
            yield cut
        finally:
            cut()


@pytest.mark.parametrize("is_writing", [True, False])
def test_a_client_that_disappears_in_the_middle_leaves_nothing(
    is_writing: bool, socket: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        reader = Reader(endless=is_writing)
        async with serving(FakeJobs(chunks=reader.chunks)) as caller:
            await caller.unary(LIST)
            before = len(asyncio.all_tasks())
            async with (
                relayed(caller.target, socket) as cut,
                grpc.aio.insecure_channel(f"unix:{socket}") as other,
            ):
                call = caller.over(other).stream(LOGS)
                await call.read()
                cut()
                await reader.closed.wait()
                with pytest.raises(grpc.aio.AioRpcError):
                    await drained(call)
            while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - nobody tells of the end of a task of grpc's
                await asyncio.sleep(0)
            await caller.unary(LIST)

    asyncio.run(asyncio.wait_for(run(), 30))
    assert alarms(caplog) == []


def test_a_reader_that_does_not_read_costs_little_and_blocks_nobody() -> None:
    async def run() -> int:
        slow, fast = Reader(), Reader()
        readers = iter([slow.chunks(), fast.chunks()])
        jobs = FakeJobs(chunks=readers.__next__)
        async with serving(jobs) as caller:
            sleeping = caller.stream(LOGS)
            await sleeping.read()
            reading = caller.stream(LOGS)
            for _ in range(100):
                await reading.read()
            await caller.unary(LIST)
            sleeping.cancel()
            reading.cancel()
            await slow.closed.wait()
            return slow.taken

    assert asyncio.run(asyncio.wait_for(run(), 60)) < 64


@pytest.mark.parametrize("is_writing", [True, False])
def test_stopping_the_server_ends_followers(is_writing: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> grpc.aio.AioRpcError:
        reader = Reader(endless=is_writing)
        async with serving(FakeJobs(chunks=reader.chunks)) as caller:
            follower = caller.stream(LOGS)
            await follower.read()
            stopping = asyncio.create_task(caller.stop())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await drained(follower)
            await stopping
            await reader.closed.wait()
            return caught.value

    error = asyncio.run(asyncio.wait_for(run(), 30))
    assert (error.code(), reason_of(error)) == (grpc.StatusCode.UNAVAILABLE, "AGENT_STOPPING")
    assert alarms(caplog) == []


HEADERS, GOAWAY = 1, 7
END_STREAM = 1


def frames(sent: bytearray) -> Iterator[tuple[int, int]]:
    """Yield type and flags of frames of HTTP/2 (RFC 9113, 4.1)."""
    place = 0
    while place < len(sent):
        yield sent[place + 3], sent[place + 4]
        place += 9 + int.from_bytes(sent[place : place + 3])


def test_followers_have_their_end_before_the_connection_is_told_of_its_own(socket: Path) -> None:
    """Or it is closed at once behind their end, which is lost to a client that writes at that moment."""
    answered = bytearray()

    async def run() -> None:
        async with (
            serving(FakeJobs(chunks=Reader().chunks)) as caller,
            relayed(caller.target, socket, answered),
            grpc.aio.insecure_channel(f"unix:{socket}") as other,
        ):
            follower = caller.over(other).stream(LOGS)
            await follower.read()
            stopping = asyncio.create_task(caller.stop())
            with pytest.raises(grpc.aio.AioRpcError):
                await drained(follower)
            await stopping

    asyncio.run(asyncio.wait_for(run(), 30))
    sent = list(frames(answered))
    end = next(place for place, (kind, flags) in enumerate(sent) if kind == HEADERS and flags & END_STREAM)
    assert GOAWAY not in [kind for kind, _ in sent[:end]]


def test_while_streams_end_no_other_begins_and_calls_are_served() -> None:
    async def run() -> str | None:
        may_end = asyncio.Event()

        async def slow_to_end() -> AsyncIterator[LogChunk]:
            try:
                yield LogChunk(0, BLOCK)
                await asyncio.Event().wait()
            finally:
                await may_end.wait()

        async with serving(FakeJobs(chunks=slow_to_end)) as caller:
            follower = caller.stream(LOGS)
            await follower.read()
            stopping = asyncio.create_task(caller.stop())
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.unary(LOGS)
            await caller.unary(LIST)
            may_end.set()
            with pytest.raises(grpc.aio.AioRpcError):
                await drained(follower)
            await stopping
            return reason_of(caught.value)

    assert asyncio.run(asyncio.wait_for(run(), 30)) == "AGENT_STOPPING"


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as an error, by whomever."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
