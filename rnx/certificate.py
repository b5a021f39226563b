"""What a certificate says, and whether the credentials of a configuration can work at all. No network.

Python's ssl reads a certificate only if a handshake has verified it. So a certificate is made its own anchor
of trust, times are left aside, and the handshake is played through in memory. Only failures and
``rnx nodes test`` need any of this: see client.py.
"""

import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rnx.config import Credentials
from rnx.exits import NoTrust

NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of openssl, which Python has no name for."""
ITS_OWN_ANCHOR = ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
_ROUNDS = 4  # of messages; a handshake of TLS 1.3 has three
CLOCKS = "compare the clocks of the two machines: timedatectl"
_WRONG_PURPOSE = 26  # X509_V_ERR_INVALID_PURPOSE
_ASK_FOR_ANOTHER = "ask an administrator of the agent's host for new credentials: rnx config import"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The part of a certificate that people ask about."""

    name: str
    role: str
    issuer: str
    since: datetime
    until: datetime
    hosts: tuple[str, ...]
    """Names and addresses that it is for."""


def check_own(credentials: Credentials, *, now: datetime | None = None) -> Certificate:
    """Return the client's certificate. Raises NoTrust if these credentials let nobody in anywhere, now."""
    client_context(credentials)  # all three can be read, and key and certificate are a pair
    try:
        certificate = described(_rehearse(credentials, credentials.certificate, ITS_OWN_ANCHOR))
    except (ssl.SSLError, ValueError) as error:
        raise _useless(error) from error
    moment = now or datetime.now(UTC)
    if moment < certificate.since:
        raise NoTrust(
            f"the client certificate begins at {stamp(certificate.since)}, and here it is {stamp(moment)}",
            hint=CLOCKS,
            reason="CLIENT_CERTIFICATE_NOT_YET_VALID",
        )
    if moment > certificate.until:
        raise NoTrust(
            f"the client certificate expired at {stamp(certificate.until)}, and here it is {stamp(moment)}",
            hint=_ASK_FOR_ANOTHER,
            reason="CLIENT_CERTIFICATE_EXPIRED",
        )
    return certificate


def doubt(credentials: Credentials) -> str:
    """Say why an agent whose CA is that of the credentials would refuse them; empty if it would not."""
    try:
        _rehearse(credentials, credentials.authority, 0)
    except ssl.SSLError as error:
        return _words(error)
    return ""


def client_context(credentials: Credentials) -> ssl.SSLContext:
    """Return what a client connects with. Raises NoTrust if a part of the configuration is damaged."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])  # gRPC insists on it
    _load_pair(context, credentials)
    trust(context, credentials.authority, "ca", "CA_UNREADABLE")
    return context


def trust(context: ssl.SSLContext, pem: bytes, part: str, reason: str) -> None:
    """Let the context believe these certificates. Raises NoTrust, naming the part of the configuration."""
    try:
        context.load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise _damaged(part, error, reason) from error


def described(peer: Any) -> Certificate:
    """Return what ssl tells of a verified certificate (SSLSocket.getpeercert)."""
    return Certificate(
        name=_attribute(peer.get("subject", ()), "commonName"),
        role=_attribute(peer.get("subject", ()), "organizationalUnitName"),
        issuer=_attribute(peer.get("issuer", ()), "commonName"),
        since=_moment(peer["notBefore"]),
        until=_moment(peer["notAfter"]),
        hosts=tuple(str(value) for _, value in peer.get("subjectAltName", ())),
    )


def stamp(moment: datetime) -> str:
    """Return the time as errors tell it."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _load_pair(context: ssl.SSLContext, credentials: Credentials) -> None:
    # Any certificate can be loaded as a CA's, so this reads it without its key.
    scratch = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trust(scratch, credentials.certificate, "cert", "CLIENT_CERTIFICATE_UNREADABLE")
    try:
        with _as_file(credentials.certificate + b"\n" + credentials.key) as path:
            context.load_cert_chain(path, password=lambda: b"")  # or openssl asks the terminal
    except (ssl.SSLError, ValueError) as error:
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            raise NoTrust(
                "the key of the configuration is not the key of its client certificate",
                hint=_ASK_FOR_ANOTHER,
                reason="CLIENT_KEY_MISMATCH",
            ) from error
        raise _damaged("key", error, "CLIENT_KEY_UNREADABLE") from error


def _rehearse(credentials: Credentials, authority: bytes, flags: int) -> Any:
    """Play the handshake in which a server that trusts ``authority`` looks at the client's certificate."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= flags
    trust(server, authority, "ca", "CA_UNREADABLE")
    for context in (client, server):
        _load_pair(context, credentials)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    for _ in range(_ROUNDS):
        for end in ends:
            with suppress(ssl.SSLWantReadError):
                end.do_handshake()
    return ends[1].getpeercert()


def _useless(error: Exception) -> NoTrust:
    """Say why TLS takes no such certificate from a client, whoever has signed it."""
    if getattr(error, "verify_code", 0) == _WRONG_PURPOSE:
        return NoTrust(
            f"the client certificate is not for clients ({_words(error)})",
            hint=_ASK_FOR_ANOTHER,
            reason="CLIENT_CERTIFICATE_PURPOSE",
        )
    return NoTrust(
        f"TLS cannot use the client certificate: {_words(error)}",
        hint=_ASK_FOR_ANOTHER,
        reason="CLIENT_CERTIFICATE_USELESS",
    )


def _words(error: Exception) -> str:
    """Return openssl's reason; Python's own errors are about times that are none."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no reason given").replace("_", " ").lower()
    return "it is damaged"


def _damaged(part: str, error: Exception, reason: str) -> NoTrust:
    why = _words(error) if isinstance(error, ssl.SSLError) else "it is not PEM"
    return NoTrust(
        f"{part} of the configuration cannot be read: {why}",
        hint=_ASK_FOR_ANOTHER,
        reason=reason,
    )


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    """Yield a path for what ssl reads from files alone; where it can be, nothing is written to a disk."""
    if sys.platform != "linux":
        from tempfile import mkstemp  # noqa: PLC0415 - Linux does without

        descriptor, path = mkstemp(prefix="rnx-")  # for its owner alone
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
            yield path
        finally:
            os.unlink(path)
        return
    with os.fdopen(os.memfd_create("rnx"), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _attribute(names: Any, wanted: str) -> str:
    found = [value for pairs in names for name, value in pairs if name == wanted]
    return ", ".join(found)


def _moment(text: str) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(text), UTC)
