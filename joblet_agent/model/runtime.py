"""Values of runtimes: read-only root file systems with a language in them.

The digest (64 hexadecimal digits, SHA-256) is the identity of a runtime; ``NAME@VERSION`` points to it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

__all__ = ["PinnedRuntime", "Runtime", "RuntimeFacts"]


@dataclass(frozen=True, slots=True)
class RuntimeFacts:
    """What whoever made a runtime says of it."""

    name: str
    version: str
    description: str = ""
    language: str = ""
    language_version: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For jobs; PATH_PREPEND goes in front of PATH."""
    packages: tuple[str, ...] = ()
    """``NAME=VERSION`` of the distribution, pip and npm; for people."""
    architectures: tuple[str, ...] = ()
    """Debian's words (amd64, arm64); empty: any."""
    needs_gpu: bool = False
    test: str = ""
    """Shell command that tells whether it works; empty for the language's own."""
    definition: str = ""
    """Text that it was built from."""
    lock: str = ""
    """Text of the lock file that repeats the build."""
    base: str = ""
    """Digest of the runtime that it was built on (``from``); empty for none."""
    source: str = ""
    """How it came here: ``build``, ``import``, or the address it was installed from."""
    built_at: datetime | None = None
    built_with: str = ""
    platform: str = ""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime of this host, ready for jobs."""

    facts: RuntimeFacts
    digest: str
    size: int
    """Bytes of its files, each counted once, whoever shares them."""
    files: int
    added_at: datetime


@dataclass(frozen=True, slots=True)
class PinnedRuntime:
    """The runtime of a job, fixed when the job was accepted."""

    name: str
    version: str
    digest: str
    environment: Mapping[str, str] = field(default_factory=dict)
    needs_gpu: bool = False
    """Asked when the job is accepted; not stored."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
