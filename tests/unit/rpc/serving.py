"""A server in this process on a socket of its own, with fake jobs behind it."""

import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from joblet_agent.config import AgentConfig, JobsConfig, RpcConfig, SocketConfig
from joblet_agent.jobs.logs import LogChunk
from joblet_agent.model.event import Sighting, WatchQuery
from joblet_agent.model.execution import ExecOutput, ExecSpec
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
from joblet_agent.model.node import Node
from joblet_agent.model.resources import Resources
from joblet_agent.model.schedule import Schedule, ScheduleId
from joblet_agent.model.secrets import NO_SECRETS, Secrets
from joblet_agent.rpc.auth import Authenticator, local_caller
from joblet_agent.rpc.methods import defined_methods
from joblet_agent.rpc.server import AgentServer, build_server
from joblet_agent.rpc.services import Services
from tests.fakes.audit_log import FakeAuditLog

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

    async def metrics(self, given: str, query: MetricsQuery) -> tuple[JobId, AsyncIterator[Reading]]:
        self._called("metrics", given, query)

        async def readings() -> AsyncIterator[Reading]:
            for reading in self.readings_of:
                yield reading

        return self.record.id, readings()

    async def readings(self, given: Sequence[str]) -> list[tuple[JobRecord, Reading | None]]:
        self._called("readings", list(given))
        return [(self.record, reading) for reading in self.readings_of] or [(self.record, None)]

    @property
    def metrics_interval(self) -> timedelta:
        return timedelta(seconds=5)

    async def explain(self, given: str) -> Explanation:
        self._called("explain", given)
        known = ExplainedProperty("Slice", "joblet-jobs.slice", "always", "systemd.resource-control(5)")
        return Explanation(self.unit_name(JobId(given)), (known,), "systemd-run true", ("a note",))

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

    async def create(self, spec: JobSpec, caller: Identity) -> Schedule:
        self.calls.append(("create", spec, caller))
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

    async def resume(self, given: str) -> Schedule:
        self.calls.append(("resume", given))
        return self.schedule


class FakeExec:
    """A command that has written and ended."""

    def __init__(self) -> None:
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[tuple[ExecOutput, bytes] | Outcome]:
        yield ExecOutput.STDOUT, b"out"
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
        return self.running


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
        call = self._callable(self.channel.stream_unary, method)
        return await call(iter([self._bytes(method, request) for request in requests]))

    def stream(self, method: str, request: Any = None, metadata: Any = None) -> Any:
        """Return the call of a server-stream method."""
        call = self._callable(self.channel.unary_stream, method)
        return call(self._bytes(method, request), metadata=metadata)

    def _callable(self, make: Callable[..., Any], method: str) -> Any:
        return make(f"/joblet.{method}", response_deserializer=METHODS[method].answer.FromString)

    @staticmethod
    def _bytes(method: str, request: Any) -> bytes:
        if isinstance(request, bytes):
            return request
        message = METHODS[method].request() if request is None else request
        return bytes(message.SerializeToString())


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
    audit: FakeAuditLog | None = None,
    jobs_config: JobsConfig | None = None,
) -> AsyncIterator[Caller]:
    """Serve ``jobs`` and yield a caller connected to the server."""
    # Not tmp_path: a socket's path has at most 107 bytes, whatever the test is called.
    with tempfile.TemporaryDirectory(prefix="rpc-") as directory:
        socket = SocketConfig(path=Path(directory) / "agent.sock", group=group)
        config = AgentConfig(socket=socket, rpc=rpc or RpcConfig(), jobs=jobs_config or JobsConfig())
        services = Services(
            jobs,
            watches or FakeWatches(),
            FakeNode(),
            files or FakeFiles(),
            FakeLive(jobs),
            schedules or FakeSchedules(),
            execs or FakeExecs(jobs),
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
