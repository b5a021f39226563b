"""Which agent to talk to: ``rnx-config.yml``, its places, and the socket of this host when there is none.

The file holds a private key, so nothing of its values is ever part of an error text.
"""

import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rnx.exits import RnxError, near

LOCAL_NODE = "local"
DEFAULT_NODE = "default"
LOCAL_SOCKET = "unix:/run/joblet/agent.sock"
SEARCHED = (
    "./rnx-config.yml",
    "./config/rnx-config.yml",
    "~/.rnx/rnx-config.yml",
    "/etc/joblet/rnx-config.yml",
    "/opt/joblet/config/rnx-config.yml",
)
SERVER_NAME = "joblet"
"""The name in every agent's certificate."""
HELP_HINT = "rnx config-help explains the file"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The three PEM texts of a client."""

    certificate: bytes
    key: bytes
    authority: bytes


@dataclass(frozen=True, slots=True)
class Target:
    """An address and how to prove who we are; without credentials it is a socket of this host."""

    address: str
    credentials: Credentials | None = None
    warning: str = field(default="", compare=False)
    """What the user should know about where this comes from; for a line on standard error."""


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of ``nodes`` as it is written; ``problem`` says why it cannot be used."""

    name: str
    address: str = ""
    node_id: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    problem: str = ""


def find_config(given: str) -> Path | None:
    """Return the file that ``--config`` or RNX_CONFIG names, else the first of SEARCHED we can read.

    A file that was named must exist: to go on with another one would run the job on another host. One
    that was not named must be the user's or root's: in a directory like /tmp anybody could put one.
    """
    if given:
        if not Path(given).is_file():
            raise RnxError(
                f"cannot read the configuration {given}: no such file",
                hint=HELP_HINT,
                reason="NO_CONFIGURATION",
            )
        return Path(given)
    places = (Path(place).expanduser() for place in searched())
    found = next((place for place in places if os.access(place, os.R_OK) and place.is_file()), None)
    if sys.platform != "win32" and found is not None and found.stat().st_uid not in {0, os.geteuid()}:
        raise RnxError(
            f"cannot use {found}: another user owns it, who would decide where jobs and secrets go",
            hint=f"if that is meant: --config={found}",
            reason="FOREIGN_CONFIGURATION",
        )
    return found


def searched() -> tuple[str, ...]:
    """Return where a configuration may be that nobody named.

    Windows tells no owner of a file that we could ask for, so there it is the user's own directory alone.
    """
    return SEARCHED if sys.platform != "win32" else tuple(place for place in SEARCHED if place[0] == "~")


def load_nodes(path: Path) -> dict[str, Node]:
    """Return the entries of the file by name. Raises RnxError naming the file and what is wrong with it."""
    from rnx.yamlfile import read_document, read_text  # noqa: PLC0415 - the local socket needs no file

    return nodes_of(read_document(read_text(path), str(path)), str(path))


def nodes_of(document: object, source: str) -> dict[str, Node]:
    """Return the entries of a configuration that was read. Raises RnxError if it has none."""
    nodes = document.get("nodes") if isinstance(document, dict) else None
    if not isinstance(nodes, dict) or not nodes:
        raise RnxError(f"cannot use {source}: no nodes configured", hint=HELP_HINT, reason="NO_NODES")
    return {name: _node(name, entry) for name, entry in nodes.items()}


def resolve(config: str, node: str, environment: Mapping[str, str]) -> Target:
    """Return where a call goes: RNX_ADDRESS, the local socket, or an entry of the configuration."""
    address = environment.get("RNX_ADDRESS", "")
    if address:
        return _socket(address)
    if node == LOCAL_NODE:
        return _local()
    path = find_config(config)
    if path is not None:
        return _target(path, node or DEFAULT_NODE)
    if node in ("", DEFAULT_NODE):
        return _local()
    raise RnxError(
        f"cannot find node {node}: there is no configuration file", hint=HELP_HINT, reason="NO_CONFIGURATION"
    )


def _local() -> Target:
    if sys.platform != "linux":
        raise RnxError(
            "cannot find an agent: there is no configuration file, and on this system there are no agents",
            hint="rnx config import FILE takes what an administrator of an agent's host gave you",
            reason="NO_CONFIGURATION",
        )
    return Target(LOCAL_SOCKET)


def _socket(address: str) -> Target:
    if not address.startswith("unix:"):
        raise RnxError(
            f"cannot use RNX_ADDRESS={address}: only unix:PATH needs no certificates",
            hint="put other addresses with their certificates into rnx-config.yml",
        )
    return Target(address)


def _target(path: Path, name: str) -> Target:
    nodes = load_nodes(path)
    node = nodes.get(name)
    if node is None:
        hint = near(name, list(nodes)) or f"the file has: {', '.join(sorted(nodes))}"
        raise RnxError(f"cannot find node {name} in {path}", hint=hint, reason="NODE_NOT_FOUND")
    if node.problem:
        raise RnxError(f"cannot use node {name} of {path}: {node.problem}", hint=HELP_HINT, reason="BAD_NODE")
    credentials = Credentials(node.cert.encode(), node.key.encode(), node.ca.encode())
    return Target(node.address, credentials, warning=openness(path))


def openness(path: Path) -> str:
    """Say that other users can read or change the file, and how to mend it; nothing if they cannot."""
    if sys.platform == "win32":
        return ""  # access lists say it there, and modes nothing
    mode = stat.S_IMODE(path.stat().st_mode)
    if not mode & 0o066:
        return ""
    from shlex import quote  # noqa: PLC0415 - the good mode does without

    able = "read" if mode & 0o044 else "change"
    mend = f"chmod 600 {quote(str(path))}"
    return f"other users can {able} the private key in {path} (mode {mode:04o}): {mend}"


def _node(name: str, entry: object) -> Node:
    if not isinstance(entry, dict):
        return Node(name, problem="it is not a map of address, cert, key and ca")
    texts = {key: str(entry.get(key, "")) for key in ("address", "nodeId", "cert", "key", "ca")}
    return Node(
        name,
        address=texts["address"],
        node_id=texts["nodeId"],
        cert=texts["cert"],
        key=texts["key"],
        ca=texts["ca"],
        problem=_problem(texts),
    )


def _problem(texts: Mapping[str, str]) -> str:
    """Say what of an entry cannot work; gRPC's own words for a damaged PEM text tell nobody anything."""
    missing = [key for key in ("address", "cert", "key", "ca") if not texts[key].strip()]
    if missing:
        return f"it has no {', '.join(missing)}"
    wrong = [key for key in ("cert", "key", "ca") if "-----BEGIN " not in texts[key]]
    return f"no PEM text in {', '.join(wrong)}" if wrong else ""
