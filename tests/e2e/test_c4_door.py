"""Floods, bombs and dawdlers at the network listener: others are served, and nothing stays behind."""

import gzip
import os
import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import grpc
import pytest
from hyperframe.frame import ContinuationFrame, Frame, HeadersFrame, SettingsFrame

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.attacks.honest import calling
from tests.attacks.wire import PREFACE, Wire, data, message, tcp, tls, tls_context
from tests.certificates import make, make_ca
from tests.e2e import network
from tests.e2e.agent import DEADLINE, SOCKET, Client, eventually, main_pid
from tests.e2e.host import refusal
from tests.e2e.inside import running
from tests.e2e.network import PORT, listening

pytestmark = pytest.mark.systemd

CA = make_ca()
EVE = make("eve", "viewer", ca=CA)
BOB = make("bob", "viewer", ca=CA)
MOST = 400
CONFIG = f"""
listener:
  max_connections: {MOST}
  handshake_timeout: 2s
rpc:
  request_timeout: 3s
"""
MIB = 1024 * 1024
GET_NODE, QUERY_JOBS = "AgentService/GetNode", "AgentService/QueryJobs"
CONTEXT = tls_context(EVE)


@dataclass
class Use:
    """What the agent has."""

    rss: int
    """Bytes."""
    files: int

    @staticmethod
    def now() -> "Use":
        process = Path(f"/proc/{main_pid()}")
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        return Use(pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(process / "fd")))


@pytest.fixture(scope="module", autouse=True)
def _listener() -> Iterator[None]:
    with listening(CA, CONFIG):
        yield


def forget_peak() -> None:
    """Let the agent's peak memory begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{main_pid()}/clear_refs").write_text("5", encoding="ascii")


def peak() -> int:
    """Return the most resident memory since then, in bytes."""
    status = Path(f"/proc/{main_pid()}/status").read_text(encoding="ascii")
    (line,) = (each for each in status.splitlines() if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@contextmanager
def withstood(most_bytes: int = 150 * MIB) -> Iterator[None]:
    """Expect that others are served during the block, and that nothing is left of it afterwards.

    ``most_bytes``: what the agent may have needed more than before, of which it may keep as much.
    """
    agent, before = main_pid(), Use.now()
    target = f"127.0.0.1:{PORT}"
    with calling(target, BOB, CA) as remote, calling(SOCKET) as local:
        forget_peak()
        yield
        assert peak() - before.rss < most_bytes
    for report in (remote, local):
        assert report.seconds
        assert report.failures == []
    assert main_pid() == agent
    eventually(lambda: Use.now().files, lambda files: files <= before.files + 2)
    assert Use.now().rss - before.rss < most_bytes
    assert outcome(BOB) == "OK"


def outcome(pair: Any) -> str:
    with network.channel(pair, CA) as made:
        agent = stubs.AgentServiceStub(made)  # type: ignore[no-untyped-call]
        try:
            agent.GetNode(pb.GetNodeRequest(), timeout=DEADLINE)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def wire() -> Wire:
    return Wire(tls(CONTEXT))


def is_told(connection: Wire, *words: bytes) -> bool:
    """Read until one of these words has come; False if nothing more comes."""
    heard = b""
    while not any(each in heard for each in words):
        more = connection.read(DEADLINE)
        if not more:
            return False
        heard += more
    return True


def is_cut(connection: Wire) -> bool:
    """Read until the end of the connection; False if there is none within the deadline."""
    while connection.read(DEADLINE):
        pass
    connection.connection.settimeout(DEADLINE)
    try:
        return connection.connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_c4_thousands_of_connections_that_say_nothing() -> None:
    with withstood(), ExitStack() as stack:
        for _ in range(3):
            for _ in range(MOST):
                stack.enter_context(tcp())
            assert outcome(BOB) == "OK"
        eventually(lambda: Use.now().files, lambda files: files < MOST + 100)


def client_hello() -> bytes:
    """Return the first message of a client that means to shake hands."""
    received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        CONTEXT.wrap_bio(received, sent, server_hostname="joblet").do_handshake()
    return sent.read()


HALF: dict[str, Callable[[], bytes]] = {
    "nothing": bytes,
    "half a hello": lambda: client_hello()[:100],
    "a hello, again and again the same": client_hello,
    "plain text": lambda: PREFACE + bytes(9),
}


@pytest.mark.parametrize("kind", list(HALF))
def test_c4_handshakes_that_do_not_end_are_ended(kind: str) -> None:
    said = HALF[kind]()
    with withstood(), ExitStack() as stack:
        connections = [Wire(tcp(), greet=False) for _ in range(50)]
        for connection in connections:
            stack.enter_context(connection)
            connection.send_bytes(said)
        assert all(map(is_cut, connections))


def test_c4_a_connection_of_tls_without_http_is_ended() -> None:
    with withstood(), Wire(tls(CONTEXT), greet=False) as connection:
        assert is_cut(connection)


def test_c4_headers_that_never_end() -> None:
    with withstood(), ExitStack() as stack:
        for _ in range(50):
            slow = stack.enter_context(wire())
            slow.send(HeadersFrame(1, slow.header_block(GET_NODE)[:20]))
        for _ in range(MOST):  # whoever has not made himself known makes room
            stack.enter_context(tcp())
        assert outcome(BOB) == "OK"


def test_c4_headers_larger_than_the_limit_are_refused() -> None:
    with withstood(), network.channel(EVE, CA) as made:
        raw: Any = made
        call = raw.unary_unary(f"/joblet.{GET_NODE}")
        for count in (9, 900):
            headers = [(f"x-{each}", "a" * 8000) for each in range(count)]
            found = refusal(partial(call, b"", metadata=headers, timeout=DEADLINE))
            assert found == ("RESOURCE_EXHAUSTED", "HEADERS_TOO_LARGE")
        assert call(b"", metadata=[("x", "a" * 8000)], timeout=DEADLINE)


def test_c4_headers_that_grow_when_they_are_unpacked() -> None:
    with withstood():
        for _ in range(20):
            with wire() as bomb:
                large = bomb.header_block(GET_NODE, [("x-a", "a" * 3000)])
                bomb.send(frame := HeadersFrame(1, large))
                assert frame.flags is not None
                last = ContinuationFrame(1, b"\xbe" * 16000)  # the same entry of the table, 16000 times
                last.flags.add("END_HEADERS")
                bomb.send(last)
                assert is_told(bomb, b"exceeds limit", b"HEADERS_TOO_LARGE")


def test_c4_calls_that_never_send_their_request_are_ended() -> None:
    with withstood(), wire() as slow:
        for stream in range(1, 101, 2):
            slow.send(slow.call(stream, GET_NODE))
        assert is_told(slow, b"REQUEST_TOO_SLOW")


def test_c4_a_client_that_sends_slowly_stops_nobody() -> None:
    with withstood(), ExitStack() as stack:
        for _ in range(20):
            slow = stack.enter_context(wire())
            slow.send(slow.call(1, QUERY_JOBS), *data(1, message(bytes(1000), length=100 * MIB)))
        for _ in range(5):
            assert outcome(BOB) == "OK"


def _many_large(pair: Any) -> list[str]:
    """Send 100 MiB in each of some calls at once; return how they were answered."""
    with network.channel(pair, CA, ("grpc.max_send_message_length", -1)) as made:
        raw: Any = made
        call = raw.unary_unary(f"/joblet.{QUERY_JOBS}")
        calls = [call.future(bytes(100 * MIB), timeout=60) for _ in range(3)]
        return [refusal(each.result)[1] for each in calls]


def test_c4_large_requests_take_no_memory_from_whoever_has_no_role() -> None:
    with withstood():
        assert set(_many_large(make("eve", ca=CA))) == {"CERTIFICATE_ROLE"}


def test_c4_large_requests_come_one_after_the_other_and_their_memory_goes_back() -> None:
    before = Use.now().rss
    with withstood(600 * MIB):
        assert set(_many_large(EVE)) <= {"MALFORMED_REQUEST", "REQUEST_TOO_SLOW"}
    eventually(lambda: Use.now().rss, lambda rss: rss - before < 50 * MIB)


def test_c4_a_compressed_request_is_refused() -> None:
    bomb = gzip.compress(bytes(32 * MIB))
    with withstood(50 * MIB), ExitStack() as stack:
        for _ in range(20):
            sender = stack.enter_context(wire())
            sender.send(sender.call(1, GET_NODE, [("grpc-encoding", "gzip")]))
            sender.send(*data(1, b"\1" + len(bomb).to_bytes(4, "big") + bomb, ends=True))
            assert is_told(sender, b"Compression algorithm 'gzip' is disabled")


def test_c4_calls_that_are_taken_back_at_once_end_the_connection() -> None:
    with withstood(), wire() as flood:
        assert _is_refused(flood, _resets(flood))


def _resets(flood: Wire) -> Iterator[list[Frame]]:
    """Make calls and take them back at once, half a million of them."""
    for first in range(1, 1_000_000, 200):
        streams = range(first, first + 200, 2)
        yield [frame for stream in streams for frame in (flood.call(stream, GET_NODE), flood.reset(stream))]
        flood.read(0.001)


def _is_refused(flood: Wire, frames: Iterable[Sequence[Frame]]) -> bool:
    """Send what there is; say whether the agent has cut the connection, or reads no more of it."""
    flood.connection.settimeout(5)
    try:
        for some in frames:
            flood.send(*some)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("kind", ["pings", "settings"])
def test_c4_frames_that_want_an_answer_each(kind: str) -> None:
    with withstood(), wire() as flood:
        frames = [flood.ping() if kind == "pings" else SettingsFrame(0) for _ in range(1000)]
        assert _is_refused(flood, repeat(frames, 1000))


def test_c4_a_million_tiny_messages() -> None:
    with withstood(), Wire(tls(tls_context(make("eve", "operator", ca=CA)))) as flood:
        flood.send(flood.call(1, "AgentService/UploadFiles"))
        _is_refused(flood, repeat(data(1, message(b"") * 3000), 334))


def test_c4_messages_within_messages_within_messages() -> None:
    nested = b""
    while len(nested) < 60000:
        nested = b"\x0a" + _varint(len(nested)) + nested
    groups = b"\x0b" * 60000
    with withstood(), network.channel(EVE, CA) as made:
        for method in (GET_NODE, QUERY_JOBS, "JobService/GetJobLogs"):
            raw: Any = made
            call = raw.unary_stream(f"/joblet.{method}")
            for request in (nested, groups):
                with suppress(grpc.RpcError):  # unknown fields alone are no mistake
                    list(call(request, timeout=DEADLINE))


def _varint(number: int) -> bytes:
    raw = bytearray()
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*raw, number])


def test_c4_followers_that_never_read_hold_little(client: Client) -> None:
    script = "head -c 30000000 /dev/zero; echo; echo ready; exec sleep 1000"
    with running(client, "sh", "-c", script) as job, withstood(200 * MIB), ExitStack() as stack:
        for _ in range(5):
            deaf = stack.enter_context(wire())
            deaf.send(SettingsFrame(0, {SettingsFrame.INITIAL_WINDOW_SIZE: 2**31 - 1}))
            deaf.send(deaf.window(0, 2**31 - 1 - 65535))
            request = message(pb.GetJobLogsRequest(uuid=job).SerializeToString())
            for stream in range(1, 21, 2):
                deaf.send(deaf.call(stream, "JobService/GetJobLogs"), *data(stream, request, ends=True))
        with network.channel(BOB, CA) as made, closing(made):
            jobs = stubs.JobServiceStub(made)  # type: ignore[no-untyped-call]
            tail = pb.GetJobLogsRequest(uuid=job, tail_lines=1, no_follow=True)
            assert b"".join(each.payload for each in jobs.GetJobLogs(tail, timeout=DEADLINE)) == b"ready\n"
