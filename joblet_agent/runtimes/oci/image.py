"""Which image an archive holds: its layers, lowest first, and its configuration.

Both forms are known: the OCI's layout (``index.json``), and what ``docker save`` writes (``manifest.json``).
"""

import json
import platform
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joblet_agent.runtimes.oci.blobs import DIGEST, ArchiveFile, blob_name
from joblet_agent.runtimes.oci.refusals import broken, refused, shown

_INDEXES: Final = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS: Final = {
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
}
_MOST_NESTED: Final = 4
_MOST_LAYERS: Final = 1000
_MOST_IMAGES: Final = 1000
_MACHINES: Final = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
}
_DEBIAN: Final = {"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """One layer: where it lies in the archive, and what it must prove to be."""

    member: str
    digest: str
    """As it is stored; empty in archives that do not say it."""
    content: str
    """Of what comes out of its compression."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """One image of an archive."""

    digest: str
    """Of its manifest; where it has none, of its configuration."""
    architecture: str
    """In Debian's words."""
    layers: tuple[StoredLayer, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()


def host_architecture() -> str:
    """Return the host's architecture in the OCI's words."""
    machine = platform.machine()
    return _MACHINES.get(machine, machine)


def debian_architecture(word: str) -> str:
    """Return Debian's word for one of the OCI's."""
    return _DEBIAN.get(word, word)


def oci_architecture(word: str) -> str:
    """Return the OCI's word for one of Debian's."""
    return {debian: oci for oci, debian in _DEBIAN.items()}.get(word, word)


def read_image(archive: ArchiveFile, architecture: str) -> StoredImage:
    """Return the image for the architecture. Raises InvalidRequest if there is none, or more than one."""
    if archive.has("index.json"):
        return _from_layout(archive, architecture)
    if archive.has("manifest.json"):
        return _from_docker(archive, architecture)
    raise broken("neither index.json nor manifest.json is in it: no archive of an image")


def _from_layout(archive: ArchiveFile, architecture: str) -> StoredImage:
    found = list(_manifests(archive, _json(archive, "index.json"), 0))
    fitting = {digest for digest, has in found if has in {"", architecture}}
    if not fitting:
        raise _wrong_architecture(architecture, {has for _, has in found})
    if len(fitting) > 1:
        raise refused(
            f"the archive has {len(fitting)} images",
            "make one with a single image: skopeo copy oci-archive:FILE:TAG oci-archive:NEW",
        )
    (digest,) = fitting
    manifest = _json(archive, blob_name(digest), digest)
    config_digest = _digest(_mapping(manifest.get("config")))
    layers = [_digest(_mapping(layer)) for layer in _sequence(manifest.get("layers"))]
    config = _json(archive, blob_name(config_digest), config_digest)
    contents = _contents(config, len(layers))
    stored = tuple(
        StoredLayer(blob_name(layer), layer, content) for layer, content in zip(layers, contents, strict=True)
    )
    return _image(digest, config, stored, architecture)


def _manifests(archive: ArchiveFile, index: Mapping[str, Any], level: int) -> Iterator[tuple[str, str]]:
    """Return digest and architecture (empty: not said) of each image."""
    if level > _MOST_NESTED:
        raise refused("its indexes are in each other too deep")
    entries = _sequence(index.get("manifests"))
    if len(entries) > _MOST_IMAGES:
        raise refused(f"it has more than {_MOST_IMAGES} images")
    for entry in map(_mapping, entries):
        digest, kind = _digest(entry), entry.get("mediaType", "")
        where = _mapping(entry.get("platform", {}))
        if kind in _INDEXES:
            if archive.has(blob_name(digest)):  # others may have been left out
                yield from _manifests(archive, _json(archive, blob_name(digest), digest), level + 1)
        elif kind in _MANIFESTS and where.get("os", "linux") == "linux":
            yield digest, str(where.get("architecture", ""))


def _from_docker(archive: ArchiveFile, architecture: str) -> StoredImage:
    images = _parsed(archive.document("manifest.json"), "manifest.json")
    if not isinstance(images, list) or not images:
        raise broken("manifest.json is no list of images")
    if len(images) > 1:
        raise refused(f"the archive has {len(images)} images", "save one image alone")
    image = _mapping(images[0])
    members = [_word(name) for name in _sequence(image.get("Layers"))]
    name = _word(image.get("Config"))
    config = _json(archive, name)
    contents = _contents(config, len(members))
    stored = tuple(
        StoredLayer(member, "", content) for member, content in zip(members, contents, strict=True)
    )
    return _image("", config, stored, architecture)


def _image(
    digest: str, config: Mapping[str, Any], layers: tuple[StoredLayer, ...], architecture: str
) -> StoredImage:
    has = config.get("architecture", "")
    if has != architecture or config.get("os", "linux") != "linux":
        raise _wrong_architecture(architecture, {str(has)})
    settings = _mapping(config.get("config") or {})
    labels = _mapping(settings.get("Labels") or {})
    return StoredImage(
        digest=digest,
        architecture=debian_architecture(architecture),
        layers=layers,
        environment=dict(_variable(text) for text in _sequence(settings.get("Env") or [])),
        labels={key: _word(value) for key, value in labels.items()},
        entrypoint=tuple(
            _word(word) for key in ("Entrypoint", "Cmd") for word in _sequence(settings.get(key) or [])
        ),
    )


def _contents(config: Mapping[str, Any], count: int) -> list[str]:
    found = [_word(digest) for digest in _sequence(_mapping(config.get("rootfs")).get("diff_ids"))]
    if not all(DIGEST.fullmatch(digest) for digest in found) or len(found) != count:
        raise broken("its configuration does not have a SHA-256 digest for each layer")
    if count > _MOST_LAYERS:
        raise refused(f"it has {count} layers; {_MOST_LAYERS} are allowed")
    return found


def _wrong_architecture(wanted: str, there: set[str]) -> Exception:
    has = ", ".join(sorted(shown(word) for word in there if word and word != "unknown"))
    return refused(f"it is not for this host's architecture, {wanted}, but for {has or 'an unknown one'}")


def _variable(text: object) -> tuple[str, str]:
    name, _, value = _word(text).partition("=")
    return name, value


def _digest(descriptor: Mapping[str, Any]) -> str:
    digest = _word(descriptor.get("digest"))
    blob_name(digest)
    return digest


def _json(archive: ArchiveFile, name: str, digest: str = "") -> Mapping[str, Any]:
    return _mapping(_parsed(archive.document(name, digest), name))


def _parsed(text: bytes, name: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(f"{shown(name)} is no JSON") from error


def _mapping(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise broken("a document in it has no object where one must be")
    return value


def _sequence(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise broken("a document in it has no list where one must be")
    return value


def _word(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise broken("a document in it has no text where one must be")
    return value
