"""What ``rnx.diagnosis`` found, as errors for people: what is wrong, with the facts, and what to do.

The reasons are stable words for programs; docs/certificates.md lists them.
"""

import ssl
from datetime import UTC, datetime
from typing import NamedTuple

from rnx.certificate import CLOCKS, Certificate, stamp
from rnx.config import SERVER_NAME
from rnx.exits import NoConnection, NoTrust, RnxError

# X509_V_ERR_… of openssl, by what we say of them
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME = 9, 10, 62
_TWIN_CA = 7
_OTHER_CA = frozenset({_TWIN_CA, 2, 18, 19, 20, 21})
"""A signature by another key, no issuer, self-signed, an incomplete chain."""

_NO_TLS = (
    "WRONG_VERSION_NUMBER",
    "HTTP_REQUEST",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "RECORD_TOO_SMALL",
)
_OLD_TLS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL")
_ALERTS = {
    "CERTIFICATE_REVOKED": "it has been revoked",
    "CERTIFICATE_EXPIRED": "it has expired there",
    "UNKNOWN_CA": "the agent does not know its CA",
    "CERTIFICATE_REQUIRED": "there was none",
}


class Place(NamedTuple):
    """Where the agent is, and how errors name it."""

    host: str
    port: int
    address: str


def place_of(address: str) -> Place:
    """Return the parts of an address of the configuration. Raises NoTrust if it is no HOST:PORT."""
    host, colon, port = address.removeprefix("dns:///").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 2**16):
        raise NoTrust(
            f"cannot use the address {address}: HOST:PORT is wanted",
            hint="rnx config-help explains the file",
            reason="BAD_ADDRESS",
        )
    return Place(host, int(port), address)


def no_tls(place: Place, error: OSError) -> RnxError:
    """Say why no TLS came about, by openssl's word for it; ssl's errors are OSErrors, too."""
    reason = getattr(error, "reason", None) or ""
    if any(word in reason for word in _NO_TLS):
        return NoTrust(
            f"cannot reach the agent at {place.address}: what answers there does not speak TLS",
            hint=f"is {place.port} the port of the agent? ss -ltnp on its host shows who listens",
            reason="NOT_TLS",
        )
    if any(word in reason for word in _OLD_TLS):
        return NoTrust(
            f"cannot reach the agent at {place.address}: what answers there does not speak TLS 1.3",
            hint="agents speak nothing older: is it another service, or a proxy in between?",
            reason="TLS_VERSION",
        )
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return NoTrust(
            f"cannot reach the agent at {place.address}: TLS fails: {_words(reason) or error}",
            hint="journalctl -u joblet-agent on its host may say more",
            reason="TLS_FAILED",
        )
    return NoConnection(
        f"cannot reach the agent at {place.address}: it closes the connection before TLS begins",
        hint="is it the agent's port? one that has too many connections or is being restarted does so, too",
        reason="CONNECTION_CLOSED",
    )


def silent(place: Place, what: str) -> RnxError:
    """Say that somebody is there who does not go on."""
    return NoConnection(
        f"cannot reach the agent at {place.address}: it takes the connection and {what}",
        hint="is it the agent's port? if so, systemctl status joblet-agent on its host",
        reason="NO_ANSWER",
    )


def not_trusted(
    place: Place, error: ssl.SSLCertVerificationError, theirs: Certificate | None, own: Certificate
) -> RnxError:
    """Say why the agent's certificate is not believed."""
    code, now = error.verify_code, datetime.now(UTC)
    begin = f"cannot trust the agent at {place.address}: its certificate"
    if theirs is not None and code == _EXPIRED and theirs.until < now:
        return NoTrust(
            f"{begin} expired at {stamp(theirs.until)}, and here it is {stamp(now)}",
            hint=f"an administrator of that host must renew it; or {CLOCKS}",
            reason="SERVER_CERTIFICATE_EXPIRED",
        )
    if theirs is not None and code == _NOT_YET_VALID and theirs.since > now:
        return NoTrust(
            f"{begin} begins at {stamp(theirs.since)}, and here it is {stamp(now)}",
            hint=CLOCKS,
            reason="SERVER_CERTIFICATE_NOT_YET_VALID",
        )
    if code == _OTHER_NAME:
        names = ", ".join(theirs.hosts) or theirs.name if theirs else ""
        return NoTrust(
            f"{begin} is not for the name {SERVER_NAME}" + (f" but for {names}" if names else ""),
            hint=f"is it an agent? its certificate needs subjectAltName=DNS:{SERVER_NAME}",
            reason="SERVER_CERTIFICATE_NAME",
        )
    if code in _OTHER_CA:
        issuer = theirs.issuer if theirs else ""
        twin = code == _TWIN_CA or issuer == own.issuer
        other = " but from another of the same name" if twin else f" but from {issuer}" if issuer else ""
        return NoTrust(
            f"{begin} is not from the CA of the configuration{other}",
            hint="has the agent a new CA, or is it another host? "
            "ask an administrator for new credentials: rnx config import",
            reason="SERVER_CERTIFICATE_OTHER_CA",
        )
    return NoTrust(
        f"{begin} or its CA's is not good: {error.verify_message}",
        hint=f"an administrator of that host must mend it; or {CLOCKS}",
        reason="SERVER_CERTIFICATE_INVALID",
    )


def refused(place: Place, alert: str, doubt: str, own: Certificate) -> RnxError:
    """Say why the agent refuses the client's certificate.

    It may tell by an alert; else ``doubt`` is what we see ourselves.
    """
    why = next((text for word, text in _ALERTS.items() if word in alert), "")
    if not why and doubt:
        why = f"the CA of the configuration has not signed it ({doubt})"
    about = f"{own.name or 'no name'}, from {own.issuer or 'a CA without a name'}, until {stamp(own.until)}"
    if why or alert:
        return NoTrust(
            f"the agent at {place.address} refuses the client certificate ({about}): "
            + (why or _words(alert)),
            hint=f"ask an administrator for new credentials: rnx config import; or {CLOCKS}",
            reason="CLIENT_CERTIFICATE_REFUSED",
        )
    return NoConnection(
        f"the agent at {place.address} hangs up when it has seen the client certificate ({about})",
        hint=f"its CA may be another, or it has too many connections; {CLOCKS}; ask an administrator",
        reason="CLIENT_CERTIFICATE_REFUSED",
    )


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()
