"""``rnx config import``, ``rnx nodes add`` and ``remove``: what changes the client configuration."""

import sys
from pathlib import Path

import click

from rnx import candidates
from rnx.cli import Command
from rnx.config import find_config, nodes_of
from rnx.configfile import Entry, check_node, own_file, put_nodes, remove_node
from rnx.context import Settings
from rnx.exits import RnxError, UsageError
from rnx.output import clean, show
from rnx.yamlfile import MOST_BYTES, decoded, read_document, read_text

STANDARD_INPUT = "-"


@click.command(
    "import", cls=Command, short_help="Take over the nodes of a file that an administrator issued."
)
@click.argument("file", shell_complete=candidates.files)
@click.option("--name", help="call the node so; the file must have one only")
@click.option("--force", is_flag=True, help="replace nodes of the same name")
@click.pass_obj
def import_file(settings: Settings, file: str, name: str | None, force: bool) -> None:
    """Take over the nodes of FILE, which an administrator issued; - is standard input.

    Certificates and keys are checked first, then the nodes are added to --config, or else to
    ~/.rnx/rnx-config.yml, mode 0600. Nothing is sent. Comments in that file are not kept.
    Exit status: 0 done, 1 failed, and nothing is changed, 2 wrong usage.

    Example: ssh root@node7 joblet-agent pki issue alice --role viewer -o - | rnx config import -
    """
    entries = _entries(file)
    if name is not None:
        if len(entries) != 1:
            raise UsageError(f"cannot use --name: {file} has {len(entries)} nodes: {', '.join(entries)}")
        entries = {name: next(iter(entries.values()))}
    _put(settings, entries, source=file, force=force)
    if file != STANDARD_INPUT and Path(file).resolve() != own_file(settings.config).resolve():
        print(f"rnx: {clean(file)} still holds the private key: remove it", file=sys.stderr)


@click.command("add", cls=Command, short_help="Add a node to the configuration.")
@click.argument("name")
@click.option("--address", required=True, metavar="HOST:PORT", help="where the agent listens")
@click.option(
    "--cert", required=True, metavar="FILE", shell_complete=candidates.files, help="your certificate, PEM"
)
@click.option(
    "--key", required=True, metavar="FILE", shell_complete=candidates.files, help="its private key, PEM"
)
@click.option(
    "--ca",
    required=True,
    metavar="FILE",
    shell_complete=candidates.files,
    help="certificate of the CA of the agent, PEM",
)
@click.option("--force", is_flag=True, help="replace a node of the same name")
@click.pass_obj
def add(settings: Settings, name: str, *, address: str, cert: str, key: str, ca: str, force: bool) -> None:
    """Add a node NAME to the configuration, with the content of the files.

    They are checked first, then the node is added to --config, or else to ~/.rnx/rnx-config.yml, mode 0600.
    Nothing is sent: `rnx nodes test NAME` does. Exit status: 0 done, 1 failed, and nothing is changed,
    2 wrong usage.

    Example: rnx nodes add east --address=east.example.com:50051 --cert=me.crt --key=me.key --ca=ca.crt
    """
    files = {part: read_text(Path(file)) for part, file in (("cert", cert), ("key", key), ("ca", ca))}
    _put(settings, {name: {"address": address, **files}}, source="the command line", force=force)


@click.command("remove", cls=Command, short_help="Remove a node from the configuration.")
@click.argument("name", shell_complete=candidates.nodes)
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Remove the node NAME, with its key, from --config, or else from ~/.rnx/rnx-config.yml.

    With the last node the file is removed. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    path = own_file(settings.config)
    remove_node(path, name)
    show(settings.form, {"name": name, "removed": True}, lambda: f"Node removed: {clean(name)}")


def _entries(file: str) -> dict[str, Entry]:
    """Return the nodes of the file as they are written."""
    if file == STANDARD_INPUT:
        text = decoded(sys.stdin.buffer.read(MOST_BYTES + 1), "standard input")
    else:
        text = read_text(Path(file))
    document = read_document(text, file)
    nodes = nodes_of(document, file)
    entries = document["nodes"] if isinstance(document, dict) else {}
    return {name: entries[name] for name in nodes}


def _put(settings: Settings, entries: dict[str, Entry], *, source: str, force: bool) -> None:
    path = own_file(settings.config)
    checked = {name: check_node(node, source) for name, node in nodes_of({"nodes": entries}, source).items()}
    put_nodes(path, entries, force=force)
    data = [
        {
            "name": name,
            "address": str(entries[name]["address"]),
            "caller": certificate.name,
            "role": certificate.role.lower(),
            "certificateExpires": f"{certificate.until:%Y-%m-%dT%H:%M:%SZ}",
            "file": str(path),
        }
        for name, certificate in checked.items()
    ]
    line = "Node {name} in {file}: {address}, {caller} as {role}, until {certificateExpires}"
    show(settings.form, data, lambda: "\n".join(clean(line.format(**each)) for each in data))
    _warn(settings, path)


def _warn(settings: Settings, path: Path) -> None:
    """Say that another file than the one that was changed is used."""
    try:
        used = find_config(settings.config)
    except RnxError:
        used = None
    if used is not None and used.resolve() != path.resolve():
        print(f"rnx: {clean(str(used))} is found first: it is used here without --config", file=sys.stderr)
