"""Which agent to talk to: ``rnx-config.yml``, its places, and the socket of this host when there is none.

The file holds a private key, so nothing of its values is ever part of an error text.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
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

    A file that was named must exist: to go on with another one would run the job on another host.
    """
    if given:
        if not Path(given).is_file():
            raise RnxError(f"cannot read the configuration {given}: no such file", hint=HELP_HINT)
        return Path(given)
    places = (Path(place).expanduser() for place in SEARCHED)
    return next((place for place in places if os.access(place, os.R_OK) and place.is_file()), None)


def load_nodes(path: Path) -> dict[str, Node]:
    """Return the entries of the file by name. Raises RnxError naming the file and what is wrong with it."""
    content = _load_yaml(path)
    nodes = content.get("nodes") if isinstance(content, dict) else None
    if not isinstance(nodes, dict) or not nodes:
        raise RnxError(f"cannot use {path}: no nodes configured", hint=HELP_HINT)
    return {str(name): _node(str(name), entry) for name, entry in nodes.items()}


def resolve(config: str, node: str, environment: Mapping[str, str]) -> Target:
    """Return where a call goes: RNX_ADDRESS, the local socket, or an entry of the configuration."""
    address = environment.get("RNX_ADDRESS", "")
    if address:
        return _socket(address)
    if node == LOCAL_NODE:
        return Target(LOCAL_SOCKET)
    path = find_config(config)
    if path is not None:
        return _target(path, node or DEFAULT_NODE)
    if node in ("", DEFAULT_NODE):
        return Target(LOCAL_SOCKET)
    raise RnxError(f"cannot find node {node}: there is no configuration file", hint=HELP_HINT)


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
        raise RnxError(f"cannot find node {name} in {path}", hint=hint)
    if node.problem:
        raise RnxError(f"cannot use node {name} of {path}: {node.problem}", hint=HELP_HINT)
    credentials = Credentials(node.cert.encode(), node.key.encode(), node.ca.encode())
    return Target(node.address, credentials)


def _load_yaml(path: Path) -> object:
    import yaml  # noqa: PLC0415 - 20 ms that the local socket does not need

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RnxError(f"cannot read the configuration {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RnxError(f"cannot read the configuration {path}: not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise RnxError(f"cannot read the configuration {path}: {line}{error.problem}") from error
    except yaml.YAMLError as error:
        raise RnxError(f"cannot read the configuration {path}: not YAML") from error


def _node(name: str, entry: object) -> Node:
    if not isinstance(entry, dict):
        return Node(name, problem="it is not a map of address, cert, key and ca")
    texts = {key: str(entry.get(key) or "") for key in ("address", "nodeId", "cert", "key", "ca")}
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
