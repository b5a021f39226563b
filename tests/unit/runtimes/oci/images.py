"""Archives of images, made by the standard library: another hand than the one that is tested."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from joblet_agent.runtimes.oci.image import host_architecture

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
_CONFIG = "application/vnd.oci.image.config.v1+json"

Item = tuple[tarfile.TarInfo, bytes]


def file(name: str, content: bytes = b"", mode: int = 0o644, **more: Any) -> Item:
    return _item(name, tarfile.REGTYPE, content, mode=mode, **({"size": len(content)} | more))


def directory(name: str, mode: int = 0o755) -> Item:
    return _item(name, tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str) -> Item:
    return _item(name, tarfile.SYMTYPE, linkname=target, mode=0o777)


def hard_link(name: str, target: str) -> Item:
    return _item(name, tarfile.LNKTYPE, linkname=target)


def special(name: str, kind: bytes) -> Item:
    return _item(name, kind, devmajor=1, devminor=3)


def _item(name: str, kind: bytes, content: bytes = b"", **more: Any) -> Item:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def layer(*items: Item, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a layer as it is before it is compressed."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for info, content in items:
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def sha256(text: bytes) -> str:
    return "sha256:" + hashlib.sha256(text).hexdigest()


@dataclass
class Image:
    """One image, to be put into an archive; tests change what they are about before that."""

    layers: Sequence[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    architecture: str = field(default_factory=host_architecture)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    stored: Sequence[bytes] = ()
    """Layers as they are stored; empty: gzip of each."""

    def seal(self) -> dict[str, Any]:
        """Make the blobs; return the manifest's descriptor."""
        stored = self.stored or [gzip.compress(each, 1, mtime=0) for each in self.layers]
        document = {
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [sha256(each) for each in self.layers]},
        }
        self.manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._blob(json.dumps(document).encode(), _CONFIG),
            "layers": [self._blob(each, _LAYER) for each in stored],
        }
        described = self._blob(json.dumps(self.manifest).encode(), MANIFEST)
        return described | {"platform": {"os": "linux", "architecture": self.architecture}}

    def _blob(self, text: bytes, kind: str) -> dict[str, Any]:
        self.blobs[sha256(text)] = text
        return {"mediaType": kind, "digest": sha256(text), "size": len(text)}


def members_of(*images: Image) -> dict[str, bytes]:
    """Return what an archive of the images has."""
    described = [image.seal() for image in images]
    members = {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": described}).encode(),
    }
    for image in images:
        members |= {
            f"blobs/sha256/{digest.removeprefix('sha256:')}": text for digest, text in image.blobs.items()
        }
    return members


def write_archive(path: Path, members: Mapping[str, bytes]) -> Path:
    path.write_bytes(layer(*(file(name, text) for name, text in members.items())))
    return path


def archive_of(path: Path, *layers: bytes, **config: Any) -> Path:
    return write_archive(path, members_of(Image(layers, config)))


def docker_archive_of(path: Path, *layers: bytes, **config: Any) -> Path:
    document = {
        "architecture": host_architecture(),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(each) for each in layers]},
    }
    members = {f"{number}/layer.tar": each for number, each in enumerate(layers)}
    manifest = [{"Config": "config.json", "RepoTags": ["x:1"], "Layers": list(members)}]
    members |= {"manifest.json": json.dumps(manifest).encode(), "config.json": json.dumps(document).encode()}
    return write_archive(path, members)
