"""The commands on networks of jobs; each is one call."""

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

import click

from rnx import candidates
from rnx.cli import Command
from rnx.context import Settings
from rnx.exits import RnxError, UsageError
from rnx.networks import BUILT_IN, dot, in_order, network_data, network_table, network_text, tree, whole_data
from rnx.output import Format, clean, show
from rnx.traffic import read_bandwidth


@click.command("create", cls=Command, short_help="Make a network for jobs.")
@click.argument("name")
@click.option("--cidr", required=True, metavar="RANGE", help="IPv4 range, e.g. 10.10.0.0/24")
@click.option(
    "--cidr6", default="", metavar="RANGE", help="IPv6 range, e.g. fd12:3456:789a:1::/64; else one is chosen"
)
@click.option("--internal", is_flag=True, help="no way to the outside: its jobs reach each other only")
@click.option(
    "--mtu", type=click.IntRange(1280, 65535), metavar="BYTES", help="largest packet (kernel's default)"
)
@click.option(
    "--dns",
    multiple=True,
    metavar="ADDR",
    help="server for names of the outside; may be repeated (host's own)",
)
@click.option(
    "--bandwidth",
    default="",
    metavar="RATE",
    help="most bits per second between all its jobs and the rest, each way: 100mbit",
)
@click.pass_obj
def create(
    settings: Settings,
    *,
    name: str,
    cidr: str,
    cidr6: str,
    internal: bool,
    mtu: int | None,
    dns: tuple[str, ...],
    bandwidth: str,
) -> None:
    """Make a network, whose jobs reach each other by address, id and name, and the outside.

    The range must not overlap with another network or with what the host itself reaches.
    Permission: manage. Exit status: 0 made, 1 failed, 2 wrong usage.

    Example: rnx network create backend --cidr=10.10.0.0/24 --internal
    """
    if name in BUILT_IN:
        raise UsageError(f"cannot make network {name}: it is built in", hint="choose another name")
    _check_range("--cidr", cidr, IPv4Network)
    if cidr6:
        _check_range("--cidr6", cidr6, IPv6Network)
    for address in dns:
        _check_address("--dns", address)
    rate = read_bandwidth("--bandwidth", bandwidth) if bandwidth else 0
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        request = pb.CreateNetworkRequest(
            name=name, cidr=cidr, cidr6=cidr6, internal=internal, mtu=mtu or 0, dns=dns, bandwidth=rate
        )
        reply = client.call(client.networks.CreateNetwork, request, LONG)
    data = {"name": reply.name, "cidr": reply.cidr, "bridge": reply.bridge}
    show(settings.form, data, lambda: _created(reply))


@click.command("list", cls=Command, short_help="List networks, built-in ones first.")
@click.pass_obj
def list_networks(settings: Settings) -> None:
    """List networks, built-in ones first.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.networks.ListNetworks, pb.EmptyRequest(), SHORT)
    networks = in_order(reply.networks)
    data = {"networks": [network_data(each) for each in networks]} if networks else []
    show(settings.form, data, lambda: network_table(networks))


@click.command("inspect", cls=Command, short_help="Show a network and the jobs on it.")
@click.argument("name", shell_complete=candidates.networks)
@click.pass_obj
def inspect(settings: Settings, name: str) -> None:
    """Show a network and the jobs on it, with addresses and published ports.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.
    """
    found = _networks(settings, name)
    if not found:
        raise RnxError(f"no network with the name {name}", hint="see: rnx network list")
    show(settings.form, whole_data(found[0]), lambda: network_text(found[0]))


@click.command("graph", cls=Command, short_help="Draw all networks and the jobs on them.")
@click.option("--dot", "as_dot", is_flag=True, help="in the language of graphviz, for dot(1)")
@click.pass_obj
def graph(settings: Settings, as_dot: bool) -> None:
    """Draw the outside, the host, its networks, and the jobs on them with addresses and published ports.

    Permission: read. Exit status: 0 done, 1 failed, 2 wrong usage.

    Example: rnx network graph --dot | dot -Tsvg > networks.svg
    """
    if as_dot and settings.form is not Format.TABLE:
        raise UsageError(f"cannot use --dot together with -o {settings.form}: DOT is a form of its own")
    networks = in_order(_networks(settings, ""))
    data = {"networks": [whole_data(each) for each in networks]}
    show(settings.form, data, lambda: dot(networks) if as_dot else tree(networks))


@click.command("remove", cls=Command, short_help="Remove a network that no job uses.")
@click.argument("name", shell_complete=candidates.networks)
@click.pass_obj
def remove(settings: Settings, name: str) -> None:
    """Remove a network that no job uses. Nothing of it stays on the host.

    Permission: manage. Exit status: 0 removed, 1 failed, 2 wrong usage.
    """
    if name in BUILT_IN:
        raise UsageError(f"cannot remove network {name}: it is built in")
    with settings.connect() as client:
        from rnx.client import LONG, pb  # noqa: PLC0415

        reply = client.call(client.networks.RemoveNetwork, pb.RemoveNetworkRequest(name=name), LONG)
    if not reply.success:
        why = reply.message.removeprefix(f"cannot remove network {name}: ").removeprefix(
            "cannot remove network: "
        )
        raise RnxError(f"Failed to remove network: {why}")
    data = {"name": name, "removed": True}
    show(settings.form, data, lambda: f"Network '{clean(name)}' removed successfully")


def _networks(settings: Settings, name: str) -> list[Any]:
    """Return the network of the name, or all of them, with their members."""
    with settings.connect() as client:
        from rnx.client import SHORT, pb  # noqa: PLC0415

        reply = client.call(client.agent.GetNetworks, pb.GetNetworksRequest(name=name), SHORT)
    return list(reply.networks)


def _created(reply: Any) -> str:
    return "\n".join(
        [
            "Network created successfully:",
            f"Name: {clean(reply.name)}",
            f"CIDR: {clean(reply.cidr)}",
            f"Bridge: {clean(reply.bridge)}",
            f"Use it: rnx run --network={clean(reply.name)} COMMAND",
        ]
    )


def _check_range(flag: str, text: str, kind: type[IPv4Network | IPv6Network]) -> None:
    example = "10.10.0.0/24" if kind is IPv4Network else "fd12:3456:789a:1::/64"
    try:
        whole = kind(text, strict=False)
    except ValueError:
        words = "not a range of IPv4 addresses" if kind is IPv4Network else "not a range of IPv6 addresses"
        raise UsageError(
            f"cannot read {flag}={text}: {words}", hint=f"for example {flag}={example}"
        ) from None
    first, _, length = text.partition("/")
    if not length or ip_address(first) != whole.network_address:
        raise UsageError(
            f"cannot read {flag}={text}: it is one address, not a range",
            hint=f"write {flag}={whole}" if length else f"for example {flag}={example}",
        )


def _check_address(flag: str, text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise UsageError(
            f"cannot read {flag}={text}: not an address", hint=f"for example {flag}=9.9.9.9"
        ) from None
