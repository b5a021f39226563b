"""Archives of images become trees: the OCI's, and those of ``docker save``.

What comes of an image is decided here and in layer.py: files, directories and links, all of them root's,
without setuid and setgid bits, capabilities and other extended attributes; devices and fifos are refused, and
passed over below /dev. Of its configuration, environment and labels count, and the entry point is told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.oci.blobs import ArchiveFile
from joblet_agent.runtimes.oci.image import StoredImage, StoredLayer, host_architecture, read_image
from joblet_agent.runtimes.oci.image_tree import Budget, ImageTree
from joblet_agent.runtimes.oci.layer import Layer, LayerStream
from joblet_agent.runtimes.oci.refusals import broken
from joblet_agent.runtimes.working import Wanted, in_thread

MOST_FILES: Final = 1_000_000
_HEADERS: Final = 2048
"""Bytes that a file takes in a layer beside its content."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What an image says of itself."""

    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    architecture: str = ""
    """In Debian's words."""
    digest: str = ""
    """Of its manifest, ``sha256:…``; empty in archives of ``docker save``."""
    notes: tuple[str, ...] = ()
    """What of it was left out, for people."""


async def unpack(archive: Path, into: Path, *, most_bytes: int, most_files: int = MOST_FILES) -> ImageFacts:
    """Unpack the image for this host's architecture into an empty directory; ``most_bytes`` 0: any size.

    Raises InvalidRequest (RUNTIME_ARCHIVE_BROKEN, RUNTIME_ARCHIVE_REFUSED), LimitReached, NotFound, and
    HostUnavailable for a disk that is full. Whatever is in ``into`` then is the caller's to remove. Ends
    within a second when it is cancelled.
    """
    return await in_thread(lambda wanted: _unpack(archive, into, Budget(most_bytes, most_files), wanted))


async def look(archive: Path) -> ImageFacts:
    """Return what the image says of itself; its layers are not read."""
    return await in_thread(lambda wanted: _look(archive, wanted))


def _look(path: Path, wanted: Wanted) -> ImageFacts:
    with disk_errors(f"read {path}"), ArchiveFile(path) as archive:
        archive.open(wanted)
        return _facts(read_image(archive, host_architecture()), {})


def _unpack(path: Path, into: Path, budget: Budget, wanted: Wanted) -> ImageFacts:
    dropped: dict[str, int] = {}
    with disk_errors(f"unpack {path.name}"), ArchiveFile(path) as archive, ImageTree(into, budget) as tree:
        archive.open(wanted)
        image = read_image(archive, host_architecture())
        for number, layer in enumerate(image.layers):
            _apply(archive, layer, Layer(tree, dropped), budget, wanted, is_first=number == 0)
    return _facts(image, dropped)


def _apply(
    archive: ArchiveFile, stored: StoredLayer, layer: Layer, budget: Budget, wanted: Wanted, *, is_first: bool
) -> None:
    """Whiteouts come before all else of a layer, so there are two ways through all but the lowest."""
    for step in (layer.apply,) if is_first else (layer.remove, layer.apply):
        most = budget.most_bytes and budget.most_bytes + budget.most_files * _HEADERS
        stream = LayerStream(archive.pieces(stored.member), most, wanted)
        step(stream)
        digest, content = stream.finish()
        if digest != (stored.digest or digest) or content != stored.content:
            raise broken(f"layer {stored.content[:19]}… does not have its digest")


def _facts(image: StoredImage, dropped: Mapping[str, int]) -> ImageFacts:
    return ImageFacts(
        environment=image.environment,
        labels=image.labels,
        entrypoint=image.entrypoint,
        architecture=image.architecture,
        digest=image.digest,
        notes=tuple(f"left out: {what} ({count})" for what, count in sorted(dropped.items())),
    )
