"""``python3 -m tests.attacks.fuzz --minutes 10``: nonsense on every layer of the network listener.

As root in a machine with the agent installed. One after the other, on connections of their own: bytes instead
of TLS, broken TLS records, bytes and frames instead of HTTP/2, frames of gRPC with lies in them, and mutated
messages to every method. An honest client calls meanwhile. The exit status is 0 if the agent has served it
all the time, is the same process, and has as much memory and as many files as before.
"""

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

from hyperframe import frame as http2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from joblet_agent.rpc.methods import defined_methods
from tests.attacks.honest import Report, calling
from tests.attacks.wire import PORT, PREFACE, Wire, data, message, tcp, tls, tls_context
from tests.certificates import make, make_ca
from tests.e2e.agent import SOCKET, eventually, main_pid
from tests.e2e.network import listening

MIB = 1024 * 1024
GROWTH = 64 * MIB
"""What the memory may be more by at the end: pieces that the allocator could not give back."""
CONFIG = "listener: {handshake_timeout: 2s}\nrpc: {request_timeout: 2s}\n"
_BATCH = settings(
    max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=False
)
_ANSWER = 0.02

METHODS = [method for method in defined_methods() if method.path not in {"JobService/DeleteAllJobs"}]
FRAMES = (
    http2.DataFrame,
    http2.HeadersFrame,
    http2.PriorityFrame,
    http2.RstStreamFrame,
    http2.SettingsFrame,
    http2.PushPromiseFrame,
    http2.PingFrame,
    http2.GoAwayFrame,
    http2.WindowUpdateFrame,
    http2.ContinuationFrame,
)
BYTES = st.binary(max_size=2000)


@st.composite
def records(draw: st.DrawFn) -> bytes:
    """Records of TLS: a type, a version, a length that may be a lie, and anything."""
    body = draw(BYTES)
    length = draw(st.one_of(st.just(len(body)), st.integers(0, 65535)))
    kind = draw(st.sampled_from([20, 21, 22, 23, 255]))
    version = draw(st.sampled_from([b"\3\1", b"\3\3", b"\3\4", b"\0\0"]))
    return bytes([kind]) + version + length.to_bytes(2, "big") + body


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Frames of HTTP/2: any type and flags, any stream, a length that may be a lie, and anything."""
    body = draw(BYTES)
    length = draw(st.one_of(st.just(len(body)), st.integers(0, 2**24 - 1)))
    kind = draw(st.one_of(st.sampled_from([each.type for each in FRAMES]), st.integers(0, 255)))
    stream = draw(st.one_of(st.integers(0, 9), st.integers(0, 2**32 - 1)))
    flags = draw(st.integers(0, 255))
    return length.to_bytes(3, "big") + bytes([kind or 0, flags]) + stream.to_bytes(4, "big") + body


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, bytes]:
    """A method, and what gRPC takes for a message of it: fields that exist with values that may not fit."""
    method = draw(st.sampled_from(METHODS))
    raw = b""
    known = [field.number for field in method.request.DESCRIPTOR.fields]
    for number in draw(st.lists(st.sampled_from([*known, 2**20]), max_size=5)):
        kind = draw(st.sampled_from([0, 1, 2, 2, 2, 3, 5]))
        value = draw(st.binary(max_size=60))
        raw += _varint(number << 3 | kind) + (_varint(len(value)) + value if kind == 2 else value)
    return method.path, draw(st.one_of(st.just(raw), st.just(raw).flatmap(_cut)))


def _cut(raw: bytes) -> st.SearchStrategy[bytes]:
    return st.integers(0, len(raw)).map(lambda length: raw[:length])


def _varint(number: int) -> bytes:
    raw = bytearray()
    while number > 0x7F:
        raw.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*raw, number])


class Fuzzer:
    """Sends, and counts what it has sent."""

    def __init__(self) -> None:
        self.sent: Counter[str] = Counter()
        ca = make_ca()
        self.ca, self.honest = ca, make("bob", "viewer", ca=ca)
        # An operator could fill the host with jobs: that is no fault of the door.
        self._context = tls_context(make("eve", "viewer", ca=ca))

    def run(self, until: float) -> None:
        """Send batches of each kind until the time (time.monotonic) is over."""
        kinds: list[Callable[[], None]] = [self._records, self._frames, self._calls]
        for kind in cycle(kinds):
            if time.monotonic() >= until:
                break
            kind()

    def _talk(self, kind: str, pieces: list[bytes], *, is_tls: bool) -> None:
        self.sent["connections"] += 1
        try:
            with Wire(tls(self._context) if is_tls else tcp(), greet=False) as wire:
                for piece in pieces:
                    wire.send_bytes(piece)
                    self.sent[kind] += 1
                wire.read(_ANSWER)
        except OSError:  # cut off, as it should be
            pass

    def _records(self) -> None:
        @_BATCH
        @given(st.lists(st.one_of(records(), BYTES), max_size=5))
        def send(pieces: list[bytes]) -> None:
            self._talk("records", pieces, is_tls=False)

        send()

    def _frames(self) -> None:
        greeting = PREFACE + http2.SettingsFrame(0).serialize()

        @_BATCH
        @given(st.sampled_from([b"", PREFACE, greeting, greeting]), st.lists(frames(), max_size=8))
        def send(begin: bytes, pieces: list[bytes]) -> None:
            self._talk("frames", [begin, *pieces], is_tls=True)

        send()

    def _calls(self) -> None:
        @_BATCH
        @given(st.lists(requests(), max_size=20), st.booleans(), st.randoms(use_true_random=False))
        def send(calls: list[tuple[str, bytes]], ends: bool, chance: random.Random) -> None:
            self.sent["connections"] += 1
            try:
                with Wire(tls(self._context)) as wire:
                    for number, (method, raw) in enumerate(calls):
                        stream = 2 * number + 1
                        length = chance.choice([None, None, None, chance.randrange(2**32)])
                        wire.send(wire.call(stream, method))
                        wire.send(*data(stream, message(raw, length), ends=ends))
                        if chance.random() < 0.1:
                            wire.send(wire.reset(stream))
                        self.sent["calls"] += 1
                    wire.read(_ANSWER)
            except OSError:
                pass

        send()


def memory() -> int:
    """Return the agent's RSS in bytes."""
    pages = int(Path(f"/proc/{main_pid()}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def files() -> int:
    """Return how many files the agent has open."""
    return len(os.listdir(f"/proc/{main_pid()}/fd"))


def fuzz(seconds: float, tell: Callable[[str], object] = print) -> list[str]:
    """Attack the agent so long; return what is wrong afterwards."""
    fuzzer = Fuzzer()
    with listening(fuzzer.ca, CONFIG):
        fuzzer.run(time.monotonic() + min(seconds / 10, 10))  # what the first of each kind needs for good
        agent, memory_before, files_before = main_pid(), memory(), files()
        target = f"127.0.0.1:{PORT}"
        with calling(target, fuzzer.honest, fuzzer.ca) as remote, calling(SOCKET) as local:
            fuzzer.run(time.monotonic() + seconds)
        eventually(files, lambda now: now <= files_before + 2)
        tell(f"sent {dict(fuzzer.sent)}")
        tell(f"memory {memory_before / MIB:.1f} MiB before, {memory() / MIB:.1f} MiB after")
        tell(f"files {files_before} before, {files()} after")
        problems = [*_failures("over TLS", remote, tell), *_failures("on the socket", local, tell)]
        if main_pid() != agent:
            problems.append("the agent was started again")
        if memory() - memory_before > GROWTH:
            problems.append("the agent's memory has grown")
    return problems


def _failures(where: str, report: Report, tell: Callable[[str], object]) -> list[str]:
    tell(f"an honest client {where}: {len(report.seconds)} calls, longest {max(report.seconds):.2f} s")
    return [f"an honest call {where} failed: {failure}" for failure in report.failures]


def main() -> int:
    """Fuzz."""
    parser = argparse.ArgumentParser(prog="tests.attacks.fuzz", description="Fuzz the network listener.")
    parser.add_argument("--minutes", type=float, default=10)
    problems = fuzz(parser.parse_args().minutes * 60, lambda line: print(line, flush=True))
    for problem in problems:
        print(f"fuzz: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
