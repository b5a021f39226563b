"""The way in over the network: who is let in, by which certificate, to which method."""

import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from joblet_agent.rpc.auth import ACCESS
from joblet_agent.rpc.health import CHECK, WATCH
from joblet_agent.rpc.methods import Method, defined_methods
from joblet_agent.rpc.reflection import METHOD, SERVICES
from tests.certificates import (
    CLIENT,
    DAY,
    SERVER,
    Pair,
    furnish,
    make,
    make_ca,
    make_server,
    place,
    revocation,
)
from tests.e2e import network
from tests.e2e.agent import DEADLINE, Client, command, eventually
from tests.e2e.host import configured
from tests.e2e.network import PKI, PORT, listening

pytestmark = pytest.mark.systemd

CA = make_ca()
OPERATOR_SOCKET, VIEWER_SOCKET = Path("/run/joblet/operator.sock"), Path("/run/joblet/viewer.sock")
EXTRA = f"""
sockets:
  operator: {{path: {OPERATOR_SOCKET}, group: daemon}}
  viewer: {{path: {VIEWER_SOCKET}, group: games}}
rpc:
  reflection: yes
"""
METHODS = defined_methods()
REFLECTION = [f"{service}/{METHOD}" for service in SERVICES]
MAY = {
    "admin": {"read", "read files", "run", "manage"},
    "operator": {"read", "read files", "run"},
    "viewer": {"read"},
}


@pytest.fixture(scope="module", autouse=True)
def _listener() -> Iterator[None]:
    with listening(CA, EXTRA):
        yield


channel = partial(network.channel, ca=CA)


@contextmanager
def local(path: Path) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"unix:{path}", [("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


def refusal(made: Any, method: Method, request: bytes = b"\xff\xff") -> tuple[str, str, str]:
    """Return status, reason and text. The request is garbage, which is looked at after the access check."""
    name = f"/joblet.{method.path}"
    call: Callable[[], object] = partial(made.unary_unary(name), request, timeout=DEADLINE)
    if method.takes_stream:
        call = partial(made.stream_unary(name), iter([request]), timeout=DEADLINE)
    elif method.gives_stream:
        call = partial(next, made.unary_stream(name)(request, timeout=DEADLINE))
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, reason_of(caught.value), str(caught.value.details())


def reason_of(error: Any) -> str:
    trailer: dict[str, str] = dict(error.trailing_metadata() or ())
    return trailer.get("joblet-reason", "")


def outcome_of_get_node(pair: Pair | None, ca: Pair = CA) -> str:
    """Return OK, or why not: our reason, or UNAVAILABLE when TLS has refused already."""
    with channel(pair, ca=ca) as made:
        try:
            stubs.AgentServiceStub(made).GetNode(pb.GetNodeRequest(), timeout=DEADLINE)  # type: ignore[no-untyped-call]
        except grpc.RpcError as error:
            return reason_of(error) or str(error.code().name)
    return "OK"


@pytest.mark.parametrize("role", list(MAY))
@pytest.mark.parametrize("listener", ["network", "socket"])
def test_c1_every_method_by_every_role_on_every_listener(role: str, listener: str) -> None:
    assert set(ACCESS) == {method.path for method in METHODS} | {CHECK, WATCH} | set(REFLECTION)
    paths = {"admin": Path("/run/joblet/agent.sock"), "operator": OPERATOR_SOCKET, "viewer": VIEWER_SOCKET}
    with channel(make("eve", role, ca=CA)) if listener == "network" else local(paths[role]) as made:
        for method in METHODS:
            code, reason, text = refusal(made, method)
            needed = ACCESS[method.path]
            if needed in MAY[role]:
                assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST"), method.path
            else:
                assert (code, reason) == ("PERMISSION_DENIED", "ROLE_NOT_PERMITTED"), method.path
                assert text == f"cannot call {method.path}: role {role} has no permission to {needed}"


BAD: dict[str, tuple[Callable[[], Pair | None], str]] = {
    "no certificate": (lambda: None, "UNAVAILABLE"),
    "self-signed": (lambda: make("eve", "admin"), "UNAVAILABLE"),
    "other CA": (lambda: make("eve", "admin", ca=make_ca("another CA")), "UNAVAILABLE"),
    "other CA of the same name": (lambda: make("eve", "admin", ca=make_ca()), "UNAVAILABLE"),
    "expired": (lambda: make("eve", "admin", ca=CA, until=-DAY / 2), "UNAVAILABLE"),
    "not yet valid": (lambda: make("eve", "admin", ca=CA, since=DAY / 2), "UNAVAILABLE"),
    "of a server": (lambda: make("eve", "admin", ca=CA, usage=(SERVER,)), "UNAVAILABLE"),
    "of no purpose": (lambda: make("eve", "admin", ca=CA, usage=None), "CERTIFICATE_PURPOSE"),
    "wrong OU": (lambda: make("eve", "root", ca=CA), "CERTIFICATE_ROLE"),
    "no OU": (lambda: make("eve", ca=CA), "CERTIFICATE_ROLE"),
    "two OUs": (lambda: make("eve", "admin", "viewer", ca=CA), "CERTIFICATE_ROLE"),
    "two OUs in one": (lambda: make("eve", ("admin", "viewer"), ca=CA), "CERTIFICATE_ROLE"),
    "empty OU": (lambda: make("eve", "", ca=CA), "CERTIFICATE_ROLE"),
    "OU in the name": (lambda: make("eve,OU=admin", ca=CA), "CERTIFICATE_ROLE"),
    "OU with a space": (lambda: make("eve", "admin ", ca=CA), "CERTIFICATE_ROLE"),
    "OU with a Cyrillic a": (lambda: make("eve", "\u0430dmin", ca=CA), "CERTIFICATE_ROLE"),
    "OU in full width": (lambda: make("eve", "\uff41dmin", ca=CA), "CERTIFICATE_ROLE"),
    "name of the local socket": (lambda: make("local", "admin", ca=CA), "CERTIFICATE_NAME"),
}


@pytest.mark.parametrize("kind", list(BAD))
def test_c1_certificates_that_let_nobody_in(kind: str) -> None:
    made, expected = BAD[kind]
    assert outcome_of_get_node(made()) == expected


@pytest.mark.parametrize("kind", [kind for kind, (_, expected) in BAD.items() if expected != "UNAVAILABLE"])
def test_c1_no_method_at_all_for_a_certificate_without_a_role(kind: str) -> None:
    with channel(BAD[kind][0]()) as made:
        for method in METHODS:
            code, reason, _ = refusal(made, method)
            assert (code, reason) == ("UNAUTHENTICATED", BAD[kind][1]), method.path


def test_c1_good_ones() -> None:
    for pair in (make("eve", "ADMIN", ca=CA), make("eve", "viewer", ca=CA, usage=(CLIENT, SERVER))):
        assert outcome_of_get_node(pair) == "OK"


@pytest.mark.parametrize("role", list(MAY))
def test_health_for_every_role(role: str) -> None:
    with channel(make("eve", role, ca=CA)) as made:
        raw: Any = made
        assert raw.unary_unary(f"/{CHECK}")(b"", timeout=DEADLINE) == b"\x08\x01"  # SERVING
        watch = raw.unary_stream(f"/{WATCH}")(b"\x0a\x01x", timeout=DEADLINE)
        assert next(watch) == b"\x08\x03"  # SERVICE_UNKNOWN
        watch.cancel()
    assert health_of(make("eve", ca=CA)) == "CERTIFICATE_ROLE"


@pytest.mark.parametrize("method", REFLECTION)
def test_reflection_is_for_admins(method: str) -> None:
    services = pb.ReflectionRequest(list_services="*").SerializeToString()
    file = pb.ReflectionRequest(file_containing_symbol="joblet.JobService.RunJob").SerializeToString()
    none = pb.ReflectionRequest(file_by_filename="nonsense").SerializeToString()
    with channel(make("eve", "admin", ca=CA)) as made:
        raw: Any = made
        replies = raw.stream_stream(f"/{method}")(iter([services, file, none]), timeout=DEADLINE)
        found = [pb.ReflectionResponse.FromString(reply) for reply in replies]
    assert "joblet.AgentService" in [each.name for each in found[0].list_services_response.service]
    assert found[1].file_descriptor_response.file_descriptor_proto == [pb.DESCRIPTOR.serialized_pb]
    assert found[2].error_response.error_code == 5
    for role in ("operator", "viewer"):
        with channel(make("eve", role, ca=CA)) as made:
            raw = made
            replies = raw.stream_stream(f"/{method}")(iter([services]), timeout=DEADLINE)
            with pytest.raises(grpc.RpcError) as caught:
                next(replies)
        assert reason_of(caught.value) == "ROLE_NOT_PERMITTED"


def health_of(pair: Pair) -> str:
    with channel(pair) as made:
        raw: Any = made
        with pytest.raises(grpc.RpcError) as caught:
            raw.unary_unary(f"/{CHECK}")(b"", timeout=DEADLINE)
    return reason_of(caught.value)


def test_viewers_fetch_files_where_the_node_lets_them(client: Client) -> None:
    job = client.run("sh", "-c", "echo secret > result")
    client.ended(job)
    request = pb.DownloadJobFileRequest(uuid=job, path="result")
    with channel(make("eve", "viewer", ca=CA)) as made:
        agent = stubs.AgentServiceStub(made)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            list(agent.DownloadJobFile(request, timeout=DEADLINE))
        assert reason_of(caught.value) == "ROLE_NOT_PERMITTED"
        with configured("viewer:\n  files: yes\n"):
            pieces = agent.DownloadJobFile(request, timeout=DEADLINE, wait_for_ready=True)
            assert b"secret\n" in [piece.content for piece in pieces]


def test_c1_only_tls_1_3_and_nothing_in_plain_text() -> None:
    with tempfile.TemporaryDirectory() as directory:
        pair, file = make("eve", "viewer", ca=CA), Path(directory) / "eve.pem"
        file.write_bytes(pair.key + pair.pem)

        def openssl(*options: str) -> str:
            words = ("openssl", "s_client", "-connect", f"127.0.0.1:{PORT}", "-cert", str(file), *options)
            done = subprocess.run(words, input=b"", capture_output=True, timeout=DEADLINE, check=False)
            return (done.stdout + done.stderr).decode(errors="replace")

        assert "New, TLSv1.3, Cipher is TLS_" in openssl("-tls1_3")
        for options in (("-tls1_2",), ("-tls1_2", "-cipher", "ALL:@SECLEVEL=0"), ("-tls1_1",), ("-tls1",)):
            assert "Cipher is (NONE)" in openssl(*options), options
    with socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE) as plain:
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
        assert _received(plain)[:1] in {b"", b"\x15"}  # an end, or an alert of TLS


def _received(plain: socket.socket) -> bytes:
    try:
        return plain.recv(100)
    except ConnectionError:
        return b""


def test_sockets_have_the_mode_and_group_that_decide() -> None:
    for path, group in ((OPERATOR_SOCKET, "daemon"), (VIEWER_SOCKET, "games")):
        assert (path.group(), path.stat().st_mode & 0o777) == (group, 0o660)


def test_r14_new_certificates_and_cas_without_restart_and_without_losing_a_stream(client: Client) -> None:
    job = client.run("sh", "-c", "echo begun; exec sleep 1000")
    other = make_ca("next CA")
    eve, bob = make("eve", "operator", ca=CA), make("bob", "operator", ca=other)
    try:
        with channel(eve) as made:
            jobs = stubs.JobServiceStub(made)  # type: ignore[no-untyped-call]
            follower = jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=job))
            assert next(follower).payload == b"begun\n"
            furnish(PKI, make_server(other, "joblet"), CA, other)
            eventually(lambda: outcome_of_get_node(bob, other), lambda outcome: outcome == "OK")
            assert outcome_of_get_node(eve, other) == "OK"  # both CAs while they overlap
            furnish(PKI, make_server(CA), CA)
            eventually(lambda: outcome_of_get_node(eve), lambda outcome: outcome == "OK")
            assert follower.is_active()
            client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True), timeout=DEADLINE)
            assert list(follower) == []  # to its proper end
    finally:
        furnish(PKI, make_server(CA), CA)
        eventually(lambda: outcome_of_get_node(eve), lambda outcome: outcome == "OK")


def test_c2_streams_end_when_the_certificate_is_revoked(client: Client) -> None:
    job = client.run("sh", "-c", "echo begun; exec sleep 1000")
    eve, bob = make("eve", "viewer", ca=CA), make("bob", "viewer", ca=CA)
    with channel(eve) as first, channel(bob) as second:
        followers = []
        for made in (first, second):
            jobs = stubs.JobServiceStub(made)  # type: ignore[no-untyped-call]
            followers.append(jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=job)))
            assert next(followers[-1]).payload == b"begun\n"
        place(PKI / "revoked.pem", revocation(CA, eve))
        with pytest.raises(grpc.RpcError) as caught:
            list(followers[0])
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert caught.value.details() == "cannot accept the client certificate: it has been revoked"
        assert outcome_of_get_node(eve) == "CERTIFICATE_REVOKED"
        assert outcome_of_get_node(bob) == "OK"
        client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True), timeout=DEADLINE)
        assert list(followers[1]) == []
    (PKI / "revoked.pem").unlink()
    eventually(lambda: outcome_of_get_node(eve), lambda outcome: outcome == "OK")


def test_c2_a_stream_ends_when_the_certificate_expires(client: Client) -> None:
    job = client.run("sh", "-c", "echo begun; exec sleep 1000")
    with channel(make("eve", "viewer", ca=CA, until=DAY / 86400 * 4)) as made:
        jobs = stubs.JobServiceStub(made)  # type: ignore[no-untyped-call]
        with pytest.raises(grpc.RpcError) as caught:
            list(jobs.GetJobLogs(pb.GetJobLogsRequest(uuid=job), timeout=DEADLINE))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert "it expired at " in str(caught.value.details())
    client.jobs.StopJob(pb.StopJobRequest(uuid=job, force=True), timeout=DEADLINE)


def test_certificates_that_come_later_and_files_that_cannot_be_used() -> None:
    rmtree(PKI)
    command("systemctl", "restart", "joblet-agent.service")
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", PORT), timeout=DEADLINE).close()
    furnish(PKI, make_server(CA), CA)
    eve = make("eve", "admin", ca=CA)
    eventually(lambda: outcome_of_get_node(eve), lambda outcome: outcome == "OK")
    for name, content in (("server.key", make_server(CA).key), ("server.crt", b"junk"), ("ca.crt", b"")):
        kept = (PKI / name).read_bytes()
        place(PKI / name, content)
        assert outcome_of_get_node(eve) == "OK", name
        place(PKI / name, kept)
    place(PKI / "revoked.pem", revocation(make_ca("a stranger")))
    assert outcome_of_get_node(eve) == "OK"
    (PKI / "revoked.pem").unlink()
