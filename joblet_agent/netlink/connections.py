"""What the kernel remembers of connections (linux/netfilter/nfnetlink_conntrack.h), forgotten.

The kernel asks the rules where the first packet of a connection goes, then it remembers. Of datagrams that
somebody keeps sending from one port it does so for ever: they would go on to an address that has no job any
more, or another one; and those that came before a port was published would never get to its job.
"""

import os
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address

from joblet_agent.model.network import IPAddress

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = 1, 2  # IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300  # NLM_F_*
_ERROR, _DONE = 2, 3  # NLMSG_*

_NESTED, _TYPE_MASK = 0x8000, 0x3FFF
_TUPLE_ORIGINAL, _TUPLE_REPLY, _ID, _ZONE, _FILTER = 1, 2, 12, 18, 25  # CTA_*
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2  # CTA_TUPLE_IP, CTA_TUPLE_PROTO
_SOURCE = {socket.AF_INET: 1, socket.AF_INET6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_DESTINATION = {socket.AF_INET: 2, socket.AF_INET6: 4}
_PROTOCOL_NUMBER, _DESTINATION_PORT = 1, 3  # CTA_PROTO_*
_ORIGINAL_FLAGS, _REPLY_FLAGS = 1, 2  # CTA_FILTER_*
_BY_SOURCE, _BY_PROTOCOL, _BY_DESTINATION_PORT = 1 << 0, 1 << 3, 1 << 5  # CTA_FILTER_FLAG of nf_internals.h

_MESSAGE = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_NUMBER = struct.Struct("=I")
_Connection = Mapping[int, bytes]  # the attributes of a connection, whole, by their numbers
_READ_BYTES = 1 << 18
_DEADLINE_SECONDS = 5.0


def forget_connections_to(address: IPAddress) -> int:
    """Let the kernel forget the connections that the address answers in, and return how many. Raises OSError.

    The kernel looks for them (Linux 5.8); those that end by themselves meanwhile do not count.
    """
    family = socket.AF_INET if isinstance(address, IPv4Address) else socket.AF_INET6
    source = _nest(_TUPLE_IP, _attribute(_SOURCE[family], address.packed))
    return _forget(family, _nest(_TUPLE_REPLY, source) + _filter(replies=_BY_SOURCE), lambda _: True)


def forget_datagrams_to(port: int) -> int:
    """Let the kernel forget who sends datagrams to that port of the host itself; as above."""
    parts = _attribute(_PROTOCOL_NUMBER, bytes([socket.IPPROTO_UDP]))
    parts += _attribute(_DESTINATION_PORT, port.to_bytes(2, "big"))
    wanted = _nest(_TUPLE_ORIGINAL, _nest(_TUPLE_PROTOCOL, parts))
    wanted += _filter(originals=_BY_PROTOCOL | _BY_DESTINATION_PORT)
    return sum(
        _forget(family, wanted, partial(_ends_here, family)) for family in (socket.AF_INET, socket.AF_INET6)
    )


def _ends_here(family: socket.AddressFamily, connection: _Connection) -> bool:
    """Say whether it goes to an address of the host, and not on to a job."""
    destination = _address(connection[_TUPLE_ORIGINAL], _DESTINATION[family])
    if destination != _address(connection[_TUPLE_REPLY], _SOURCE[family]):
        return False
    with socket.socket(family, socket.SOCK_DGRAM) as here:
        try:
            here.bind((socket.inet_ntop(family, destination), 0))
        except OSError:
            return False
    return True


def _forget(family: int, wanted: bytes, is_meant: Callable[[_Connection], bool]) -> int:
    with socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    ) as kernel:
        kernel.settimeout(_DEADLINE_SECONDS)
        kernel.send(_request(_GET, _DUMP, family, wanted))
        forgotten = 0
        for connection in [found for found in _dumped(kernel) if is_meant(found)]:
            names = b"".join(connection.get(part, b"") for part in (_TUPLE_ORIGINAL, _ID, _ZONE))
            kernel.send(_request(_DELETE, _ACK, family, names))
            forgotten += _is_done(kernel)
        return forgotten


def _dumped(kernel: socket.socket) -> Iterator[_Connection]:
    while True:
        for kind, content in _messages(kernel.recv(_READ_BYTES)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise _error(content)
            yield dict(_attributes(content[_GENERIC.size :]))


def _address(attribute: bytes, number: int) -> bytes:
    """Return an address out of CTA_TUPLE_ORIG or CTA_TUPLE_REPLY; empty if it has none."""
    addresses = dict(_attributes(attribute[_ATTRIBUTE.size :])).get(_TUPLE_IP, b"")
    return dict(_attributes(addresses[_ATTRIBUTE.size :])).get(number, b"")[_ATTRIBUTE.size :]


def _is_done(kernel: socket.socket) -> bool:
    """Say whether what was asked for was done; not if there was nothing any more."""
    ((_, content),) = _messages(kernel.recv(_READ_BYTES))
    error = _error(content)
    if error.errno == 0:
        return True
    if isinstance(error, FileNotFoundError):
        return False
    raise error


def _error(content: bytes) -> OSError:
    number = -struct.unpack_from("=i", content)[0]
    return OSError(number, os.strerror(number))


def _request(kind: int, flags: int, family: int, attributes: bytes) -> bytes:
    content = _GENERIC.pack(family, 0, 0) + attributes
    length = _MESSAGE.size + len(content)
    return _MESSAGE.pack(length, _SUBSYSTEM << 8 | kind, _REQUEST | flags, 0, 0) + content


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _MESSAGE.size <= len(datagram):
        length, kind, _, _, _ = _MESSAGE.unpack_from(datagram, at)
        yield kind, datagram[at + _MESSAGE.size : at + length]
        at += _aligned(max(length, _MESSAGE.size))


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, at)
        whole = _aligned(max(length, _ATTRIBUTE.size))
        yield kind & _TYPE_MASK, content[at : at + whole]
        at += whole


def _attribute(kind: int, content: bytes) -> bytes:
    padding = b"\0" * (_aligned(len(content)) - len(content))
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(content), kind) + content + padding


def _filter(*, originals: int = 0, replies: int = 0) -> bytes:
    flags = _attribute(_ORIGINAL_FLAGS, _NUMBER.pack(originals)) + _attribute(
        _REPLY_FLAGS, _NUMBER.pack(replies)
    )
    return _nest(_FILTER, flags)


def _nest(kind: int, content: bytes) -> bytes:
    return _attribute(kind | _NESTED, content)


def _aligned(length: int) -> int:
    return (length + 3) & ~3
