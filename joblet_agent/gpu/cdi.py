"""CDI files (container device interface): what a driver's own tool says that a container needs. Pure.

Read strictly: the agent mounts what stands there into jobs, as root. Hooks are not run; what NVIDIA's do
(links for the names of libraries, the linker's cache) the names of ``GpuDriver.libraries`` make needless.
"""

import json
import re
from collections.abc import Iterator, Mapping
from posixpath import basename, normpath
from typing import Any

from joblet_agent.model.gpu import GpuDriver, GpuNode
from joblet_agent.yaml_file.nodes import Entries, Items, Node, parse
from joblet_agent.yaml_file.problems import Problems, shown

KIND = "nvidia.com/gpu"
MOST_BYTES = 1024 * 1024
"""Of a file; a host with sixteen GPUs has 30 KB."""
MOST_GPUS = 1024

_VERSION = re.compile(r"(0|1)\.[0-9]+\.[0-9]+")
_INDEX = re.compile(r"[0-9]{1,4}")
_LIBRARY = re.compile(r"lib[A-Za-z0-9_+.-]*\.so(\.[0-9][0-9.]*)?")


class CdiFault(Exception):
    """The file is not what it should be; the text says what of it."""


def read(text: str, source: str) -> GpuDriver | None:
    """Return the GPUs that a CDI file tells of, libraries by their own names; None for other devices.

    Raises CdiFault. ``source`` is the file's path.
    """
    document = _map(_document(text, is_json=source.endswith(".json")), "the file")
    if not _VERSION.fullmatch(_text(document, "cdiVersion", "the file")):
        raise CdiFault(f"cdiVersion {shown(str(document['cdiVersion']))} is not known")
    if _text(document, "kind", "the file") != KIND:
        return None
    common = _map(document.get("containerEdits", {}), "containerEdits")
    libraries = list(_libraries(common, "containerEdits"))
    gpus: dict[int, tuple[GpuNode, ...]] = {}
    devices = _list(document.get("devices", []), "devices")
    for number, each in enumerate(devices[: MOST_GPUS + 1]):
        where = f"devices[{number}]"
        device = _map(each, where)
        name = _text(device, "name", where)
        if not _INDEX.fullmatch(name):
            continue  # "all", a UUID, a part of a GPU: other names for the same
        edits = _map(device.get("containerEdits", {}), f"{where}.containerEdits")
        if int(name) in gpus or len(gpus) == MOST_GPUS:
            raise CdiFault(f"{where}: there is a device {name} already, or there are too many")
        gpus[int(name)] = tuple(_nodes(edits, f"{where}.containerEdits"))
        if not gpus[int(name)]:
            raise CdiFault(f"{where}: it has no deviceNodes")
        libraries += _libraries(edits, f"{where}.containerEdits")
    if not gpus:
        raise CdiFault("it has no device whose name is a number (nvidia-ctk cdi generate makes them)")
    return GpuDriver(
        source=source,
        gpus=tuple(sorted(gpus.items())),
        shared=tuple(_nodes(common, "containerEdits")),
        libraries=tuple(dict.fromkeys(libraries)),
    )


def _nodes(edits: Mapping[str, Any], where: str) -> Iterator[GpuNode]:
    for number, each in enumerate(_list(edits.get("deviceNodes", []), f"{where}.deviceNodes")):
        key = f"{where}.deviceNodes[{number}]"
        node = _map(each, key)
        target = _path(_text(node, "path", key), key)
        host = _path(_text(node, "hostPath", key), key) if "hostPath" in node else target
        for path in (host, target):
            if not path.startswith("/dev/"):
                raise CdiFault(f"{key}: {shown(path)} is not below /dev")
        yield GpuNode(host, target)


def _libraries(edits: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    for number, each in enumerate(_list(edits.get("mounts", []), f"{where}.mounts")):
        key = f"{where}.mounts[{number}]"
        mount = _map(each, key)
        host = _path(_text(mount, "hostPath", key), key)
        name = basename(_path(_text(mount, "containerPath", key), key))
        if _LIBRARY.fullmatch(name):  # the others are programs, settings and sockets of services
            yield host, name


def _document(text: str, *, is_json: bool) -> Any:
    if len(text) > MOST_BYTES:
        raise CdiFault(f"it has more than {MOST_BYTES} bytes")
    if is_json:
        try:
            return json.loads(text, object_pairs_hook=_once)
        except (ValueError, RecursionError) as error:
            raise CdiFault(f"not JSON: {error}") from error
    problems = Problems()
    root = parse(text, problems)
    if problems.found or root is None:
        found = problems.sorted()
        raise CdiFault(found[0].shown("the file") if found else "it is empty")
    return _plain(root)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice")
    return found


def _plain(node: Node) -> Any:
    match node:
        case Entries(entries=entries):
            return {name: _plain(value) for name, value in entries.items()}
        case Items(items=items):
            return [_plain(each) for each in items]
        case _:
            return node.text


def _map(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CdiFault(f"{where}: expected keys with values")
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise CdiFault(f"{where}: expected a list")
    return value


def _text(entries: Mapping[str, Any], key: str, where: str) -> str:
    value = entries.get(key)
    if not isinstance(value, str) or not value:
        raise CdiFault(f"{where}: {key} is missing, or no text")
    return value


def _path(text: str, where: str) -> str:
    # systemd takes a path apart at colons and white space, and reads % and backslashes in unit files.
    if not re.fullmatch(r"/[A-Za-z0-9/._+@,-]+", text) or normpath(text) != text or text.startswith("//"):
        raise CdiFault(f"{where}: {shown(text)} is no plain absolute path")
    return text
