"""A client that calls one method again and again, in a process of its own, while others attack.

``python3 -m tests.attacks.honest TARGET [DIRECTORY]``: until its standard input ends. With a directory over
TLS, with its ca.crt, client.crt and client.key. Prints how long each call took, and what failed, as JSON.
"""

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc

from joblet_agent.pb import joblet_pb2 as pb
from joblet_agent.pb import joblet_pb2_grpc as stubs
from tests.certificates import Pair

_PAUSE = 0.02
_DEADLINE = 10.0


@dataclass
class Report:
    """What became of the calls, once the client has ended."""

    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def calling(target: str, pair: Pair | None = None, ca: Pair | None = None) -> Iterator[Report]:
    """Let the client call within the block, and before the block begins at least once."""
    report = Report()
    with TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "tests.attacks.honest", target]
        if pair is not None and ca is not None:
            for name, content in (("ca.crt", ca.pem), ("client.crt", pair.pem), ("client.key", pair.key)):
                (Path(directory) / name).write_bytes(content)
            command.append(directory)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            try:
                yield report
            finally:
                process.stdin.close()
                told = json.loads(process.stdout.read())
                report.seconds, report.failures = told["seconds"], told["failures"]


def main() -> None:
    """Call."""
    target, *directory = sys.argv[1:]
    with channel_to(target, Path(directory[0]) if directory else None) as channel:
        agent = stubs.AgentServiceStub(channel)  # type: ignore[no-untyped-call]
        agent.GetNode(pb.GetNodeRequest(), timeout=_DEADLINE, wait_for_ready=True)
        print("ready", flush=True)
        report = Report()
        is_over = False
        while not is_over:
            is_over = bool(select.select([sys.stdin], [], [], _PAUSE)[0])
            begin = time.monotonic()
            try:
                agent.GetNode(pb.GetNodeRequest(), timeout=_DEADLINE)
            except grpc.RpcError as error:
                report.failures.append(f"{error.code().name}: {error.details()}")
            report.seconds.append(time.monotonic() - begin)
        print(json.dumps({"seconds": report.seconds, "failures": report.failures}))


def channel_to(target: str, directory: Path | None = None, *more: tuple[str, int]) -> grpc.Channel:
    """Connect over TLS with the files in a directory, or without one to a local socket."""
    if directory is None:
        return grpc.insecure_channel(target, [("grpc.default_authority", "localhost")])
    files = [(directory / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt")]
    credentials = grpc.ssl_channel_credentials(*files)
    return grpc.secure_channel(target, credentials, [("grpc.ssl_target_name_override", "joblet"), *more])


if __name__ == "__main__":
    main()
