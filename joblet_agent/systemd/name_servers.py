"""The names of jobs on a network: one dnsmasq for each network (ports.NameServers), a unit of systemd.

::

    /run/joblet/dns/NETWORK/dnsmasq.conf   what it reads when it starts
                           /hosts/names    the names; it looks again whenever the file is another one
                           /resolv.conf    what jobs on the network have as /etc/resolv.conf
    /run/joblet/dns/upstream               the host's name servers (units/joblet-upstream@.service)

The server goes on while the agent is away (units/joblet-dns@.service). Its configuration has a digest of
itself as a text record: so the server itself tells that it answers, and with which one. What jobs are called
gets into a file only if it is one label of a host name; which names they have: networks/names.py.
"""

import asyncio
import hashlib
import logging
import os
import re
import shutil
import socket
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from joblet_agent.errors import HostUnavailable, InvalidRequest, NotFound
from joblet_agent.model.network import IPAddress, Network
from joblet_agent.pauses import GrowingPause
from joblet_agent.systemd.bus import SystemBus
from joblet_agent.systemd.names import (
    NAME_SERVER_PATTERN,
    any_unit_path,
    name_server_unit,
    network_of_name_server,
)

NAMES_DIRECTORY: Final = Path("/run/joblet/dns")
"""Where units/joblet-dns@.service looks."""

_PORT = 53
_DEADLINE = 30.0
"""A host that boots starts much at the same time, and a job that waits is better than one that fails."""
_RESTART_SECONDS = 15.0
_ANSWER_SECONDS = 0.5
_MARK = "configuration.joblet.invalid"
_MOST_REPLY = 4096
_STOPPED = frozenset({"inactive", "failed"})
# A network's name is part of names of units and files, and a bridge's of a configuration.
_SAFE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")

_log = logging.getLogger(__name__)


class DnsmasqServers:
    """The port on systemd's D-Bus interface and the files below one directory."""

    def __init__(self, bus: SystemBus, directory: Path = NAMES_DIRECTORY) -> None:
        self._bus = bus
        self._directory = directory
        self._told: dict[str, str] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def serve(self, network: Network) -> None:
        """See ports.NameServers."""
        home = self._home(network)
        async with self._lock(network.name):
            try:
                self._make(home)
                _write(home / "resolv.conf", resolver_text(network))
                text = configuration(network, home)
                # A directory that was made anew is not the one that a running server follows.
                seal = hashlib.sha256(f"{text}{(home / 'hosts').stat().st_ino}".encode()).hexdigest()
                _write(home / "dnsmasq.conf", f"{text}txt-record={_MARK},{seal}\n")
            except OSError as error:
                raise _unwritable(network, error) from error
            await self._start(network, seal.encode())

    async def _start(self, network: Network, seal: bytes) -> None:
        name, has_begun = name_server_unit(network.name), False
        pause = GrowingPause(first=0.005, most=0.2)
        reply: bytes | None = None
        try:
            async with asyncio.timeout(_DEADLINE) as deadline:
                while seal not in ((reply := await _asked(network)) or b""):
                    if not has_begun:
                        has_begun = True
                        if reply is None:
                            await self._bus.manager("StartUnit", "ss", [name, "replace"])
                        else:  # ours with another configuration, or another one
                            await self._bus.manager("RestartUnit", "ss", [name, "replace"])
                            deadline.reschedule(asyncio.get_running_loop().time() + _RESTART_SECONDS)
                    await pause.wait()
        except TimeoutError as error:
            where = f"names on network {network.name}, at {network.gateway4} port {_PORT}"
            if reply is not None:
                await self._stop(name)  # it cannot start, and would try again for ever
                raise HostUnavailable(
                    f"cannot serve {where}: another server answers there",
                    reason="NAMES_UNAVAILABLE",
                    hint="let that one listen on addresses of its own, not on all (ss -tulnp sport = :53)",
                ) from error
            raise HostUnavailable(
                f"cannot serve {where}: no answer",
                reason="NAMES_UNAVAILABLE",
                hint=f"see: systemctl status {name}, journalctl -u {name}",
            ) from error

    async def dismiss(self, network: Network) -> None:
        """See ports.NameServers."""
        self._home(network)
        await self._dismiss(network.name)

    async def _dismiss(self, name: str) -> None:
        async with self._lock(name):
            await self._stop(name_server_unit(name))
            self._told.pop(name, None)
            try:
                shutil.rmtree(self._directory / name)
            except FileNotFoundError:
                pass
            except OSError as error:
                _log.warning("cannot remove %s: %s", self._directory / name, error.strerror)
        self._locks.pop(name, None)

    async def _stop(self, unit: str) -> None:
        """Return when the unit has stopped: what a server holds (port, directory) the next one needs."""
        try:
            await self._bus.manager("StopUnit", "ss", [unit, "replace"])
            pause = GrowingPause(first=0.005, most=0.2)
            async with asyncio.timeout(_DEADLINE):
                while await self._bus.property(any_unit_path(unit), "Unit", "ActiveState") not in _STOPPED:
                    await pause.wait()
            await self._bus.manager("ResetFailedUnit", "s", [unit])
        except NotFound:
            return
        except TimeoutError as error:
            raise HostUnavailable(
                f"cannot stop {unit}: it still runs after {_DEADLINE:.0f} s", reason="NAMES_UNAVAILABLE"
            ) from error

    async def keep_only(self, networks: Collection[Network]) -> None:
        """See ports.NameServers."""
        kept = {network.name for network in networks}
        (units,) = await self._bus.manager("ListUnitsByPatterns", "asas", [[], [NAME_SERVER_PATTERN]])
        found = {name for unit in units if (name := network_of_name_server(unit[0])) is not None}
        if self._directory.is_dir():
            found |= {entry.name for entry in self._directory.iterdir() if entry.is_dir()}
        for name in sorted(found - kept):
            await self._dismiss(name)

    async def tell(self, network: Network, names: Mapping[str, Sequence[IPAddress]]) -> None:
        """See ports.NameServers."""
        home = self._home(network)
        text = hosts_text(names)
        if self._told.get(network.name) == text:
            return
        try:
            self._make(home)
            _write(home / "hosts" / "names", text)
        except OSError as error:
            raise _unwritable(network, error) from error
        self._told[network.name] = text

    def resolver(self, network: Network) -> Path:
        """See ports.NameServers."""
        return self._home(network) / "resolv.conf"

    def _home(self, network: Network) -> Path:
        for text in (network.name, network.bridge):
            if not _SAFE.fullmatch(text):
                raise InvalidRequest(f"{text!a} cannot be the name of a network", reason="BAD_NETWORK_NAME")
        return self._directory / network.name

    def _lock(self, name: str) -> asyncio.Lock:
        return self._locks.setdefault(name, asyncio.Lock())

    def _make(self, home: Path) -> None:
        for directory in (self._directory, home, home / "hosts"):
            if not directory.is_dir():
                directory.mkdir(parents=True, exist_ok=True)
                directory.chmod(0o755)  # whatever the umask: the server is a user of its own


def configuration(network: Network, home: Path) -> str:
    """Return what dnsmasq(8) reads when it starts."""
    lines = [
        # Whom to turn into, were it root; it is the unit's user, and these two are in every host's database.
        "user=root",
        "group=root",
        # By the interface, not by the address: jobs of other networks could send to that, too.
        f"interface={network.bridge}",
        "except-interface=lo",
        "bind-dynamic",
        "no-hosts",
        f"hostsdir={home}/hosts",
        # Names without a dot are those of jobs, whatever is asked about them, and so are our addresses. While
        # the host has no servers, 2.90 refuses to say so without the first of these.
        "domain-needed",
        "local=//",
        f"rev-server={network.range4}",
        f"rev-server={network.range6}",
        "cache-size=1000",
        # As the C library does: the first server may know names of the house that the second one denies.
        "strict-order",
    ]
    if network.is_internal:
        lines += ["no-resolv", "local=/#/"]
    elif network.dns:
        lines += ["no-resolv", *(f"server={address}" for address in network.dns)]
    else:
        lines += [f"resolv-file={home.parent}/upstream"]
    return "".join(f"{line}\n" for line in lines)


def resolver_text(network: Network) -> str:
    """Return the jobs' resolv.conf(5): the second server is the first one's other address."""
    return (
        f"nameserver {network.gateway4}\nnameserver {network.gateway6}\n"
        # A server that was killed is back after a tenth of a second.
        "options timeout:2 attempts:3\n"
    )


def hosts_text(names: Mapping[str, Sequence[IPAddress]]) -> str:
    """Return the names as hosts(5) has them; what is no label of a host name is left out."""
    lines = [
        f"{_spelled(address)} {name}\n"
        for name, addresses in sorted(names.items())
        if _LABEL.fullmatch(name)
        for address in addresses
    ]
    return "".join(lines)


@lru_cache(maxsize=8192)
def _spelled(address: IPAddress) -> str:
    return str(address)


def _write(path: Path, text: str) -> None:
    """Replace the file, unless it is like that already.

    From outside of its directory: a server looks at all that comes into it.
    """
    try:
        if path.read_text(encoding="ascii") == text:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass  # it is to be written
    fresh = path.parent.parent / f".{path.parent.name}.{path.name}"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), "w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(text)
    fresh.rename(path)


def _unwritable(network: Network, error: OSError) -> HostUnavailable:
    return HostUnavailable(
        f"cannot write the names of network {network.name}: {error.strerror}", reason="NAMES_UNAVAILABLE"
    )


async def _asked(network: Network) -> bytes | None:
    """Ask for our mark at the gateway; return the reply of whoever serves names there; None: nobody."""
    labels = b"".join(bytes([len(label)]) + label for label in _MARK.encode().split(b"."))
    question = b"\0\1\1\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\x10\0\1"  # RFC 1035: recursion, TXT, IN
    loop = asyncio.get_running_loop()
    with socket.socket(
        socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    ) as asking:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await loop.sock_connect(asking, (str(network.gateway4), _PORT))
                await loop.sock_sendall(asking, question)
                return await loop.sock_recv(asking, _MOST_REPLY)
        except (OSError, TimeoutError):  # refused by the kernel, or on its way to the first start
            return None
