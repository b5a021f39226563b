"""What builds work with; narrow, so that the fakes of tests are small."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from joblet_agent.config.values import RuntimesConfig
from joblet_agent.model.runtime import Runtime, RuntimeFacts
from joblet_agent.ports import Clock
from joblet_agent.runtimes.build.events import BuildPhase
from joblet_agent.runtimes.build.plan import BuildPlan
from joblet_agent.runtimes.build.step import BuildPlace, BuildStep, BuildUnits

__all__ = ["BuildStore", "Checked", "ImageSource", "Means", "StepMaker", "UnpackedImage"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found in a tree that may be missing something."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    hint: str = ""
    """The package that would help."""


class StepMaker(Protocol):
    """Knows what is run for which phase, and how a tree is looked at."""

    def missing_tools(self, plan: BuildPlan) -> Sequence[str]:
        """Return packages of this host that the build needs and that are not there. Blocking."""
        ...

    def steps(self, phase: BuildPhase, plan: BuildPlan, place: BuildPlace) -> Sequence[BuildStep]:
        """Return what is run in the phase, in this order.

        Asked for a phase that has something to do: PRE_INSTALL, PACKAGES, LANGUAGE, PIP, NPM, FILES (the
        hook; files are written before it), NORMALISE (what removes caches), CHECK_TREE (the test).

        What steps leave for the lock (locking.py), in the place's ``out``: PACKAGES a line
        ``NAME VERSION ARCHITECTURE SHA256`` for each package file that was installed, in ``packages.list``;
        PIP its report (``--report``) in ``pip.json``; NPM the text of its lock in ``package-lock.json``.
        """
        ...

    def check(self, tree: Path) -> Checked:
        """Look for programs and libraries that need what is not in the tree. Blocking."""
        ...


class BuildStore(Protocol):
    """What builds ask of runtimes.store.RuntimeStore."""

    def get(self, name: str, version: str) -> Runtime | None:
        """Return the runtime of exactly this version."""
        ...

    def hold(self, digest: str) -> AbstractContextManager[Path]:
        """Keep the tree within the block."""
        ...

    async def add(self, tree: Path, facts: RuntimeFacts, *, replace: bool = False) -> Runtime:
        """Take the tree as the runtime that the facts name; it is gone afterwards."""
        ...


class Normalise(Protocol):
    """runtimes.normalise.normalise."""

    def __call__(self, tree: Path, *, most_bytes: int = 0) -> None:
        """Make the tree normal. Blocking."""
        ...


@dataclass(frozen=True, slots=True)
class UnpackedImage:
    """An image whose files are in a tree."""

    digest: str
    """Of its manifest or index in the registry, ``sha256:…``."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Of its configuration, without what no runtime may set."""
    notes: tuple[str, ...] = ()
    """What of it was left out, for people."""


class ImageSource(Protocol):
    """Fetches images (runtimes/skopeo.py)."""

    async def unpack(self, reference: str, into: Path, *, most_bytes: int) -> UnpackedImage:
        """Fill the empty directory with what is in the image."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Everything a build works with."""

    config: RuntimesConfig
    units: BuildUnits
    maker: StepMaker
    store: BuildStore
    resolve: Callable[[str], Runtime]
    """Return the installed runtime of a spec; raises InvalidRequest (RuntimeCatalog.resolve)."""
    normalise: Normalise
    images: ImageSource
    clock: Clock
    boot_id: str
    root: Path
    """A directory on the file system that the builds are on."""
    architecture: str
    """Debian's word for this host's."""
    made_with: str
    """Who builds, for people: ``joblet-agent 0.2.0``."""
