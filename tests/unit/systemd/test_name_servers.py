"""The servers of names: what is written for them, and when they are started."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, cast

import pytest

from joblet_agent.errors import HostUnavailable, InvalidRequest, NotFound
from joblet_agent.model.network import IPAddress, Network
from joblet_agent.systemd import name_servers
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.name_servers import DnsmasqServers, configuration, hosts_text

NETWORK = Network("back-1", "joblet-back-1", IPv4Network("10.10.0.0/24"), IPv6Network("fd00::/64"))
UNIT = "joblet-dns@back-1.service"
WEB = {"web": [IPv4Address("10.10.0.2")]}


class FakeBus:
    """Units that run from their start to their stop; a server has the configuration of its start."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.is_deaf = False
        self.foreign: bytes | None = None

    async def manager(self, member: str, _signature: str = "", body: Sequence[Any] = ()) -> Sequence[Any]:
        await asyncio.sleep(0)
        if member == "ListUnitsByPatterns":
            return [[[name] for name in self.running]]
        unit = str(body[0])
        self.calls.append(f"{member} {unit}")
        if member == "StopUnit":
            if self.running.pop(unit, None) is None:
                raise NotFound("systemd does not know the unit", reason="UNIT_NOT_FOUND")
        elif member in {"StartUnit", "RestartUnit"} and (member == "RestartUnit" or unit not in self.running):
            name = unit.removeprefix("joblet-dns@").removesuffix(".service")
            self.running[unit] = (self.directory / name / "dnsmasq.conf").read_bytes()
        return []

    async def property(self, _path: str, _interface: str, _name: str) -> Any:
        await asyncio.sleep(0)
        return "inactive"

    async def asked(self, network: Network) -> bytes | None:
        await asyncio.sleep(0)
        if self.is_deaf or self.foreign:
            return self.foreign
        return self.running.get(f"joblet-dns@{network.name}.service")


def found(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def serving(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: Callable[[DnsmasqServers, FakeBus], Any],
) -> None:
    bus = FakeBus(directory)
    monkeypatch.setattr(name_servers, "_asked", bus.asked)
    monkeypatch.setattr(name_servers, "_DEADLINE", 0.1)
    monkeypatch.setattr(name_servers, "_RESTART_SECONDS", 0.1)

    async def main() -> None:
        await case(DnsmasqServers(cast(SystemBus, bus), directory), bus)

    asyncio.run(main())


def test_a_server_is_started_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        await servers.serve(NETWORK)
        await servers.serve(NETWORK)
        assert bus.calls == [f"StartUnit {UNIT}"]
        resolver = servers.resolver(NETWORK).read_text()
        assert resolver.startswith("nameserver 10.10.0.1\nnameserver fd00::1\n")
        assert (tmp_path / "back-1/hosts").stat().st_mode & 0o777 == 0o755
        assert servers.resolver(NETWORK).stat().st_mode & 0o777 == 0o644

    serving(tmp_path, monkeypatch, case)


def test_one_that_has_another_configuration_is_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        await servers.serve(NETWORK)
        await servers.serve(replace(NETWORK, dns=(IPv4Address("192.0.2.1"),)))
        assert bus.calls == [f"StartUnit {UNIT}", f"RestartUnit {UNIT}"]
        assert b"server=192.0.2.1\n" in bus.running[UNIT]

    serving(tmp_path, monkeypatch, case)


def test_the_next_agent_leaves_a_server_alone_that_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        await servers.serve(NETWORK)
        await servers.tell(NETWORK, WEB)
        following = DnsmasqServers(cast(SystemBus, bus), tmp_path)
        await following.serve(NETWORK)
        await following.tell(NETWORK, {})
        assert bus.calls == [f"StartUnit {UNIT}"]
        assert (tmp_path / "back-1/hosts/names").read_text() == ""

    serving(tmp_path, monkeypatch, case)


@pytest.mark.parametrize("foreign", [None, b"another server"])
def test_it_is_said_who_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: bytes | None
) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        bus.foreign = foreign
        bus.is_deaf = True
        with pytest.raises(HostUnavailable) as raised:
            await servers.serve(NETWORK)
        assert raised.value.reason == "NAMES_UNAVAILABLE"
        why = "another server answers there" if foreign else "no answer"
        first = ["RestartUnit", "StopUnit", "ResetFailedUnit"] if foreign else ["StartUnit"]
        assert bus.calls == [f"{call} {UNIT}" for call in first]
        assert str(raised.value) == f"cannot serve names on network back-1, at 10.10.0.1 port 53: {why}"

    serving(tmp_path, monkeypatch, case)


def test_nothing_is_left_of_one_that_is_dismissed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        await servers.serve(NETWORK)
        await servers.tell(NETWORK, WEB)
        await servers.dismiss(NETWORK)
        await servers.dismiss(NETWORK)
        assert (bus.running, found(tmp_path)) == ({}, set())
        await servers.tell(NETWORK, WEB)  # not taken for told already
        assert (tmp_path / "back-1/hosts/names").read_text() == "10.10.0.2 web\n"

    serving(tmp_path, monkeypatch, case)


def test_what_is_there_for_no_network_is_dismissed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        await servers.serve(NETWORK)
        await servers.serve(replace(NETWORK, name="former"))
        (tmp_path / "files-only").mkdir()
        (tmp_path / "upstream").touch()
        await servers.keep_only([NETWORK])
        assert list(bus.running) == [UNIT]
        assert found(tmp_path) == {"back-1", "upstream"}

    serving(tmp_path, monkeypatch, case)


def test_names_are_replaced_whole_and_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server looks at whatever comes into the directory."""

    async def case(servers: DnsmasqServers, _bus: FakeBus) -> None:
        await servers.tell(NETWORK, WEB)
        hosts = tmp_path / "back-1/hosts"
        before = (hosts / "names").stat().st_ino
        await servers.tell(NETWORK, WEB)
        assert (hosts / "names").stat().st_ino == before
        await servers.tell(NETWORK, {**WEB, "db": [IPv4Address("10.10.0.3")]})
        assert found(hosts) == {"names"}
        assert (hosts / "names").read_text() == "10.10.0.3 db\n10.10.0.2 web\n"
        assert found(tmp_path / "back-1") == {"hosts"}

    serving(tmp_path, monkeypatch, case)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "evil\n10.0.0.1 bank",
        "a b",
        "a,b",
        "a/b",
        "a.b",
        "#",
        "*",
        "A",
        "é",
        "-a",
        "a-",
        "a\x00",
        "x" * 64,
    ],
)
def test_a5_only_labels_get_into_the_file_of_names(name: str) -> None:
    names: Mapping[str, Sequence[IPAddress]] = {name: [IPv4Address("10.10.0.2")], **WEB}
    assert hosts_text(names) == "10.10.0.2 web\n"


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "a\nserver=1.2.3.4", "-a", "a@b", "%i", "a b"])
def test_a5_no_name_of_a_network_is_another_file_unit_or_option(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async def case(servers: DnsmasqServers, bus: FakeBus) -> None:
        for network in (replace(NETWORK, name=name), replace(NETWORK, bridge=name)):
            for call in (servers.serve, servers.dismiss):
                with pytest.raises(InvalidRequest):
                    await call(network)
            with pytest.raises(InvalidRequest):
                await servers.tell(network, WEB)
        assert (bus.calls, found(tmp_path)) == ([], set())

    serving(tmp_path, monkeypatch, case)


def test_who_is_asked_for_the_outside() -> None:
    home = Path("/run/joblet/dns/back-1")
    host = configuration(NETWORK, home).splitlines()
    own = configuration(replace(NETWORK, dns=(IPv4Address("192.0.2.1"),)), home).splitlines()
    internal = configuration(replace(NETWORK, is_internal=True), home).splitlines()
    assert "resolv-file=/run/joblet/dns/upstream" in host
    assert {"no-resolv", "server=192.0.2.1"} <= set(own)
    assert {"no-resolv", "local=/#/"} <= set(internal)
    for lines in (host, own, internal):
        assert {
            "interface=joblet-back-1",
            "except-interface=lo",
            "bind-dynamic",
            "no-hosts",
            "local=//",
        } <= set(lines)
    assert not any(line.startswith(("resolv-file", "server=")) for line in internal)
