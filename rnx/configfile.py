"""Changing ``rnx-config.yml``: whole or not at all, for its owner alone, one change at a time.

What others wrote into the file stays, its comments do not: it is read and written again.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rnx.certificate import Certificate, check_own
from rnx.changelock import Taken, one_at_a_time
from rnx.config import HELP_HINT, LOCAL_NODE, Credentials, Node
from rnx.exits import RnxError
from rnx.troubles import place_of
from rnx.yamlfile import read_document, read_text

OWN = "~/.rnx/rnx-config.yml"
"""The file that is changed unless another one is named."""

Entry = dict[str, object]


def own_file(given: str) -> Path:
    """Return the file that commands change: the one that was named, or that of the user."""
    return Path(given or OWN).expanduser()


def check_node(node: Node, source: str) -> Certificate:
    """Return the node's certificate. Raises RnxError if nobody could ever connect with the entry, now."""
    name = node.name
    if not name or not name.isprintable() or name != name.strip() or name == LOCAL_NODE:
        raise RnxError(
            f"cannot use the name {name!r} for a node of {source}",
            hint=f"one of printable characters, other than {LOCAL_NODE}, which means this host",
            reason="BAD_NODE_NAME",
        )
    if node.problem:
        raise RnxError(
            f"cannot use node {name} of {source}: {node.problem}", hint=HELP_HINT, reason="BAD_NODE"
        )
    try:
        place_of(node.address)
        return check_own(Credentials(node.cert.encode(), node.key.encode(), node.ca.encode()))
    except RnxError as error:
        raise type(error)(
            f"cannot use node {name} of {source}: {error}", hint=error.hint, reason=error.reason
        ) from error


def put_nodes(path: Path, entries: Mapping[str, Entry], *, force: bool) -> None:
    """Add the nodes to the file, which is made if there is none.

    Raises RnxError, and changes nothing, if a node of that name is there and differs, unless ``force``.
    """
    with _edited(path) as nodes:
        taken = [name for name in entries if nodes.get(name, entries[name]) != entries[name]]
        if taken and not force:
            raise RnxError(
                f"cannot change {path}: it has a node {', '.join(taken)}",
                hint="--force replaces it; rnx config import --name gives another name",
                reason="NODE_EXISTS",
            )
        nodes.update(entries)


def remove_node(path: Path, name: str) -> None:
    """Take the node out of the file, and with the last one the file away. Raises RnxError."""
    with _edited(path) as nodes:
        if name not in nodes:
            raise RnxError(
                f"cannot find node {name} in {path}",
                hint="--config=PATH names another file; rnx nodes lists its nodes",
                reason="NODE_NOT_FOUND",
            )
        del nodes[name]


@contextmanager
def _edited(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the nodes of the file to be changed in place, and write them unless something is raised."""
    try:
        path = path.resolve()  # a link stays a link
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with one_at_a_time(path.parent):
            document = _read(path)
            yield document["nodes"]
            if not document["nodes"]:
                path.unlink()
            else:
                _replace(path, _text(document))
    except Taken as error:
        raise RnxError(
            f"cannot change the configuration in {path.parent}: another rnx is at it", hint="try again"
        ) from error
    except OSError as error:
        raise RnxError(
            f"cannot change {path}: {error.strerror}", hint="--config=PATH names another file"
        ) from error


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"version": "3.0", "nodes": {}}
    document = read_document(read_text(path), str(path))
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(nodes, dict):
        raise RnxError(f"cannot change {path}: it is no configuration of nodes", hint=HELP_HINT)
    return document


def _replace(path: Path, text: str) -> None:
    """Put the file in its place with one rename, with the owner it had, readable for nobody else.

    On Windows it has the access rights of its directory, which are the user's own in the user's profile.
    """
    fresh = path.with_name(f".{path.name}.new")
    with suppress(FileNotFoundError):
        fresh.unlink()  # of one that was killed
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            if sys.platform != "win32" and path.exists():
                os.fchown(descriptor, path.stat().st_uid, path.stat().st_gid)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        fresh.replace(path)  # closed, or Windows would not
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def _text(document: Mapping[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - see yamlfile.py

    class Dumper(yaml.SafeDumper):
        """Writes texts of several lines as blocks, as people know PEM."""

    def text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)

    Dumper.add_representer(str, text)
    written: str = yaml.dump(document, Dumper=Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return written
