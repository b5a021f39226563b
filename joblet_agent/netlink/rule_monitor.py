"""Who changes nftables rules of this host: the kernel's notifications, read by hand.

Netlink group NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h. A transaction arrives as one message for each
object, then one NFT_MSG_NEWGEN that ends it and names the program. Only the standard library: of all that is
in them, three attributes count.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_NETLINK_NETFILTER = 12
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_GROUP_NFTABLES = 7
_RCVBUFFORCE = 33  # SO_RCVBUFFORCE of socket(7)
_BUFFER_BYTES = 4 << 20
_READ_BYTES = 1 << 20

_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEW_GENERATION = 15  # NFT_MSG_NEWGEN
_TABLE_NAME = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, …: the same number for all objects
_PROGRAM_NAME = 3  # NFTA_GEN_PROC_NAME
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER

_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_MESSAGE = struct.Struct("=IHHII")  # struct nlmsghdr
_GENERIC = struct.Struct("=BBH")  # struct nfgenmsg
_ATTRIBUTE = struct.Struct("=HH")  # struct nlattr


@dataclass(frozen=True, slots=True)
class Transaction:
    """One change of rules: the tables (family, name) that something was changed in, and by which program."""

    tables: frozenset[tuple[str, str]]
    program: str


class TransactionReader:
    """Makes transactions of datagrams, which may each have a part of one, or of several."""

    def __init__(self) -> None:
        self._tables: set[tuple[str, str]] = set()

    def take(self, datagram: bytes) -> Iterator[Transaction]:
        """Yield the transactions that end in it."""
        for kind, family, attributes in _messages(datagram):
            if kind == _NEW_GENERATION:
                program = attributes.get(_PROGRAM_NAME, b"").rstrip(b"\0").decode(errors="replace")
                yield Transaction(frozenset(self._tables), program)
                self._tables.clear()
            elif _TABLE_NAME in attributes:
                name = attributes[_TABLE_NAME].rstrip(b"\0").decode(errors="replace")
                self._tables.add((_FAMILIES.get(family, str(family)), name))

    def forget(self) -> None:
        """Begin anew: something was lost."""
        self._tables.clear()


class RuleMonitor:
    """A socket that hears of every change of rules in its network namespace."""

    def __init__(self) -> None:
        self._reader = TransactionReader()
        self._socket = socket.socket(
            socket.AF_NETLINK,
            socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
            _NETLINK_NETFILTER,
        )
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER_BYTES)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP_NFTABLES)

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    def read(self) -> list[Transaction] | None:
        """Return all that ended since the last time; None if some were lost on the way."""
        transactions: list[Transaction] = []
        was_lost = False
        while True:
            try:
                transactions += self._reader.take(self._socket.recv(_READ_BYTES))
            except BlockingIOError:
                return None if was_lost else transactions
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                was_lost = True
                self._reader.forget()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def _messages(datagram: bytes) -> Iterator[tuple[int, int, dict[int, bytes]]]:
    at = 0
    while at + _MESSAGE.size + _GENERIC.size <= len(datagram):
        length, kind, _, _, _ = _MESSAGE.unpack_from(datagram, at)
        if not _MESSAGE.size + _GENERIC.size <= length <= len(datagram) - at:
            return
        if kind >> 8 == _SUBSYSTEM:
            family, _, _ = _GENERIC.unpack_from(datagram, at + _MESSAGE.size)
            content = datagram[at + _MESSAGE.size + _GENERIC.size : at + length]
            yield kind & 0xFF, family, _attributes(content)
        at += _aligned(length)


def _attributes(content: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        if not _ATTRIBUTE.size <= length <= len(content) - at:
            break
        found[kind & _TYPE_MASK] = content[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3
