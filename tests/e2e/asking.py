"""Questions to name servers, as a program without a resolver asks them (RFC 1035)."""

import socket
from struct import pack, unpack

A, TXT, MX, AAAA = 1, 16, 15, 28
_FAMILIES = {A: socket.AF_INET, AAAA: socket.AF_INET6}
_RESULTS = {0: "OK", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}


def ask(server: str, name: str, kind: int = A, seconds: float = 2.0) -> tuple[str, list[str]]:
    """Return the result and the addresses in the answer; ``nobody`` if none comes."""
    labels = b"".join(pack("B", len(label)) + label for label in name.encode().split(b"."))
    question = pack(">6H", 7, 0x100, 1, 0, 0, 0) + labels + b"\0" + pack(">2H", kind, 1)
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(seconds)
        try:
            asking.connect((server, 53))
            asking.send(question)
            reply = asking.recv(4096)
        except OSError:
            return "nobody", []
    _, flags, _, count, _, _ = unpack(">6H", reply[:12])
    return _RESULTS.get(flags & 15, str(flags & 15)), _addresses(reply, len(question), count)


def _addresses(reply: bytes, start: int, count: int) -> list[str]:
    found = []
    for _ in range(count):
        while reply[start] and reply[start] < 0xC0:  # labels; a pointer ends them
            start += 1 + reply[start]
        start += 2 if reply[start] else 1
        kind, _, _, size = unpack(">2HIH", reply[start : start + 10])
        start += 10
        if kind in _FAMILIES:
            found.append(socket.inet_ntop(_FAMILIES[kind], reply[start : start + size]))
        start += size
    return sorted(found)
