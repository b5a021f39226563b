"""One client that takes all it can get, and another's calls meanwhile."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep

from tests.attacks.honest import Report, calling
from tests.bench.agent_service import RUN, AgentService
from tests.bench.measures import Row, percentile
from tests.certificates import Pair, furnish, make, make_ca, make_server

_PORT = 50052
_PKI = RUN / "pki"
_SECONDS = 6
_ROUNDS = 3
KINDS = ("streams", "uploads")


def run(service: AgentService) -> list[Row]:
    """Measure an honest client's calls over TLS, in turns alone and beside a client that floods.

    ``streams``: as many calls as one connection may have, each for ever. ``uploads``: requests of 100 MiB,
    eight at a time.
    """
    ca = make_ca()
    furnish(_PKI, make_server(ca), ca)
    keys = f"listener:\n  port: {_PORT}\ntls:\n  directory: {_PKI}\n"
    eve, bob = make("eve", "viewer", ca=ca), make("bob", "viewer", ca=ca)
    quiet: list[float] = []
    flooded: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(_ROUNDS):
        service.start(keys)
        quiet += _served(bob, ca)
        for kind in KINDS:
            with _flood(kind, eve, ca):
                flooded[kind] += _served(bob, ca)
        service.stop()
    service.clear_jobs()
    rows = [Row("door", "GetNode over TLS, alone, p99", percentile(quiet, 99) * 1e3, "ms")]
    for kind, taken in flooded.items():
        rows += [
            Row("door", f"beside a flood of {kind}, p99", percentile(taken, 99) * 1e3, "ms"),
            Row("door", f"beside {kind} : alone, p99", percentile(taken, 99) / percentile(quiet, 99), "x"),
        ]
    return rows


def _served(pair: Pair, ca: Pair) -> list[float]:
    report: Report
    with calling(f"127.0.0.1:{_PORT}", pair, ca) as report:
        sleep(_SECONDS)
    if report.failures:
        raise SystemExit(f"bench: honest calls failed: {report.failures[0]}")
    return report.seconds


@contextmanager
def _flood(kind: str, pair: Pair, ca: Pair) -> Iterator[None]:
    """Let a client of that kind flood the agent within the block."""
    directory = RUN / "flood"
    directory.mkdir()
    for name, content in (("ca.crt", ca.pem), ("client.crt", pair.pem), ("client.key", pair.key)):
        (directory / name).write_bytes(content)
    command = [sys.executable, "-m", "tests.attacks.flood", kind, f"127.0.0.1:{_PORT}", str(directory)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()
    shutil.rmtree(Path(directory))
