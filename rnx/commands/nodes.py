"""``rnx nodes`` and ``rnx config-help``: what the client configuration says and how it is written."""

import click

from rnx.cli import Command
from rnx.config import DEFAULT_NODE, Node, find_config, load_nodes, searched
from rnx.context import Settings
from rnx.exits import RnxError
from rnx.output import clean, show

EXAMPLE = """\
version: "3.0"
nodes:
  default:
    address: "agent.example.com:50051"
    nodeId: "8f94c5b2-1234-4567-8912-1234567890ab"   # optional, for display
    cert: |
      -----BEGIN CERTIFICATE-----
      ...
      -----END CERTIFICATE-----
    key: |
      -----BEGIN PRIVATE KEY-----
      ...
      -----END PRIVATE KEY-----
    ca: |
      -----BEGIN CERTIFICATE-----
      ...
      -----END CERTIFICATE-----
"""


@click.command("list", cls=Command, short_help="List the nodes of the configuration.")
@click.pass_obj
def list_nodes(settings: Settings) -> None:
    """List the nodes of the configuration.

    Reads the file alone; no connection is tried. The node that is used without --node is marked *.
    Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    show_nodes(settings)


def show_nodes(settings: Settings) -> None:
    """Print the nodes of the file that is used."""
    path = find_config(settings.config)
    if path is None:
        raise RnxError("cannot find a configuration file", hint="rnx config-help says where it is looked for")
    found = sorted(load_nodes(path).values(), key=lambda node: node.name)
    show(
        settings.form,
        [_as_data(node) for node in found],
        lambda: "\n\n".join(_as_text(node) for node in found),
    )


@click.command("config-help", cls=Command, short_help="Explain the client configuration.")
def config_help() -> None:
    """Explain the client configuration."""
    places = "\n".join(f"  {place}" for place in searched())
    click.echo(
        "rnx talks to the agent of this host over /run/joblet/agent.sock, which needs no configuration.\n"
        "For other hosts it reads rnx-config.yml: the file that --config or RNX_CONFIG names,\n"
        "else the first of these, which must be yours or root's:\n\n"
        f"{places}\n\n"
        "With such a file, --node=NAME picks an entry (without it: default), and --node=local\n"
        "means this host. "
        "RNX_ADDRESS=unix:PATH goes to another local socket.\n"
        "Keep the file private (chmod 600): it holds a key.\n\n"
        "rnx config import FILE takes over a file that an administrator issued, into ~/.rnx/rnx-config.yml;\n"
        "rnx nodes add makes an entry of PEM files, rnx nodes test connects, rnx doctor says what is wrong.\n"
        "By hand it is written so, in at most 1 MiB and without aliases (*name):\n\n"
        f"{EXAMPLE}\n"
        "The agent's certificate must carry the name joblet. Your role is the organisational unit of the\n"
        "client certificate."
    )


def _as_data(node: Node) -> dict[str, object]:
    data: dict[str, object] = {"name": node.name, "address": node.address}
    if node.node_id:
        data["nodeId"] = node.node_id
    return data | {"status": "error" if node.problem else "active", "default": node.name == DEFAULT_NODE}


def _as_text(node: Node) -> str:
    mark = "*" if node.name == DEFAULT_NODE else " "
    lines = [f"{mark} {clean(node.name)}", f"  Address: {clean(node.address) or '-'}"]
    if node.node_id:
        lines.append(f"  Node ID: {clean(node.node_id)}")
    secrets = {"Cert": node.cert, "Key": node.key, "CA": node.ca}
    lines += [f"  {name}: {'***' if value else 'missing'}" for name, value in secrets.items()]
    return "\n".join([*lines, f"  Problem: {clean(node.problem)}"] if node.problem else lines)
