"""What the servicers of runtimes need of the services behind them."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from joblet_agent.model.identity import Identity
from joblet_agent.model.runtime import Runtime
from joblet_agent.runtimes.build.callers import RuntimeBuilds
from joblet_agent.runtimes.gc import Freed
from joblet_agent.runtimes.index.service import LoadedIndex
from joblet_agent.runtimes.install_events import InstallEvent
from joblet_agent.runtimes.installer import LocalFile
from joblet_agent.runtimes.service import Removal, Understood, Verdict
from joblet_agent.runtimes.transfer import ArchivePiece, ImportWanted
from joblet_agent.runtimes.trial import TrialEnd


class Runtimes(Protocol):
    """The use cases of runtimes that are there; methods with ``given`` raise NotFound and InvalidRequest."""

    def all(self) -> Sequence[Runtime]:
        """Return the runtimes, by name and version."""
        ...

    def get(self, given: str) -> Runtime:
        """Return the runtime that is meant."""
        ...

    def understand(self, text: str) -> Understood:
        """Read a spec. Raises InvalidRequest."""
        ...

    def path(self, runtime: Runtime) -> str:
        """Return the directory of its tree."""
        ...

    def is_available(self, runtime: Runtime) -> bool:
        """Say whether a job could start with it now."""
        ...

    def is_latest(self, runtime: Runtime) -> bool:
        """Say whether its name alone means it."""
        ...

    async def users(self, runtime: Runtime) -> Sequence[str]:
        """Return who uses it, for people."""
        ...

    async def test(self, given: str, caller: Identity) -> TrialEnd:
        """Run its test as a job of the caller. Raises as Jobs.run does, too."""
        ...

    async def remove(self, given: str, *, force: bool) -> Removal:
        """Remove one version, or all. Raises WrongState if it is in use."""
        ...

    async def verify(self, given: str) -> AsyncIterator[Verdict]:
        """Return the verdict on one, or on each if ``given`` is empty."""
        ...

    async def gc(self) -> Freed:
        """Remove what nothing names or uses any more."""
        ...


class Archive(Protocol):
    """An archive on its way to a caller; whoever has it closes it."""

    @property
    def runtime(self) -> Runtime:
        """Return what it is of."""
        ...

    @property
    def size(self) -> int:
        """Return its bytes."""
        ...

    @property
    def sha256(self) -> bytes:
        """Return the digest of what was read so far."""
        ...

    def __aiter__(self) -> AsyncIterator[ArchivePiece]:
        """Return the pieces."""
        ...

    async def aclose(self) -> None:
        """Let go of it."""
        ...


class RuntimeArchives(Protocol):
    """Runtimes on their way to and from callers."""

    async def export(self, given: str) -> Archive:
        """Make an archive of a runtime. Raises NotFound, InvalidRequest, HostUnavailable."""
        ...

    async def take_in(
        self, wanted: ImportWanted, pieces: AsyncIterator[ArchivePiece], note: Callable[[str], None]
    ) -> Runtime:
        """Make a runtime of an archive; ``note`` is told what of it was left out.

        Raises InvalidRequest, LimitReached, WrongState, HostUnavailable.
        """
        ...


class RuntimeInstalls(Protocol):
    """Installation; iteration raises what goes wrong."""

    def install(self, spec: str, *, url: str = "", force: bool = False) -> AsyncIterator[InstallEvent]:
        """Install a runtime that an index offers."""
        ...

    def install_files(
        self, spec: str, files: Sequence[LocalFile], *, force: bool = False
    ) -> AsyncIterator[InstallEvent]:
        """Install a runtime from files of the caller."""
        ...

    async def offered(self, url: str = "") -> LoadedIndex:
        """Return what an index offers."""
        ...


@dataclass(frozen=True, slots=True)
class RuntimeServices:
    """Everything about runtimes that the server serves."""

    runtimes: Runtimes
    archives: RuntimeArchives
    builds: RuntimeBuilds
    installs: RuntimeInstalls
