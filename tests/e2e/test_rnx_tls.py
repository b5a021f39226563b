"""What rnx says when TLS with the real listener fails: one line with the cause, one with what to do."""

import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.certificates import (
    DAY,
    SERVER,
    Pair,
    bundle,
    furnish,
    make,
    make_ca,
    make_server,
    place,
    revocation,
)
from tests.e2e.agent import agent_stopped, eventually
from tests.e2e.host import rnx
from tests.e2e.network import PKI, PORT, listening

pytestmark = pytest.mark.systemd

CA, OTHER, TWIN = make_ca(), make_ca("other CA"), make_ca()
EVE = make("eve", "operator", ca=CA)
ADDRESS = f"127.0.0.1:{PORT}"
TIME = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


@pytest.fixture(scope="module", autouse=True)
def _listener() -> Iterator[None]:
    with listening(CA, ""):
        yield


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "rnx-config.yml"
    path.touch(mode=0o600)
    path.write_text(bundle(EVE, CA, ADDRESS))
    return path


def said(config: Path) -> str:
    """Return the line of a failed call; empty for a good one. A line of what to do follows."""
    done = rnx("list", f"--config={config}")
    if done.returncode == 0:
        return ""
    what, hint = done.stderr.decode().splitlines()
    assert (done.returncode, done.stdout) == (1, b"")
    assert hint.startswith("hint: ")
    return what


SERVERS: dict[str, tuple[Pair, str]] = {
    "expired": (
        make("joblet", ca=CA, usage=(SERVER,), until=-DAY / 2),
        f"its certificate expired at {TIME}, and here it is {TIME} [SERVER_CERTIFICATE_EXPIRED]",
    ),
    "not yet valid": (
        make("joblet", ca=CA, usage=(SERVER,), since=DAY / 2),
        f"its certificate begins at {TIME}, and here it is {TIME} [SERVER_CERTIFICATE_NOT_YET_VALID]",
    ),
    "of another CA": (
        make_server(OTHER),
        "its certificate is not from the CA of the configuration but from other CA "
        "[SERVER_CERTIFICATE_OTHER_CA]",
    ),
    "of another CA of the same name": (
        make_server(TWIN),
        "its certificate is not from the CA of the configuration but from another of the same name "
        "[SERVER_CERTIFICATE_OTHER_CA]",
    ),
    "for another name": (
        make("web", ca=CA, usage=(SERVER,), hosts=("web.example", "www")),
        "its certificate is not for the name joblet but for web.example, www [SERVER_CERTIFICATE_NAME]",
    ),
}


@pytest.mark.parametrize("kind", list(SERVERS))
def test_r14_a_certificate_of_the_agent(config: Path, kind: str) -> None:
    pair, text = SERVERS[kind]
    line = f"rnx: cannot trust the agent at {ADDRESS}: {text}"
    pattern = re.escape(line).replace(re.escape(TIME), TIME)
    try:
        furnish(PKI, pair, CA)
        eventually(lambda: said(config), lambda now: re.fullmatch(pattern, now) is not None)
    finally:
        furnish(PKI, make_server(CA), CA)
        eventually(lambda: said(config), lambda now: now == "")


CLIENTS: dict[str, tuple[Pair, str]] = {
    "of another CA": (
        make("eve", "operator", ca=OTHER),
        rf"the agent at {ADDRESS} refuses the client certificate \(eve, from other CA, until {TIME}\): "
        r".*CA.* \[CLIENT_CERTIFICATE_REFUSED\]",
    ),
    "self-signed": (
        make("eve", "operator"),
        rf"the agent at {ADDRESS} refuses the client certificate \(eve, from eve, until {TIME}\): .* "
        r"\[CLIENT_CERTIFICATE_REFUSED\]",
    ),
    "expired": (
        make("eve", "operator", ca=CA, until=-DAY / 2),
        rf"the client certificate expired at {TIME}, and here it is {TIME} \[CLIENT_CERTIFICATE_EXPIRED\]",
    ),
    "not yet valid": (
        make("eve", "operator", ca=CA, since=DAY / 2),
        rf"the client certificate begins at {TIME}, and here it is {TIME} "
        r"\[CLIENT_CERTIFICATE_NOT_YET_VALID\]",
    ),
    "of a server": (
        make("eve", "operator", ca=CA, usage=(SERVER,)),
        r"the client certificate is not for clients \(.*\) \[CLIENT_CERTIFICATE_PURPOSE\]",
    ),
    "without a role": (
        make("eve", "root", ca=CA),
        "cannot accept the client certificate: its OU must be one of admin, operator, viewer",
    ),
}


@pytest.mark.parametrize("kind", list(CLIENTS))
def test_r14_a_certificate_of_the_client(config: Path, kind: str) -> None:
    pair, pattern = CLIENTS[kind]
    config.write_text(bundle(pair, CA, ADDRESS))
    assert re.fullmatch(f"rnx: {pattern}", said(config)), said(config)


def test_r14_a_certificate_that_the_agents_ca_has_not_signed_any_more(config: Path) -> None:
    """The configuration is consistent in itself: only the agent can say it."""
    furnish(PKI, make_server(CA), OTHER)
    try:
        line = eventually(lambda: said(config), bool)
        assert f"the agent at {ADDRESS} " in line
        assert "[CLIENT_CERTIFICATE_REFUSED]" in line
    finally:
        furnish(PKI, make_server(CA), CA)
        eventually(lambda: said(config), lambda now: now == "")


def test_r14_a_revoked_certificate(config: Path) -> None:
    place(PKI / "revoked.pem", revocation(CA, EVE))
    try:
        line = eventually(lambda: said(config), bool)
        assert line == "rnx: cannot accept the client certificate: it has been revoked"
    finally:
        (PKI / "revoked.pem").unlink()
        eventually(lambda: said(config), lambda now: now == "")


def test_r14_an_agent_that_is_stopped(config: Path) -> None:
    with agent_stopped():
        assert (
            said(config)
            == f"rnx: cannot reach the agent at {ADDRESS}: connection refused [CONNECTION_REFUSED]"
        )
    eventually(lambda: said(config), lambda now: now == "")


class MailServer(socketserver.BaseRequestHandler):
    """Greets; several at a time, as gRPC tries again meanwhile."""

    def handle(self) -> None:
        with suppress(OSError):
            self.request.sendall(b"220 mail.example ESMTP\r\n")
            self.request.recv(4096)


def test_r14_another_service_at_the_port(config: Path) -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), MailServer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"127.0.0.1:{server.server_address[1]}"
        config.write_text(bundle(EVE, CA, address))
        try:
            line = f"cannot reach the agent at {address}: what answers there does not speak TLS [NOT_TLS]"
            assert said(config) == f"rnx: {line}"
        finally:
            server.shutdown()
            thread.join()


def test_a_bad_certificate_ends_an_attached_run_at_once(config: Path) -> None:
    config.write_text(bundle(make("eve", "operator", ca=CA, until=-DAY / 2), CA, ADDRESS))
    done = rnx("run", "--attach", "--token=t", f"--config={config}", "true")
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"[CLIENT_CERTIFICATE_EXPIRED]" in done.stderr
