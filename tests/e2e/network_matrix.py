"""Who reaches whom, by IPv4 and by IPv6: networks, the host, the outside, metadata and link-local addresses.

``python3 -m tests.e2e.network_matrix`` in a machine with the agent prints the table as JSON and exits with 1
if it is not as it has to be; ``tests/vm`` does that before and after a reboot.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from tests.e2e import network_world as world
from tests.e2e.agent import Client, command, wait_for_agent
from tests.e2e.network_world import PORT, Place, Question

AGENT_PORT = 50051
_MADE = {
    "matrix-a": ("--cidr=10.97.1.0/24",),
    "matrix-b": ("--cidr=10.97.2.0/24",),
    "matrix-i": ("--cidr=10.97.3.0/24", "--internal"),
}
NETWORKS = ("isolated", "bridge", *_MADE)

_SERVICES = frozenset({"host service", "host's agent port"})

EXPECTED: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "isolated": frozenset({"outside"}),
    "bridge": frozenset({"same network", "outside"}),
    "matrix-a": frozenset({"same network", "outside"}),
    "matrix-b": frozenset({"same network", "outside"}),
    "matrix-i": frozenset({"same network"}),
    "host": frozenset({f"job on {name}" for name in NETWORKS} | {"outside"} | _SERVICES),
    "outside": _SERVICES | {"outside"},
}
"""What is reached from where; everything else is not. It is the same for IPv4 and IPv6."""

Table = dict[str, dict[str, bool]]
"""From where, what (with the protocol's version): whether it is reached."""


@dataclass(frozen=True)
class Matrix:
    """The places, while they are there."""

    jobs: Mapping[str, tuple[Place, Place]]
    """Two jobs on each network."""
    lonely: Place
    host: Place
    outside: Place
    gateways: Mapping[str, tuple[str, str]]
    link_locals: Mapping[str, str]
    """Addresses of the bridges, which their jobs could name."""

    def table(self) -> Table:
        """Ask everybody for everybody."""
        askers = {"none": self.lonely, **{name: pair[0] for name, pair in self.jobs.items()}}
        askers |= {"host": self.host, "outside": self.outside}
        return {name: self._row(name, place) for name, place in askers.items()}

    def _row(self, name: str, asker: Place) -> dict[str, bool]:
        questions = dict(self._questions(name))
        answers = asker.ask_all(list(questions.values()))
        return {what: not answer.startswith("!") for what, answer in zip(questions, answers, strict=True)}

    def _questions(self, asker: str) -> Iterator[tuple[str, Question]]:
        for network, (_, other) in self.jobs.items():
            what = "same network" if network == asker else f"job on {network}"
            yield f"{what}, IPv4", ("tcp", other.address4, PORT)
            yield f"{what}, IPv6", ("tcp", other.address6, PORT)
        for version, own, far in (
            ("IPv4", world.HOST4, world.FAR4),
            ("IPv6", world.HOST6, world.FAR6),
        ):
            yield f"outside, {version}", ("tcp", far, PORT)
            yield f"host service, {version}", ("tcp", own, PORT)
            yield f"host's agent port, {version}", ("tcp", own, AGENT_PORT)
        if asker in {"host", "outside"}:  # theirs to decide
            return
        yield "metadata, IPv4", ("tcp", world.METADATA4, PORT)
        yield "metadata, IPv6", ("tcp", world.METADATA6, PORT)
        yield "link-local, IPv4", ("tcp", world.LINK_LOCAL4, PORT)
        yield "link-local, IPv6", ("tcp", f"{self.link_locals.get(asker, 'fe80::1')}%eth0", PORT)
        yield "host's loopback, IPv4", ("tcp", "127.0.0.2", AGENT_PORT)
        for network, (gateway4, gateway6) in self.gateways.items():
            yield f"gateway of {network}, IPv4", ("tcp", gateway4, AGENT_PORT)
            yield f"gateway of {network}, IPv6", ("tcp", gateway6, PORT)


def wrong(table: Table) -> list[str]:
    """Return what is reached and must not be, and the other way round."""
    return [
        f"{asker}: {what} is {'' if is_reached else 'not '}reached"
        for asker, row in table.items()
        for what, is_reached in row.items()
        if is_reached != (what.rsplit(",", 1)[0] in EXPECTED[asker])
    ]


def bridges() -> Iterator[tuple[str, str, str, str]]:
    """Yield the networks with their bridges and those bridges' addresses."""
    for row in json.loads(command("rnx", "--json", "network", "list").stdout)["networks"]:
        if row["bridge"]:
            four, six = IPv4Network(row["cidr"]), IPv6Network(row["cidr6"])
            yield row["name"], row["bridge"], str(four[1]), str(six[1])


def link_local(bridge: str) -> str:
    """Return the bridge's own IPv6 address of that kind."""
    shown = json.loads(command("ip", "-json", "-6", "address", "show", "dev", bridge).stdout)
    addresses = [address for link in shown for address in link.get("addr_info", ())]
    return next(str(address["local"]) for address in addresses if address["scope"] == "link")


@contextmanager
def matrix(client: Client) -> Iterator[Matrix]:
    """Two jobs on each network, one without, a service on the host and one outside, within the block."""
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(world.around())
        for name, flags in _MADE.items():
            enter(world.network(name, *flags))
        jobs = {
            name: (
                enter(world.job(client, f"{name}-1", name)),
                enter(world.job(client, f"{name}-2", name)),
            )
            for name in NETWORKS
        }
        lonely = enter(world.lonely_job(client, "lonely"))
        found = list(bridges())
        gateways = {name: (four, six) for name, _, four, six in found}
        # A bridge without a job has no carrier, and so none.
        link_locals = {name: link_local(bridge) for name, bridge, _, _ in found if name in jobs}
        yield Matrix(
            jobs, lonely, enter(world.host(AGENT_PORT)), enter(world.outside()), gateways, link_locals
        )


def main() -> None:
    """Print the table; exit status 1 if something in it is wrong."""
    client = Client()
    wait_for_agent(client)
    with matrix(client) as made:
        table = made.table()
    client.close()
    print(json.dumps(table, indent=1))
    sys.exit("\n".join(wrong(table)) or None)


if __name__ == "__main__":
    main()
