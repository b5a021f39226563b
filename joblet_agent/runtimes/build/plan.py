"""What a definition becomes: which base, which packages, what is written where. Pure.

Everything that the steps of a build need, with nothing left to decide: versions of a lock are in it, and
the names of packages that the base of a language needs beside those of the definition.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum

__all__ = ["Base", "BaseKind", "BuildPlan", "NpmPlan", "PipPlan", "PlannedFile"]


class BaseKind(Enum):
    """What the tree begins as."""

    DISTRIBUTION = "distribution"
    """Empty; packages of a distribution's suite fill it."""
    RUNTIME = "runtime"
    """The tree of an installed runtime (``from``)."""
    IMAGE = "image"
    """An OCI image (``image``)."""


@dataclass(frozen=True, slots=True)
class Base:
    """What the tree begins as."""

    kind: BaseKind
    distribution: str = ""
    """``debian`` or ``ubuntu``."""
    suite: str = ""
    """``bookworm``, …; for a runtime the suite that it was built from, if it says so."""
    source: str = ""
    """The spec of the runtime, or the image's address."""
    digest: str = ""
    """The digest of the runtime or the image that a lock wants; empty for any."""


@dataclass(frozen=True, slots=True)
class PipPlan:
    """What pip installs into /opt/runtime."""

    requirements: str
    """Text of a requirements file; with ``--hash`` and nothing but ``NAME==VERSION`` if it is locked."""
    index: str = ""
    """Address of the index; empty for the agent's configuration."""
    locked: bool = False


@dataclass(frozen=True, slots=True)
class NpmPlan:
    """What npm installs into /opt/runtime."""

    package_json: str
    package_lock: str = ""
    """Text of package-lock.json: ``npm ci --ignore-scripts`` installs it; without it npm makes one first."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of the definition."""

    path: str
    """Absolute in the tree."""
    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildPlan:
    """Everything that the steps need to know."""

    name: str
    version: str
    language: str = ""
    language_version: str = ""
    base: Base
    packages: tuple[str, ...] = ()
    """Distribution packages, as apt takes them (``NAME`` or ``NAME=VERSION``): all of them, in order."""
    directories: tuple[str, ...] = ()
    """Below the tree, made before any package is unpacked."""
    finish: str = ""
    """Shell text that completes the language after all packages: as root in the tree, without a network."""
    package_digests: Mapping[str, str] = field(default_factory=dict)
    """Of a lock: the SHA-256 that the file of each ``NAME=VERSION`` must have."""
    pip: PipPlan | None = None
    npm: NpmPlan | None = None
    files: tuple[PlannedFile, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    pre_install: str = ""
    """Shell text."""
    post_install: str = ""
    test: str = ""
    """Shell command; never empty when the language has a default."""
    disk: int = 0
    """Most bytes that the tree may have; 0 for the agent's limit."""
    time: timedelta | None = None
    """How long the whole build may take; none for the agent's limit."""
    network: bool = True
    """Whether hooks see a network; packages, pip and npm always do."""
    is_locked: bool = False

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
