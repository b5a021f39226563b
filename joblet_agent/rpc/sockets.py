"""The sockets of this process, found among its open files: gRPC for Python gives away neither one.

Whoever wants to do something with one has a duplicate, checked to be the one that was found: gRPC may close
its own at any time, and the next file gets its number.
"""

import os
import socket
from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import unquote

_FILES = "/proc/self/fd"

Peer = tuple[str, int]
"""Address and port of the other end."""


def open_sockets() -> list[tuple[str, int]]:
    """Return the name of each open socket (``socket:[…]``) and its descriptor."""
    found = []
    for entry in os.listdir(_FILES):
        with suppress(OSError):
            name = os.readlink(f"{_FILES}/{entry}")
            if name.startswith("socket:"):
                found.append((name, int(entry)))
    return found


def duplicate(fd: int, name: str) -> socket.socket:
    """Return the socket on a descriptor of its own. Raises OSError if it is another one by now."""
    copy = os.dup(fd)
    try:
        if os.readlink(f"{_FILES}/{copy}") != name:
            raise OSError("closed meanwhile")
        return socket.socket(fileno=copy)
    except BaseException:
        os.close(copy)
        raise


def canonical(text: str) -> str:
    """Return an address as one text, whatever way it was written in."""
    address = ip_address(text.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def peer_of(named: str) -> Peer | None:
    """Return the address of what gRPC calls ``ipv4:ADDRESS:PORT`` or ``ipv6:%5BADDRESS%5D:PORT``."""
    host, _, port = unquote(named.partition(":")[2]).rpartition(":")
    return (canonical(host.strip("[]")), int(port)) if port.isdigit() else None
