"""Java's store of trusted certificates, which its packages write anew with each installation. Pure.

In a keystore of the form JKS each certificate has the time when it was added, in an order of nobody's; so two
builds of the same packages would be two runtimes.
"""

import hashlib
import struct
from typing import Final

__all__ = ["PATH", "settled"]

PATH: Final = "/etc/ssl/certs/java/cacerts"
"""Where Debian's ca-certificates-java has it."""
_HEAD: Final = b"\xfe\xed\xfe\xed\x00\x00\x00\x02"
_CERTIFICATE: Final = 2
_TIME: Final = struct.pack(">Q", 946_684_800_000)
"""2000-01-01, as of all files of a runtime; in milliseconds."""
_SALT: Final = "changeit".encode("utf-16-be") + b"Mighty Aphrodite"
"""What the digest at the end begins with, for the password that everybody has."""
_DIGEST: Final = hashlib.sha1().digest_size  # noqa: S324 - the format's own


def settled(content: bytes) -> bytes:
    """Return the keystore with one time in all entries, by name; what is no such keystore as it is."""
    body, digest = content[:-_DIGEST], content[-_DIGEST:]
    if not body.startswith(_HEAD) or _digest(body) != digest:
        return content
    try:
        entries = _entries(body)
    except (struct.error, ValueError):
        return content
    body = _HEAD + struct.pack(">I", len(entries)) + b"".join(sorted(entries))
    return body + _digest(body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha1(_SALT + body).digest()  # noqa: S324


def _entries(body: bytes) -> list[bytes]:
    """Return the entries with the one time. Raises ValueError if one is no certificate, struct.error."""
    (count,) = struct.unpack_from(">I", body, len(_HEAD))
    at = len(_HEAD) + 4
    found = []
    for _ in range(count):
        begin = at
        tag, length = struct.unpack_from(">IH", body, at)
        if tag != _CERTIFICATE:
            raise ValueError("a key")
        time = at + 6 + length
        (length,) = struct.unpack_from(">H", body, time + 8)
        (size,) = struct.unpack_from(">I", body, time + 10 + length)
        at = time + 14 + length + size
        found.append(body[begin:time] + _TIME + body[time + 8 : at])
    if at != len(body):
        raise ValueError("something behind the entries")
    return found
