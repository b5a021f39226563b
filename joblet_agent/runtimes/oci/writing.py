"""A runtime becomes an archive that skopeo, docker and podman read, and registries store.

One layer, with files in the order of their names, root's, of one time: the same tree and facts give the same
bytes, as long as zlib packs the same (its versions may differ). Memory has one piece of it at a time.
"""

import hashlib
import json
import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from joblet_agent.errors import StoreFailed
from joblet_agent.model.runtime import RuntimeFacts
from joblet_agent.runtimes.disk import disk_errors
from joblet_agent.runtimes.layout import MTIME
from joblet_agent.runtimes.oci.image import host_architecture, oci_architecture
from joblet_agent.runtimes.oci.labels import labels_of, variables
from joblet_agent.runtimes.oci.refusals import shown
from joblet_agent.runtimes.oci.tar_reader import Kind
from joblet_agent.runtimes.oci.tar_writer import END, header, padding
from joblet_agent.runtimes.working import Wanted, in_thread

_LEVEL: Final = 3
"""A third quicker than 6, for a twentieth more bytes."""
_PIECE: Final = 1 << 18
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOBS: Final = "blobs/sha256/"
_UNNAMED: Final = _BLOBS + "0" * 64


@dataclass(frozen=True, slots=True)
class _Blob:
    digest: str
    size: int

    def described(self, kind: str) -> dict[str, Any]:
        return {
            "mediaType": f"application/vnd.oci.image.{kind}",
            "digest": f"sha256:{self.digest}",
            "size": self.size,
        }


async def pack(tree: Path, facts: RuntimeFacts, digest: str, to: Path) -> None:
    """Write the archive of a tree that nobody changes.

    Raises HostUnavailable, StoreFailed; then there is no ``to``. Ends within a second when it is cancelled.
    """
    await in_thread(lambda wanted: _pack(tree, facts, digest, to, wanted))


def _pack(tree: Path, facts: RuntimeFacts, digest: str, to: Path, wanted: Wanted) -> None:
    try:
        with disk_errors(f"write {to}"), to.open("wb") as file:
            _write(tree, facts, digest, file, wanted)
    except BaseException:
        with suppress(OSError):
            to.unlink()
        raise


def _write(tree: Path, facts: RuntimeFacts, digest: str, file: BinaryIO, wanted: Wanted) -> None:
    layer, content = _write_layer(tree, file, wanted)
    config = _write_blob(file, _config(facts, digest, content))
    manifest = _write_blob(
        file,
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.described("config.v1+json"),
            "layers": [layer.described("layer.v1.tar+gzip")],
        },
    )
    named = {"annotations": {"org.opencontainers.image.ref.name": facts.version}}
    index = {"schemaVersion": 2, "manifests": [manifest.described("manifest.v1+json") | named]}
    _write_member(file, "index.json", _as_json(index))
    _write_member(file, "oci-layout", _as_json({"imageLayoutVersion": "1.0.0"}))
    file.write(END)


def _write_layer(tree: Path, file: BinaryIO, wanted: Wanted) -> tuple[_Blob, str]:
    """Write the layer; return it, and the digest of its content. Its name, its digest, is known last."""
    begin = file.tell()
    file.write(header(_UNNAMED.encode(), Kind.FILE, mode=0o644))
    packer = zlib.compressobj(_LEVEL, wbits=31)
    stored, content, size = hashlib.sha256(), hashlib.sha256(), 0
    for piece in _gathered(tree, wanted):
        content.update(piece)
        packed = packer.compress(piece)
        stored.update(packed)
        size += file.write(packed)
    packed = packer.flush()
    stored.update(packed)
    size += file.write(packed)
    file.write(padding(size))
    end = file.tell()
    blob = _Blob(stored.hexdigest(), size)
    file.seek(begin)
    file.write(header((_BLOBS + blob.digest).encode(), Kind.FILE, mode=0o644, size=size))
    file.seek(end)
    return blob, content.hexdigest()


def _gathered(tree: Path, wanted: Wanted) -> Iterator[bytes]:
    """Return the layer in larger pieces."""
    gathered = bytearray()
    for piece in _layer(tree):
        gathered += piece
        if len(gathered) >= _PIECE:
            wanted.check()
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered + END)


def _layer(tree: Path) -> Iterator[bytes]:
    for place, directories, files, descriptor in os.fwalk(tree, onerror=_raise, follow_symlinks=False):
        directories.sort(key=os.fsencode)
        below = os.path.relpath(place, tree)
        for name in sorted((*directories, *files), key=os.fsencode):
            yield from _entry(name, os.fsencode(os.path.normpath(os.path.join(below, name))), descriptor)


def _entry(name: str, path: bytes, directory: int) -> Iterator[bytes]:
    status = os.lstat(name, dir_fd=directory)
    mode = stat.S_IMODE(status.st_mode)
    if stat.S_ISDIR(status.st_mode):
        yield header(path + b"/", Kind.DIRECTORY, mode=mode, mtime=MTIME)
    elif stat.S_ISLNK(status.st_mode):
        target = os.fsencode(os.readlink(name, dir_fd=directory))
        yield header(path, Kind.LINK, mode=0o777, target=target, mtime=MTIME)
    elif stat.S_ISREG(status.st_mode):
        file = os.open(name, _READ, dir_fd=directory)
        try:
            yield header(path, Kind.FILE, mode=mode, size=status.st_size, mtime=MTIME)
            yield from _content(file, status.st_size, path)
        finally:
            os.close(file)
        yield padding(status.st_size)
    else:
        raise _damaged(path)


def _content(file: int, size: int, path: bytes) -> Iterator[bytes]:
    while size:
        piece = os.read(file, min(size, _PIECE))
        if not piece:
            raise _damaged(path)
        size -= len(piece)
        yield piece


def _raise(error: OSError) -> None:
    raise error


def _damaged(path: bytes) -> StoreFailed:
    return StoreFailed(
        f"cannot export runtime: {shown(os.fsdecode(path))} in its tree is damaged",
        reason="RUNTIME_DAMAGED",
        hint="see: rnx runtime verify",
    )


def _config(facts: RuntimeFacts, digest: str, content: str) -> dict[str, Any]:
    architectures = facts.architectures
    has = oci_architecture(architectures[0]) if len(architectures) == 1 else host_architecture()
    config: dict[str, Any] = {
        "architecture": has,
        "os": "linux",
        "config": {"Env": variables(facts.environment), "Labels": labels_of(facts, digest)},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{content}"]},
    }
    if facts.built_at is not None:
        config["created"] = facts.built_at.isoformat()
    return config


def _write_blob(file: BinaryIO, document: dict[str, Any]) -> _Blob:
    text = _as_json(document)
    blob = _Blob(hashlib.sha256(text).hexdigest(), len(text))
    _write_member(file, _BLOBS + blob.digest, text)
    return blob


def _write_member(file: BinaryIO, name: str, text: bytes) -> None:
    file.write(header(name.encode(), Kind.FILE, mode=0o644, size=len(text)) + text + padding(len(text)))


def _as_json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
