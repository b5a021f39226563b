"""Each way in which a connection over TLS can fail has a line that says so, against real sockets."""

import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from rnx.certificate import check_own
from rnx.config import Credentials, resolve
from rnx.diagnosis import explain
from rnx.exits import NoTrust
from tests.certificates import DAY, SERVER, Pair, bundle, make, make_ca, make_server

CA = make_ca()
EVE = make("eve", "operator", ca=CA)
NOWHERE = "127.0.0.1:1"
CHECKOUT = Path(__file__).parents[3]

Behaviour = Callable[[socket.socket], None]


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rnx.diagnosis.PATIENCE", 0.5)


def found(directory: Path, text: str) -> tuple[str, str]:
    """Return what is wrong with a connection of this configuration, with its code, and what to do."""
    error = explain(resolve(str(written(directory, text)), "", {}))
    assert error is not None
    return f"{error} [{error.reason}]", error.hint


def written(directory: Path, text: str) -> Path:
    path = directory / "c.yml"
    path.touch(mode=0o600)
    path.write_text(text)
    return path


ENCRYPTED = EVE.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
OWN: dict[str, tuple[str, str, str]] = {
    "expired": (
        bundle(make("eve", "operator", ca=CA, until=-DAY / 2), CA, NOWHERE),
        "CLIENT_CERTIFICATE_EXPIRED",
        r"the client certificate expired at 20\d\d-.* UTC, and here it is 20\d\d-.* UTC",
    ),
    "not yet valid": (
        bundle(make("eve", "operator", ca=CA, since=DAY / 2), CA, NOWHERE),
        "CLIENT_CERTIFICATE_NOT_YET_VALID",
        r"the client certificate begins at 20\d\d-.* UTC, and here it is 20\d\d-.* UTC",
    ),
    "another key": (
        bundle(EVE, CA, NOWHERE, key=CA.key),
        "CLIENT_KEY_MISMATCH",
        "the key of the configuration is not the key of its client certificate",
    ),
    "a key with a password": (
        bundle(EVE, CA, NOWHERE, key=ENCRYPTED),
        "CLIENT_KEY_UNREADABLE",
        "key of the configuration cannot be read: .*",
    ),
    "a damaged key": (
        bundle(EVE, CA, NOWHERE, key=EVE.key.replace(b"M", b"-")),
        "CLIENT_KEY_UNREADABLE",
        "key of the configuration cannot be read: .*",
    ),
    "a damaged certificate": (
        bundle(EVE, CA, NOWHERE).replace(EVE.pem.decode().splitlines()[1], "MIIB\xfc", 1),
        "CLIENT_CERTIFICATE_UNREADABLE",
        "cert of the configuration cannot be read: .*",
    ),
    "a damaged CA": (
        bundle(EVE, CA, NOWHERE).replace(CA.pem.decode().splitlines()[1], "MIIB"),
        "CA_UNREADABLE",
        "ca of the configuration cannot be read: .*",
    ),
    "the certificate of a server": (
        bundle(make("eve", ca=CA, usage=(SERVER,)), CA, NOWHERE),
        "CLIENT_CERTIFICATE_PURPOSE",
        "the client certificate is not for clients .*",
    ),
    "no port": (
        bundle(EVE, CA, "agent.example.com"),
        "BAD_ADDRESS",
        "cannot use the address agent.example.com: HOST:PORT is wanted",
    ),
    "nobody listens": (
        bundle(EVE, CA, NOWHERE),
        "CONNECTION_REFUSED",
        "cannot reach the agent at 127.0.0.1:1: connection refused",
    ),
    "no such name": (
        bundle(EVE, CA, "nobody.invalid:50051"),
        "NAME_NOT_RESOLVED",
        "cannot reach the agent at nobody.invalid:50051: cannot resolve nobody.invalid: .*",
    ),
}


@pytest.mark.parametrize("fault", ["expired", "a damaged key", "a damaged CA", "nobody listens"])
def test_r14_the_program_prints_two_lines_and_nothing_else(tmp_path: Path, fault: str) -> None:
    """In a process of its own: gRPC prints lines of its own unless rnx has loaded it."""
    text, reason, line = OWN[fault]
    words = (sys.executable, "-m", "rnx", "list", f"--config={written(tmp_path, text)}")
    done = subprocess.run(words, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    what, hint = done.stderr.splitlines()
    assert re.fullmatch(f"rnx: {line} \\[{reason}\\]", what), what
    assert hint.startswith("hint: ")


@pytest.mark.parametrize("fault", list(OWN))
def test_r14_faults_of_the_configuration(tmp_path: Path, fault: str) -> None:
    text, reason, line = OWN[fault]
    what, hint = found(tmp_path, text)
    assert re.fullmatch(f"{line} \\[{reason}\\]", what), what
    assert hint
    assert "BEGIN" not in what


def test_r14_a_certificate_of_tomorrow_hints_at_the_clock(tmp_path: Path) -> None:
    _, hint = found(tmp_path, OWN["not yet valid"][0])
    assert hint == "compare the clocks of the two machines: timedatectl"


def test_the_time_of_the_check_decides() -> None:
    own = Credentials(EVE.pem, EVE.key, CA.pem)
    assert (check_own(own).name, check_own(own).role, check_own(own).issuer) == ("eve", "operator", "test CA")
    with pytest.raises(NoTrust, match="expired at"):
        check_own(own, now=datetime.now(UTC) + timedelta(days=2))


@contextmanager
def serving(behave: Behaviour) -> Iterator[str]:
    """Take connections and behave like this with each, in threads."""

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):  # the listener's end
            while True:
                threading.Thread(target=handle, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def speaks_ssh(connection: socket.socket) -> None:
    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    connection.recv(4096)


def hangs_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    says_nothing(connection)


def says_nothing(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


def speaks_tls(
    file: Path,
    server: Pair,
    *,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    knows: Pair | None = None,
    then: Behaviour = says_nothing,
) -> Behaviour:
    """Behave as a server with this certificate; ``knows`` is the CA whose clients it lets in."""
    file.write_bytes(server.key + server.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = newest
    context.load_cert_chain(file)
    if knows is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=knows.pem.decode())

    def behave(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as tls:
            then(tls)

    return behave


GOOD, OTHER, TWIN = make_server(CA), make_ca("other CA"), make_ca()
V1_2 = ssl.TLSVersion.TLSv1_2
THERE: dict[str, tuple[Callable[[Path], Behaviour], str, str]] = {
    "another protocol": (
        lambda _: speaks_ssh,
        "NOT_TLS",
        "cannot reach the agent at ADDRESS: what answers there does not speak TLS",
    ),
    "nothing at all": (
        lambda _: says_nothing,
        "NO_ANSWER",
        "cannot reach the agent at ADDRESS: it takes the connection and says nothing about TLS",
    ),
    "hangs up": (
        lambda _: hangs_up,
        "CONNECTION_CLOSED",
        "cannot reach the agent at ADDRESS: it closes the connection before TLS begins",
    ),
    "old TLS": (
        lambda path: speaks_tls(path, GOOD, newest=V1_2),
        "TLS_VERSION",
        "cannot reach the agent at ADDRESS: what answers there does not speak TLS 1.3",
    ),
    "TLS without gRPC": (
        lambda path: speaks_tls(path, GOOD),
        "NO_ANSWER",
        "cannot reach the agent at ADDRESS: it takes the connection and says nothing",
    ),
    "expired": (
        lambda path: speaks_tls(path, make("joblet", ca=CA, usage=(SERVER,), until=-DAY / 2)),
        "SERVER_CERTIFICATE_EXPIRED",
        "cannot trust the agent at ADDRESS: its certificate expired at TIME, and here it is TIME",
    ),
    "not yet valid": (
        lambda path: speaks_tls(path, make("joblet", ca=CA, usage=(SERVER,), since=DAY / 2)),
        "SERVER_CERTIFICATE_NOT_YET_VALID",
        "cannot trust the agent at ADDRESS: its certificate begins at TIME, and here it is TIME",
    ),
    "another CA": (
        lambda path: speaks_tls(path, make_server(OTHER)),
        "SERVER_CERTIFICATE_OTHER_CA",
        "cannot trust the agent at ADDRESS: its certificate is not from the CA of the configuration "
        "but from other CA",
    ),
    "another CA of the same name": (
        lambda path: speaks_tls(path, make_server(TWIN)),
        "SERVER_CERTIFICATE_OTHER_CA",
        "cannot trust the agent at ADDRESS: its certificate is not from the CA of the configuration "
        "but from another of the same name",
    ),
    "self-signed": (
        lambda path: speaks_tls(path, make_server(None)),
        "SERVER_CERTIFICATE_OTHER_CA",
        "cannot trust the agent at ADDRESS: its certificate is not from the CA of the configuration "
        "but from joblet",
    ),
    "another name": (
        lambda path: speaks_tls(path, make("web", ca=CA, usage=(SERVER,), hosts=("web.example",))),
        "SERVER_CERTIFICATE_NAME",
        "cannot trust the agent at ADDRESS: its certificate is not for the name joblet but for web.example",
    ),
    "the certificate of a client": (
        lambda path: speaks_tls(path, EVE),
        "SERVER_CERTIFICATE_INVALID",
        "cannot trust the agent at ADDRESS: its certificate or its CA's is not good: .*purpose.*",
    ),
    "lets other clients in": (
        lambda path: speaks_tls(path, GOOD, knows=OTHER),
        "CLIENT_CERTIFICATE_REFUSED",
        r"the agent at ADDRESS refuses the client certificate \(eve, from test CA, until TIME\): "
        "the agent does not know its CA",
    ),
    "hangs up on the client's certificate": (
        lambda path: speaks_tls(path, GOOD, then=hangs_up),
        "CLIENT_CERTIFICATE_REFUSED",
        r"the agent at ADDRESS hangs up when it has seen the client certificate "
        r"\(eve, from test CA, until TIME\)",
    ),
}
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.mark.parametrize("fault", list(THERE))
def test_r14_faults_of_the_other_end(tmp_path: Path, fault: str) -> None:
    behave, reason, line = THERE[fault]
    with serving(behave(tmp_path / "server.pem")) as address:
        what, hint = found(tmp_path, bundle(EVE, CA, address))
    expected = line.replace("ADDRESS", re.escape(address)).replace("TIME", TIME)
    assert re.fullmatch(f"{expected} \\[{reason}\\]", what), what
    assert hint


def test_an_agent_that_hangs_up_on_a_certificate_of_another_ca(tmp_path: Path) -> None:
    """gRPC sends no alert."""
    eve = make("eve", "operator", ca=OTHER)
    with serving(speaks_tls(tmp_path / "server.pem", GOOD, then=hangs_up)) as address:
        what, _ = found(tmp_path, bundle(eve, CA, address))
    assert "refuses the client certificate (eve, from other CA" in what
    assert "the CA of the configuration has not signed it" in what
