"""Keystores of Java: two that have the same certificates are the same file."""

import hashlib
import struct

import pytest

from joblet_agent.runtimes.build.keystore import settled

HEAD = b"\xfe\xed\xfe\xed\x00\x00\x00\x02"


def entry(name: str, certificate: bytes, time: int = 7, tag: int = 2) -> bytes:
    alias, kind = name.encode(), b"X.509"
    return (
        struct.pack(">IH", tag, len(alias))
        + alias
        + struct.pack(">QH", time, len(kind))
        + kind
        + struct.pack(">I", len(certificate))
        + certificate
    )


def keystore(*entries: bytes, password: str = "changeit", behind: bytes = b"") -> bytes:
    body = HEAD + struct.pack(">I", len(entries)) + b"".join(entries) + behind
    secret = password.encode("utf-16-be") + b"Mighty Aphrodite"
    return body + hashlib.sha1(secret + body).digest()


def test_times_and_order_make_no_difference() -> None:
    first = settled(keystore(entry("a", b"one", 1), entry("b", b"two", 2)))
    assert first == settled(keystore(entry("b", b"two", 3), entry("a", b"one", 4)))
    assert first == keystore(entry("a", b"one", 946_684_800_000), entry("b", b"two", 946_684_800_000))
    assert first != settled(keystore(entry("a", b"one")))
    assert settled(first) == first


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        HEAD,
        keystore(entry("a", b"one"), entry("k", b"key", tag=1)),
        keystore(entry("a", b"one"), password="another"),
        keystore(entry("a", b"one"), behind=b"more"),
        keystore(entry("a", b"one")[:-1]),
        keystore(entry("a", b"one"))[:-1],
    ],
    ids=["empty", "text", "head", "key", "password", "behind", "short", "cut"],
)
def test_everything_else_stays_as_it_is(content: bytes) -> None:
    assert settled(content) == content
