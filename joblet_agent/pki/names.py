"""What certificates may be called: names of clients, names and addresses of a server. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from joblet_agent.errors import InvalidRequest
from joblet_agent.model.certificate import AUTHORITY, SERVER
from joblet_agent.model.host import is_address, is_host_name

Address = IPv4Address | IPv6Address

LOCAL = "local"
"""Name of who comes over a local socket; no certificate may have it, or begin with it and a colon."""
LONGEST = 64
"""Characters of a CN; ub-common-name of RFC 5280."""


@dataclass(frozen=True, slots=True)
class HostNames:
    """What a host is called."""

    names: tuple[str, ...]
    addresses: tuple[Address, ...]
    asked_for: tuple[str, ...] = ()
    """Those of them that the configuration has: a certificate without one of these is out of date."""

    @property
    def best(self) -> str:
        """Return what others most probably know it by: a name with a domain, an address, or its name."""
        single = [name for name in self.names if not name.startswith("*")]
        full = [name for name in single if "." in name]
        return [*full, *map(str, self.addresses), *single, "127.0.0.1"][0]

    def known_as(self, texts: Sequence[str]) -> "HostNames":
        """Return the same with these names and addresses in front, which the configuration asks for."""
        names = [text for text in texts if not is_address(text)]
        addresses = [ip_address(text) for text in texts if is_address(text)]
        return HostNames(
            unique((*names, *self.names)),
            tuple(dict.fromkeys((*addresses, *self.addresses))),
            tuple(texts),
        )

    def listening_on(self, text: str) -> "HostNames":
        """Return the same with the address of its listener in front, unless that is any address."""
        listener = ip_address(text)
        if listener.is_unspecified:
            return self
        return replace(self, addresses=(listener, *(each for each in self.addresses if each != listener)))


EVERY_HOST = HostNames(("joblet", "localhost"), (IPv4Address("127.0.0.1"), IPv6Address("::1")))
"""Clients expect the name ``joblet`` of every agent, whatever its address."""


def is_reserved(name: str) -> bool:
    """Say whether the name belongs to the local sockets."""
    return name == LOCAL or name.startswith(f"{LOCAL}:")


def is_common_name(name: str) -> bool:
    """Say whether a client can have the name: it stands in the journal and in lists of jobs."""
    return name.isprintable() and 0 < len(name.strip()) <= LONGEST >= len(name)


def client_name(name: str) -> str:
    """Return the name if a certificate can be issued for it. Raises InvalidRequest."""
    if is_reserved(name) or name in (SERVER, AUTHORITY):
        raise InvalidRequest(
            f"cannot issue a certificate for {name}: the name is taken by the agent itself",
            reason="NAME_RESERVED",
            hint=f"no client can be called {LOCAL}, {LOCAL}:…, {SERVER} or {AUTHORITY}",
        )
    if not is_common_name(name) or name != name.strip() or name.startswith("-"):
        raise InvalidRequest(
            f"cannot issue a certificate for {name!a}: a name has 1 to {LONGEST} printable characters, "
            "no space at its ends and no dash at its beginning",
            reason="BAD_NAME",
        )
    return name


def host_name(text: str) -> str:
    """Return the DNS name for a server's certificate. Raises InvalidRequest; addresses are none."""
    if not is_host_name(text):
        raise InvalidRequest(
            f"cannot use --name={text!a}: not a DNS name in ASCII",
            reason="BAD_SERVER_NAME",
            hint="an IP address goes to --address; a name with other letters needs its xn-- form",
        )
    return text


def address(text: str) -> Address:
    """Return the address for a server's certificate. Raises InvalidRequest."""
    if not is_address(text):
        raise InvalidRequest(
            f"cannot use --address={text!a}: not an IP address",
            reason="BAD_SERVER_ADDRESS",
            hint="a DNS name goes to --name",
        )
    return ip_address(text)


def unique(texts: Iterable[str]) -> tuple[str, ...]:
    """Return each text once, in their order."""
    return tuple(dict.fromkeys(texts))


def endpoint(host: str, port: int) -> str:
    """Return what a client connects to; a host may bring a port, ``[IPV6]:PORT``. Raises InvalidRequest."""
    bare = host.strip("[]")
    if is_address(bare):
        return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
    name, colon, number = host.rpartition(":")
    if not colon:
        name, number = host, str(port)
    if not (is_host_name(name) or is_address(name.strip("[]"))) or not re.fullmatch(
        "[1-9][0-9]{0,4}", number
    ):
        raise InvalidRequest(
            f"cannot use --connect={host!a}: expected a name or an address, and perhaps a port",
            reason="BAD_ENDPOINT",
            hint="for example --connect node7.example.net:50051",
        )
    return f"{name}:{number}"
