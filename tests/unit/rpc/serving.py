"""A server in this process on a socket of its own, with fake jobs behind it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from joblet_agent.config import AgentConfig, JobsConfig, RpcConfig, SocketConfig
from joblet_agent.errors import JobletError
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.jobs.signals import signal_number
from joblet_agent.model.event import Sighting, WatchQuery
from joblet_agent.model.execution import ExecOutput, ExecSpec, TerminalSize
from joblet_agent.model.files import NO_UPLOADS, FilePiece, StagedUpload, UploadPart, Uploads, WorkFile
from joblet_agent.model.identity import Identity
from joblet_agent.model.job import (
    ExplainedProperty,
    Explanation,
    JobFilter,
    JobId,
    JobPage,
    JobRecord,
    JobSpec,
    JobState,
    LogQuery,
    Outcome,
    Reason,
    Token,
)
from joblet_agent.model.metrics import MetricsQuery, Reading
from joblet_agent.model.network import Network, NetworkSpec, NetworkView
from joblet_agent.model.node import Node
from joblet_agent.model.resources import Resources
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.model.volume import Backing, Volume, VolumeSnapshot, VolumeState, VolumeType
from joblet_agent.rpc.auth import Authenticator, local_caller
from joblet_agent.rpc.methods import defined_methods
from joblet_agent.rpc.server import AgentServer, build_server
from joblet_agent.rpc.services import Services
from joblet_agent.volumes.views import VolumeView
from tests.fakes.audit_log import FakeAuditLog
from tests.unit.rpc.fake_runtimes import FakeRuntimes
from tests.unit.rpc.fake_workflows import FakeWorkflows

ID = JobId("7f3a0000-0000-4000-8000-000000000001")
NOW = datetime(2026, 1, 31, 12, 0, 0, 987654, tzinfo=UTC)
RECORD = JobRecord(id=ID, spec=JobSpec(command="true"), state=JobState.RUNNING, created_at=NOW)

T = TypeVar("T")

METHODS = {method.path: method for method in defined_methods()}


@dataclass
class FakeJobs:
    """Answers every call with ``record``, or raises ``error``; keeps what it was called with."""

    record: JobRecord = RECORD
    error: BaseException | None = None
    listed: list[JobRecord] = field(default_factory=list)
    chunks: Callable[[], AsyncIterator[LogChunk]] | None = None
    readings_of: list[Reading] = field(default_factory=list)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def _called(self, *call: Any) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    async def run(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> JobRecord:
        more = [each for each in (uploads, secrets, token) if each not in (NO_UPLOADS, NO_SECRETS, None)]
        self._called("run", spec, caller, *more)
        return replace(self.record, spec=spec)

    async def get(self, given: str) -> JobRecord:
        self._called("get", given)
        return self.record

    async def update(self, given: str, changes: Mapping[str, Any], caller: Identity) -> JobRecord:
        self._called("update", given, dict(changes), caller)
        return self.record

    async def stop(self, given: str, *, force: bool) -> JobRecord:
        self._called("stop", given, force)
        return self.record

    async def cancel(self, given: str) -> JobRecord:
        self._called("cancel", given)
        return self.record

    async def delete(self, given: str) -> JobId:
        self._called("delete", given)
        return self.record.id

    async def delete_ended(self, started_by: str = "") -> tuple[int, int]:
        self._called("delete_ended", *filter(None, [started_by]))
        return 3, 1

    async def page(self, wanted: JobFilter, *, size: int, token: str) -> JobPage:
        self._called("page", wanted, size, token)
        start = int(token or "0")
        end = start + size
        return JobPage(tuple(self.listed[start:end]), str(end) if end < len(self.listed) else "")

    async def logs(self, given: str, query: LogQuery) -> AsyncIterator[LogChunk]:
        self._called("logs", given, query)
        assert self.chunks is not None
        return self.chunks()

    async def metrics(self, given: str, query: MetricsQuery) -> tuple[JobRecord, AsyncIterator[Reading]]:
        self._called("metrics", given, query)

        async def readings() -> AsyncIterator[Reading]:
            for reading in self.readings_of:
                yield reading

        return self.record, readings()

    async def readings(self, given: Sequence[str]) -> list[tuple[JobRecord, Reading | None]]:
        self._called("readings", list(given))
        return [(self.record, reading) for reading in self.readings_of] or [(self.record, None)]

    async def use(self, record: JobRecord) -> Reading | None:
        return self.readings_of[-1] if self.readings_of else None

    @property
    def metrics_interval(self) -> timedelta:
        return timedelta(seconds=5)

    async def explain(self, given: str) -> Explanation:
        self._called("explain", given)
        known = ExplainedProperty("Slice", "joblet-jobs.slice", "always", "systemd.resource-control(5)")
        return Explanation(self.unit_name(JobId(given)), (known,), "systemd-run true", ("a note",))

    def trouble(self, job_id: JobId) -> str:
        return ""

    def queue_position(self, job_id: JobId) -> int:
        return 4

    def log_size(self, job_id: JobId) -> int:
        return 2**40

    def has_files(self, record: JobRecord) -> bool:
        return True

    def work_bytes(self, job_id: JobId) -> int:
        return 4096

    def unit_name(self, job_id: JobId) -> str:
        return f"joblet-job-{job_id}.service"


@dataclass
class FakeWatches:
    """Answers every watch with ``sightings``; keeps the queries."""

    sightings: Callable[[], AsyncIterator[Sighting]] | None = None
    queries: list[WatchQuery] = field(default_factory=list)

    async def watch(self, query: WatchQuery) -> AsyncIterator[Sighting]:
        self.queries.append(query)
        assert self.sightings is not None
        return self.sightings()


NODE = Node(
    host_name="host",
    online_cpus="0-3",
    memory=2**33,
    running_jobs=2,
    waiting_jobs=1,
    max_concurrent=1000,
    max_waiting=100_000,
    slice="joblet-jobs.slice",
    ceilings={"MemoryMax": "8GiB"},
    defaults=Resources(max_tasks=4096),
    maxima={"admin": Resources(), "operator": Resources(max_memory=2**30, timeout=timedelta(hours=1))},
    unenforced=("--io-weight",),
)


class FakeNode:
    """Answers with NODE."""

    async def describe(self) -> Node:
        return NODE


@dataclass
class FakeFiles:
    """Keeps what it was called with; sends what it was given."""

    parts: list[UploadPart] = field(default_factory=list)
    error: BaseException | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    pieces: list[FilePiece] = field(default_factory=list)
    closed: int = 0

    async def upload(self, parts: AsyncIterator[UploadPart], caller: Identity) -> StagedUpload:
        async for part in parts:
            self.parts.append(part)
            if self.error is not None:
                raise self.error
        return StagedUpload("0123", 1, 2, ("a",), NOW)

    async def files(self, given: str, path: str) -> "FakePieces[list[WorkFile]]":
        self.calls.append((given, path))
        return FakePieces(self, [[each.file for each in self.pieces if each.file is not None]])

    async def download(self, given: str, path: str) -> "FakePieces[FilePiece]":
        self.calls.append((given, path))
        return FakePieces(self, self.pieces)


class FakePieces(Generic[T]):
    """Yields what it was made with; tells the files when it is closed."""

    def __init__(self, files: FakeFiles, left: Sequence[T]) -> None:
        self._files = files
        self._left = list(left)

    def __aiter__(self) -> "FakePieces[T]":
        return self

    async def __anext__(self) -> T:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)

    async def aclose(self) -> None:
        self._files.closed += 1


@dataclass
class FakeLive:
    """Answers every call with the record of ``jobs``."""

    jobs: FakeJobs

    async def pause(self, given: str) -> JobRecord:
        return await self.jobs.get(given)

    async def resume(self, given: str) -> JobRecord:
        return await self.jobs.get(given)

    async def kill(self, given: str, signal: str) -> tuple[JobRecord, int]:
        return await self.jobs.get(given), 10


SCHEDULE = Schedule(
    ScheduleId(ID), "daily", replace(RECORD, state=JobState.SCHEDULED, schedule_id=ID), next_at=NOW
)


@dataclass
class FakeSchedules:
    """Answers every call with ``schedule``; keeps what it was called with."""

    schedule: Schedule = SCHEDULE
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    async def create(
        self,
        spec: JobSpec,
        caller: Identity,
        uploads: Uploads = NO_UPLOADS,
        *,
        secrets: Secrets = NO_SECRETS,
        token: Token | None = None,
    ) -> Schedule:
        self.calls.append(("create", spec, caller, uploads, secrets, token))
        return replace(self.schedule, template=replace(self.schedule.template, spec=spec))

    def all(self) -> Sequence[Schedule]:
        return [self.schedule]

    def get(self, given: str) -> Schedule:
        self.calls.append(("get", given))
        return self.schedule

    async def jobs(self, schedule: Schedule, *, most: int) -> Sequence[JobRecord]:
        self.calls.append(("jobs", schedule.id, most))
        return [replace(RECORD, schedule_id=schedule.id)]

    async def remove(self, given: str) -> ScheduleId:
        self.calls.append(("remove", given))
        return self.schedule.id

    async def pause(self, given: str) -> Schedule:
        self.calls.append(("pause", given))
        return replace(self.schedule, is_paused=True, next_at=None)

    async def resume(self, given: str, caller: Identity) -> Schedule:
        self.calls.append(("resume", given))
        return self.schedule


class FakeExec:
    """A command that has written, and ends when its input does, or without any at once."""

    def __init__(self) -> None:
        self.is_closed = False
        self.given: list[Any] = []
        self.may_end = asyncio.Event()

    async def write(self, data: bytes) -> None:
        self.given.append(data)

    async def end_input(self) -> None:
        self.given.append(None)
        self.may_end.set()

    async def resize(self, size: TerminalSize) -> None:
        self.given.append(size)

    def signal(self, given: str) -> None:
        signal_number(given)
        self.given.append(given)

    async def __aiter__(self) -> AsyncIterator[tuple[ExecOutput, bytes] | Outcome]:
        yield ExecOutput.STDOUT, b"out"
        await self.may_end.wait()
        yield ExecOutput.STDERR, b"err"
        yield Outcome(JobState.FAILED, Reason.EXIT_CODE, 3, 0, "exited with status 3")

    def close(self) -> None:
        self.is_closed = True


@dataclass
class FakeExecs:
    """Starts ``running``, or raises what ``jobs`` raises."""

    jobs: FakeJobs
    running: FakeExec = field(default_factory=FakeExec)
    wanted: list[ExecSpec] = field(default_factory=list)

    async def start(self, given: str, wanted: ExecSpec, caller: Identity) -> FakeExec:
        await self.jobs.get(given)
        self.wanted.append(wanted)
        if not wanted.stdin:
            self.running.may_end.set()
        return self.running


VOLUME = Volume(
    name="data",
    type=VolumeType.FILESYSTEM,
    backing=Backing.IMAGE,
    size=2**30,
    size_text="1GB",
    number=1879113728,
    created_at=NOW,
    state=VolumeState.READY,
    snapshots=(VolumeSnapshot("first", NOW),),
)


@dataclass
class FakeVolumes:
    """Answers every call with one volume, or raises ``error``; keeps what it was called with."""

    users: tuple[JobRecord, ...] = (RECORD,)
    error: JobletError | None = None
    files: FakeFiles = field(default_factory=FakeFiles)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def answer(self, *call: Any) -> VolumeView:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return VolumeView(VOLUME, "/path", "a.mount", self.users, 4096, "")

    async def create(self, name: str, size_text: str, type_text: str) -> VolumeView:
        return self.answer("create", name, size_text, type_text)

    async def all(self) -> Sequence[VolumeView]:
        return [self.answer("all")]

    async def get(self, name: str) -> VolumeView:
        return self.answer("get", name)

    async def remove(self, name: str) -> None:
        self.answer("remove", name)

    async def grow(self, name: str, size_text: str) -> VolumeView:
        return self.answer("grow", name, size_text)

    async def put(self, name: str, path: str, upload_id: str, caller: Identity) -> tuple[int, int]:
        self.answer("put", name, path, upload_id, caller)
        return 2, 3

    async def download(self, name: str, path: str) -> "FakePieces[FilePiece]":
        self.answer("download", name, path)
        return FakePieces(self.files, self.files.pieces)


@dataclass
class FakeVolumeSnapshots:
    """Keeps its calls with those of ``volumes``, and raises what they raise."""

    volumes: FakeVolumes

    async def make(self, name: str, snapshot: str) -> VolumeSnapshot:
        self.volumes.answer("snapshot", name, snapshot)
        return VolumeSnapshot(snapshot or "now", NOW)

    async def restore(self, name: str, snapshot: str) -> None:
        self.volumes.answer("restore", name, snapshot)

    async def remove(self, name: str, snapshot: str) -> None:
        self.volumes.answer("remove_snapshot", name, snapshot)


class Caller:
    """Calls methods by their name in the definition (``JobService/RunJob``)."""

    def __init__(self, server: AgentServer, target: str, channel: grpc.aio.Channel) -> None:
        self.target = target
        self.channel = channel
        self._server = server

    async def stop(self) -> None:
        """Stop the server, as the agent does when it ends."""
        await self._server.stop(10)

    def over(self, channel: grpc.aio.Channel) -> "Caller":
        """Return a caller that uses another connection."""
        return Caller(self._server, self.target, channel)

    async def unary(self, method: str, request: Any = None, metadata: Any = None) -> Any:
        """Return the answer of a unary method, or the first of a stream's (None if it has none)."""
        if METHODS[method].takes_stream and METHODS[method].gives_stream:
            async for answer in self.exchange(method, [] if request is None else [request]):
                return answer
            return None
        if METHODS[method].takes_stream:
            return await self.upload(method, [] if request is None else [request])
        if METHODS[method].gives_stream:
            async for answer in self.stream(method, request):
                return answer
            return None
        call = self._callable(self.channel.unary_unary, method)
        return await call(self._bytes(method, request), metadata=metadata)

    async def upload(self, method: str, requests: Sequence[Any]) -> Any:
        """Return the answer of a client-stream method to these requests."""
        return await self._converse(method, requests, lambda channel: channel.stream_unary)

    async def answers(self, method: str, requests: Iterable[Any]) -> list[Any]:
        """Return all that a method that streams both ways answers to these requests."""
        return list(await self._converse(method, requests, lambda channel: channel.stream_stream, list))

    def exchange(self, method: str, requests: Iterable[Any]) -> Any:
        """Return the call of a method that streams both ways."""
        call = self._callable(self.channel.stream_stream, method)
        return call(iter([self._bytes(method, request) for request in requests]))

    def stream(self, method: str, request: Any = None, metadata: Any = None) -> Any:
        """Return the call of a server-stream method."""
        call = self._callable(self.channel.unary_stream, method)
        return call(self._bytes(method, request), metadata=metadata)

    async def _converse(
        self,
        method: str,
        requests: Iterable[Any],
        kind: Callable[[grpc.Channel], Any],
        taken: Callable[[Any], Any] = lambda answer: answer,
    ) -> Any:
        """Return what ``taken`` makes of the answer to requests of which the server may refuse an early one.

        A client of ``grpc.aio`` that writes to a call the server has just refused can give an error of its
        own (INTERNAL) in place of the server's; the synchronous client, which rnx uses, never does.
        """
        given = [self._bytes(method, request) for request in requests]

        def talk() -> Any:
            with grpc.insecure_channel(self.target) as channel:
                return taken(self._callable(kind(channel), method)(iter(given), timeout=20))

        try:
            return await asyncio.to_thread(talk)
        except grpc.RpcError as error:
            told: Any = error
            raise grpc.aio.AioRpcError(
                told.code(),
                grpc.aio.Metadata(*(told.initial_metadata() or ())),
                grpc.aio.Metadata(*(told.trailing_metadata() or ())),
                told.details(),
                told.debug_error_string(),
            ) from error

    def _callable(self, make: Callable[..., Any], method: str) -> Any:
        return make(f"/joblet.{method}", response_deserializer=METHODS[method].answer.FromString)

    @staticmethod
    def _bytes(method: str, request: Any) -> bytes:
        if isinstance(request, bytes):
            return request
        message = METHODS[method].request() if request is None else request
        return bytes(message.SerializeToString())


@dataclass
class FakeNetworks:
    """Networks that are there, or ``error``; keeps what it was called with."""

    views: list[NetworkView] = field(default_factory=list)
    error: BaseException | None = None
    calls: list[object] = field(default_factory=list)

    def all(self) -> Sequence[NetworkView]:
        return self.views

    def get(self, name: str) -> NetworkView:
        self._called(name)
        return next(view for view in self.views if view.name == name)

    async def create(self, spec: NetworkSpec) -> Network:
        self._called(spec)
        range4, range6 = IPv4Network(spec.cidr), IPv6Network("fd00:1:2:10::/64")
        return Network(spec.name, f"joblet-{spec.name}", range4, range6)

    async def remove(self, name: str) -> None:
        self._called(name)

    def _called(self, call: object) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error


@asynccontextmanager
async def serving(
    jobs: FakeJobs,
    *,
    watches: FakeWatches | None = None,
    schedules: FakeSchedules | None = None,
    authenticate: Authenticator = local_caller,
    rpc: RpcConfig | None = None,
    group: str = "nobody-has-this-group",
    files: FakeFiles | None = None,
    execs: FakeExecs | None = None,
    volumes: FakeVolumes | None = None,
    audit: FakeAuditLog | None = None,
    jobs_config: JobsConfig | None = None,
    networks: "FakeNetworks | None" = None,
    workflows: FakeWorkflows | None = None,
    runtimes: FakeRuntimes | None = None,
) -> AsyncIterator[Caller]:
    """Serve ``jobs`` and yield a caller connected to the server."""
    # Not tmp_path: a socket's path has at most 107 bytes, whatever the test is called.
    with tempfile.TemporaryDirectory(prefix="rpc-") as directory:
        socket = SocketConfig(path=Path(directory) / "agent.sock", group=group)
        config = AgentConfig(socket=socket, rpc=rpc or RpcConfig(), jobs=jobs_config or JobsConfig())
        volumes = volumes or FakeVolumes()
        services = Services(
            jobs,
            watches or FakeWatches(),
            FakeNode(),
            files or FakeFiles(),
            FakeLive(jobs),
            schedules or FakeSchedules(),
            execs or FakeExecs(jobs),
            networks or FakeNetworks(),
            volumes,
            volumes,
            FakeVolumeSnapshots(volumes),
            workflows or FakeWorkflows(),
            (runtimes or FakeRuntimes()).services(),
        )
        server = build_server(services, config, audit or FakeAuditLog(), authenticate=authenticate)
        await server.start()
        try:
            target = f"unix:{socket.path}"
            async with grpc.aio.insecure_channel(target) as channel:
                yield Caller(server, target, channel)
        finally:
            await server.stop(0)


def reason_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the stable word of an error."""
    return _trailer(error, "joblet-reason")


def hint_of(error: grpc.aio.AioRpcError) -> str | None:
    """Return the hint of an error as it is on the wire."""
    return _trailer(error, "joblet-hint")


def _trailer(error: grpc.aio.AioRpcError, key: str) -> str | None:
    trailer: Any = error.trailing_metadata() or ()  # the stubs take its pairs for something else
    return {name: str(value) for name, value in trailer}.get(key)
