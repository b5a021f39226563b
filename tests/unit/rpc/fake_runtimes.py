"""Runtimes in memory behind a server of tests."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from joblet_agent.errors import InvalidRequest, JobletError, NotFound
from joblet_agent.model.identity import Identity
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.rpc.runtime_services import RuntimeServices
from joblet_agent.runtimes.build.callers import BuildHandle, BuildStatus
from joblet_agent.runtimes.build.events import BuildEvent, BuildPhase
from joblet_agent.runtimes.build.records import BuildOptions
from joblet_agent.runtimes.damage import Damage
from joblet_agent.runtimes.gc import Freed
from joblet_agent.runtimes.index.entries import Index, IndexEntry
from joblet_agent.runtimes.index.service import LoadedIndex
from joblet_agent.runtimes.install_events import InstallEvent
from joblet_agent.runtimes.installer import LocalFile
from joblet_agent.runtimes.names import parse_spec
from joblet_agent.runtimes.service import Removal, Understood, Verdict
from joblet_agent.runtimes.transfer import ArchivePiece, ImportWanted
from joblet_agent.runtimes.trial import TrialEnd

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
DIGEST = "ab" * 32
RUNTIME = Runtime(
    RuntimeFacts(
        "python-3.11-ml",
        "1.0.0",
        description="Python with numpy",
        language_version="3.11",
        environment={"A": "b"},
        packages=("numpy=1.26",),
        architectures=("amd64",),
        test="python -c 'import numpy'",
        definition="name: python-3.11-ml\n",
        lock="suite: bookworm\n",
        source="build",
        built_at=NOW,
        built_with="0.2.0",
        platform="debian-amd64",
    ),
    DIGEST,
    size=2**20,
    files=12,
    added_at=NOW,
)


@dataclass
class FakeRuntimes:
    """One runtime; answers of the rest are set, or raised."""

    error: JobletError | None = None
    """Raised by whatever does something."""
    used_by: tuple[str, ...] = ("job 7f3a0000 (train)",)
    trial: TrialEnd = field(default_factory=lambda: TrialEnd(RUNTIME, True, "fine\n"))
    removal: Removal = field(default_factory=lambda: Removal((RUNTIME,), 4096))
    damages: tuple[Damage, ...] = ()
    events: list[BuildEvent] = field(default_factory=list)
    installed: list[InstallEvent] = field(default_factory=list)
    is_shared: bool = False
    calls: list[tuple[object, ...]] = field(default_factory=list)
    received: bytes = b""
    open_streams: int = 0

    def services(self) -> RuntimeServices:
        return RuntimeServices(self, self, FakeBuilds(self), FakeInstalls(self))

    def called(self, *call: object) -> None:
        self.calls.append(call)
        if self.error is not None:
            raise self.error

    def all(self) -> Sequence[Runtime]:
        return [RUNTIME]

    def get(self, given: str) -> Runtime:
        spec = parse_spec(given)
        if spec.name == "ambiguous":
            raise InvalidRequest("it may mean a or b", reason="RUNTIME_AMBIGUOUS", hint="say which one")
        if spec.name != RUNTIME.facts.name:
            raise NotFound(f"cannot use runtime {given!r}", reason="RUNTIME_UNKNOWN", hint="see: rnx")
        return RUNTIME

    def understand(self, text: str) -> Understood:
        spec = parse_spec(text)
        try:
            return Understood(spec, "amd64", self.get(text))
        except NotFound as error:
            return Understood(spec, "amd64", None, str(error))

    def path(self, runtime: Runtime) -> str:
        return f"/trees/{runtime.digest}"

    def is_available(self, runtime: Runtime) -> bool:
        return True

    def is_latest(self, runtime: Runtime) -> bool:
        return True

    async def users(self, runtime: Runtime) -> Sequence[str]:
        return self.used_by

    async def test(self, given: str, caller: Identity) -> TrialEnd:
        self.get(given)
        self.called("test", given, caller.name)
        return self.trial

    async def remove(self, given: str, *, force: bool) -> Removal:
        self.called("remove", given, force)
        return self.removal

    async def verify(self, given: str) -> AsyncIterator[Verdict]:
        self.called("verify", given)

        async def verdicts() -> AsyncIterator[Verdict]:
            yield Verdict(RUNTIME, self.damages)

        return verdicts()

    async def gc(self) -> Freed:
        self.called("gc")
        return Freed(1, 2, 3)

    async def export(self, given: str) -> "FakeArchive":
        self.called("export", given)
        self.open_streams += 1
        return FakeArchive(self)

    async def take_in(
        self, wanted: ImportWanted, pieces: AsyncIterator[ArchivePiece], note: Callable[[str], None]
    ) -> Runtime:
        self.called("import", wanted)
        note("left out: a device (1)")
        async for piece in pieces:
            self.received += piece.content
        return RUNTIME


class FakeArchive:
    """Two pieces."""

    runtime = RUNTIME
    size = 6
    sha256 = b"s" * 32

    def __init__(self, runtimes: FakeRuntimes) -> None:
        self._runtimes = runtimes

    async def __aiter__(self) -> AsyncIterator[ArchivePiece]:
        yield ArchivePiece(0, b"one")
        yield ArchivePiece(3, b"two")

    async def aclose(self) -> None:
        self._runtimes.open_streams -= 1


@dataclass(frozen=True)
class FakeHandle:
    """A build whose events are those of the runtimes."""

    runtimes: FakeRuntimes
    id: str = "b0"
    is_shared: bool = False

    async def follow(self, *, verbose: bool = False) -> AsyncGenerator[BuildEvent, None]:
        self.runtimes.calls.append(("follow", verbose))
        self.runtimes.open_streams += 1
        try:
            for event in self.runtimes.events:
                yield event
        finally:
            self.runtimes.open_streams -= 1


STATUS = BuildStatus(
    id="b0",
    runtime="python-3.11-ml@1.0.0",
    phase=BuildPhase.PIP,
    waiting=False,
    detached=False,
    ended=False,
    caller="alice",
    began_at=NOW,
)


@dataclass
class FakeBuilds:
    """One build."""

    runtimes: FakeRuntimes

    async def build(self, text: str, options: BuildOptions, *, caller: str = "") -> BuildHandle:
        self.runtimes.called("build", text, options, caller)
        return FakeHandle(self.runtimes, is_shared=self.runtimes.is_shared)

    async def attach(self, name_or_id: str) -> BuildHandle:
        self.runtimes.called("attach", name_or_id)
        return FakeHandle(self.runtimes, is_shared=True)

    async def cancel(self, name_or_id: str) -> BuildStatus:
        self.runtimes.called("cancel", name_or_id)
        return STATUS

    def all(self) -> tuple[BuildStatus, ...]:
        return (STATUS,)


@dataclass
class FakeInstalls:
    """Installs what the runtimes say."""

    runtimes: FakeRuntimes

    async def install(self, spec: str, *, url: str = "", force: bool = False) -> AsyncIterator[InstallEvent]:
        self.runtimes.calls.append(("install", spec, url, force))
        for event in self.runtimes.installed:
            yield event
        if self.runtimes.error is not None:
            raise self.runtimes.error

    async def install_files(
        self, spec: str, files: Sequence[LocalFile], *, force: bool = False
    ) -> AsyncIterator[InstallEvent]:
        self.runtimes.calls.append(("install_files", spec, tuple(files), force))
        for event in self.runtimes.installed:
            yield event

    async def offered(self, url: str = "") -> LoadedIndex:
        self.runtimes.called("offered", url)
        entries = (IndexEntry("go-1.24", "1.0.0", "a.tar"), IndexEntry("go-1.24", "1.1.0", "b.tar"))
        return LoadedIndex("https://example.org/registry.json", Index(runtimes={"go-1.24": entries}), "")
