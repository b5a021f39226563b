"""Values of an index."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from joblet_agent.runtimes.names import ARCHITECTURES

__all__ = ["Index", "IndexEntry", "Offered", "is_for"]

_ANY = frozenset({"all", "any", "noarch"})


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One version of one runtime."""

    name: str
    version: str
    download_url: str
    """Of the archive: a whole address, or a path from the directory of the index."""
    checksum: str = ""
    """SHA-256 of the archive, 64 hexadecimal digits; empty: the index does not say."""
    size: int = 0
    """Bytes of the archive; 0: the index does not say."""
    platforms: tuple[str, ...] = ()
    """Such as ``linux-amd64``; empty: any."""
    description: str = ""
    digest: str = ""
    """Digest of the runtime (our own key); empty: the index does not say."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Index:
    """All that an index offers."""

    version: str = ""
    updated_at: str = ""
    runtimes: Mapping[str, tuple[IndexEntry, ...]] = field(default_factory=dict)
    """By name; versions as they stand in the file."""


@dataclass(frozen=True, slots=True)
class Offered:
    """One name of an index, for people."""

    name: str
    versions: tuple[str, ...]
    """The highest first."""
    platforms: tuple[str, ...]
    """Of the highest version, as the description is."""
    description: str


def is_for(entry: IndexEntry, architecture: str) -> bool:
    """Say whether the archive is for the architecture; to a whole root the host's distribution is nothing."""
    words = _ANY | {architecture} | {word for word, ours in ARCHITECTURES.items() if ours == architecture}
    return not entry.platforms or any(
        platform.casefold().replace("/", "-").rpartition("-")[2] in words for platform in entry.platforms
    )
