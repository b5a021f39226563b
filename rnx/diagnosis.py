"""Why there is no connection over TLS: gRPC says "Socket closed", so this connects once more and looks.

Only used after a failure. What openssl or the kernel tell becomes one line: what is wrong, and what to do. A
cause that can pass by itself is NoConnection, which callers who wait for the agent may try again; what only a
person can mend is NoTrust.
"""

import socket
import ssl

from rnx.certificate import ITS_OWN_ANCHOR, Certificate, check_own, client_context, described, doubt, trust
from rnx.config import SERVER_NAME, Credentials, Target
from rnx.exits import NoConnection, RnxError
from rnx.troubles import Place, no_tls, not_trusted, place_of, refused, silent

PATIENCE = 3.0
"""Seconds for each step of the probe."""


def explain(target: Target) -> RnxError | None:
    """Return why there is no connection to the target; None if now there is one, or it uses no TLS."""
    if target.credentials is None:
        return None
    try:
        own = check_own(target.credentials)
        place = place_of(target.address)
        _probe(place, target.credentials, own)
    except RnxError as error:
        return error
    return None


def _probe(place: Place, credentials: Credentials, own: Certificate) -> None:
    with _connected(place) as plain:
        try:
            tls = client_context(credentials).wrap_socket(plain, server_hostname=SERVER_NAME)
        except ssl.SSLCertVerificationError as error:
            raise not_trusted(place, error, _their_certificate(place), own) from error
        except ssl.SSLError as error:
            raise no_tls(place, error) from error
        except TimeoutError as error:
            raise silent(place, "says nothing about TLS") from error
        except OSError as error:
            raise no_tls(place, error) from error
        with tls:
            _greet(tls, place, credentials, own)


def _connected(place: Place) -> socket.socket:
    try:
        return socket.create_connection((place.host, place.port), PATIENCE)
    except socket.gaierror as error:
        why, hint, reason = (
            f"cannot resolve {place.host}: {error.strerror}",
            "is the name right?",
            "NAME_NOT_RESOLVED",
        )
    except ConnectionRefusedError:
        why, reason = "connection refused", "CONNECTION_REFUSED"
        hint = (
            "nothing listens there: is the port right, and has the agent certificates? "
            "journalctl -u joblet-agent on its host"
        )
    except TimeoutError:
        why, reason = "no answer", "NO_ANSWER"
        hint = "is the host up, is the address right, does a firewall drop what is sent to the port?"
    except (OSError, ValueError) as error:
        why, reason = getattr(error, "strerror", None) or str(error), "NETWORK_UNREACHABLE"
        hint = "is the address right? ip route get shows the way there"
    raise NoConnection(f"cannot reach the agent at {place.address}: {why}", hint=hint, reason=reason)


def _their_certificate(place: Place) -> Certificate | None:
    """Return what the agent shows, believed or not; None if it cannot be read."""
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname, looking.verify_mode = False, ssl.CERT_NONE
    reading = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    reading.check_hostname = False
    reading.verify_flags |= ITS_OWN_ANCHOR
    try:
        with _connected(place) as plain, looking.wrap_socket(plain) as tls:
            pem = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")
        trust(reading, pem.encode(), "cert", "SERVER_CERTIFICATE_INVALID")
        with _connected(place) as plain, reading.wrap_socket(plain) as tls:
            return described(tls.getpeercert())
    except (OSError, ValueError, RnxError):
        return None  # a moment ago it could be had; the error that is told does without


def _greet(tls: ssl.SSLSocket, place: Place, credentials: Credentials, own: Certificate) -> None:
    """Wait for the agent's first bytes: TLS 1.3 refuses a client's certificate after the handshake."""
    try:
        if tls.recv(1):  # its settings; we say nothing, so that nothing of ours crosses its alert
            return
        reason = ""
    except TimeoutError as error:
        raise silent(place, "says nothing") from error
    except ssl.SSLError as error:
        reason = error.reason or ""
    except OSError:
        reason = ""
    raise refused(place, reason, doubt(credentials), own)
