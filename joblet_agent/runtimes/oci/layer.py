"""One layer of an image: a tar stream, compressed or not, whose entries change the tree of the layers below.

A layer is believed once all of it was read, and its digests compared: nobody uses the tree before.
"""

import errno
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from joblet_agent.runtimes.oci.image_tree import ImageTree, parts_of
from joblet_agent.runtimes.oci.refusals import broken, refused, shown, too_large
from joblet_agent.runtimes.oci.tar_reader import Entry, Kind, TarReader
from joblet_agent.runtimes.working import Wanted

_GZIP: Final = b"\x1f\x8b"
_UNKNOWN: Final = {b"\x28\xb5\x2f\xfd": "zstd", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
_OUT: Final = 1 << 18
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_OTHERS_OF_AUFS: Final = ".wh..wh."
_SET_IDS: Final = 0o6000
_DEVICES: Final = "dev"
_OF_THE_IMAGE: Final = frozenset(
    {
        *(errno.EEXIST, errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.EMLINK, errno.ENAMETOOLONG),
        *(errno.ENOENT, errno.ENOTDIR, errno.ENOTEMPTY, errno.EFBIG),
    }
)
"""What the system says of names that cannot be; the rest is the host's affair."""


class LayerStream:
    """The content of a layer, as it comes out of its compression."""

    def __init__(self, pieces: Iterable[bytes], most_bytes: int, wanted: Wanted) -> None:
        self._pieces = iter(pieces)
        self._most, self._count = most_bytes, 0
        self._wanted = wanted
        self._blob, self._content = hashlib.sha256(), hashlib.sha256()
        self._ready = bytearray()
        self._source: Iterator[bytes] | None = None

    def read(self, size: int) -> bytes:
        """Return so many bytes, fewer at the end."""
        source = self._source = self._source or self._unpacked()
        while len(self._ready) < size:
            piece = next(source, None)
            if piece is None:
                break
            self._count += len(piece)
            if self._most and self._count > self._most:
                raise too_large(f"a layer has more than {self._most} bytes")
            self._content.update(piece)
            self._ready += piece
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def finish(self) -> tuple[str, str]:
        """Read what is left; return the digests of the layer as it is stored, and of its content."""
        while self.read(_OUT):
            pass
        return f"sha256:{self._blob.hexdigest()}", f"sha256:{self._content.hexdigest()}"

    def _stored(self) -> Iterator[bytes]:
        for piece in self._pieces:
            self._wanted.check()
            self._blob.update(piece)
            yield piece

    def _unpacked(self) -> Iterator[bytes]:
        stored = self._stored()
        first = next(stored, b"")
        for magic, name in _UNKNOWN.items():
            if first.startswith(magic):
                raise refused(
                    f"a layer is compressed with {name}, which is not read here",
                    "make one with gzip: skopeo copy --dest-compress-format gzip oci-archive:A oci-archive:B",
                )
        if first.startswith(_GZIP):
            yield from self._gunzipped(first, stored)
            return
        yield first
        yield from stored

    def _gunzipped(self, piece: bytes, stored: Iterator[bytes]) -> Iterator[bytes]:
        """Return what is in one gzip member after the other: some writers make one of each file."""
        member = zlib.decompressobj(wbits=31)
        while True:
            try:
                while piece and not member.eof:
                    self._wanted.check()
                    if out := member.decompress(piece, _OUT):
                        yield out
                    piece = member.unused_data if member.eof else member.unconsumed_tail
            except zlib.error as error:
                raise broken("a layer is damaged") from error
            if not piece:
                following = next(stored, None)
                if following is None:
                    break
                piece = following
            if member.eof and piece:
                member = zlib.decompressobj(wbits=31)
        if not member.eof:
            raise broken("the end of a layer is missing")


class Layer:
    """Applies one layer to the tree."""

    def __init__(self, tree: ImageTree, dropped: dict[str, int]) -> None:
        """Count in ``dropped`` how often something is left out, by its kind."""
        self._tree = tree
        self._dropped = dropped

    def remove(self, stream: LayerStream) -> None:
        """Do what the layer's whiteouts say: they mean lower layers, wherever they stand in this one."""
        for entry in TarReader(stream.read):
            parts = parts_of(entry.name)
            if parts and parts[-1].startswith(_WHITEOUT):
                with _naming(entry):
                    self._white_out(parts)

    def apply(self, stream: LayerStream) -> None:
        """Make what the layer has."""
        reader = TarReader(stream.read)
        for entry in reader:
            parts = parts_of(entry.name)
            if not any(part.startswith(_WHITEOUT) for part in parts):
                with _naming(entry):
                    self._make(entry, parts, reader)

    def _white_out(self, parts: tuple[str, ...]) -> None:
        *above, name = parts
        if name == _OPAQUE:
            self._tree.empty(above)
        elif not name.startswith(_OTHERS_OF_AUFS):
            if name.removeprefix(_WHITEOUT) in {"", ".", ".."}:
                raise refused(f"{shown('/'.join(parts))} removes nothing that has a name")
            self._tree.remove((*above, name.removeprefix(_WHITEOUT)))

    def _make(self, entry: Entry, parts: tuple[str, ...], reader: TarReader) -> None:
        mode = entry.mode & ~_SET_IDS
        if entry.kind in {Kind.FILE, Kind.DIRECTORY} and mode != entry.mode:
            self._drop("setuid or setgid bits")
        if entry.has_capabilities:
            self._drop("file capabilities")
        match entry.kind:
            case Kind.FILE:
                self._tree.file(parts, mode, entry.size, reader.content())
            case Kind.DIRECTORY:
                self._tree.directory(parts, mode)
            case Kind.LINK:
                if not entry.target:
                    raise refused(f"{shown(entry.name)} is a link to nothing")
                self._tree.link(parts, entry.target)
            case Kind.HARD_LINK:
                self._tree.hard_link(parts, parts_of(entry.target))
            case Kind.CHARACTER_DEVICE | Kind.BLOCK_DEVICE | Kind.FIFO:
                if len(parts) < 2 or parts[0] != _DEVICES:  # noqa: PLR2004 - a name below it
                    raise refused(
                        f"{shown(entry.name)} is a {entry.kind.value}",
                        "only below /dev are they passed over: jobs have a /dev of their own",
                    )
                self._drop("devices below /dev")

    def _drop(self, what: str) -> None:
        self._dropped[what] = self._dropped.get(what, 0) + 1


class _naming:  # noqa: N801 - used as a function
    """Turns what the system says of an entry's name into an error that names it."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError) and error.errno in _OF_THE_IMAGE:
            raise refused(f"{shown(self._entry.name)}: {(error.strerror or '').lower()}") from error
