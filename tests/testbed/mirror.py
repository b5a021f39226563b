"""Package archives for machines, which have no network: a mirror on the machine's own loopback.

    with serving(machine):          # or: python3 -m tests.testbed mirror NAME
        machine.run("curl", f"{URL}/debian/dists/trixie/InRelease")

It listens at ``URL`` in the machine's network namespace and fetches from where this host gets its packages:
``/debian``, ``/debian-security``, ``/ubuntu``, ``/pypi/simple`` and ``/npm``. What never changes (packages,
files named by their digest) is kept in the cache; indexes for an hour, so that a run sees one state.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import http.client
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO

from tests.testbed import cache as store
from tests.testbed.errors import TestbedError
from tests.testbed.machine import Machine
from tests.testbed.packages import CHECKOUT
from tests.testbed.upstreams import upstreams

PORT = 8099
URL = f"http://127.0.0.1:{PORT}"

_CLONE_NEWNET = 0x4000_0000
_FETCH_LIMIT = 120.0
_INDEX_AGE = 3600.0
_MOST_CACHED = 8 << 30
_LASTING = re.compile(r"^/(debian|debian-security|ubuntu)/pool/|/by-hash/|^/pypi/files/|\.tgz$")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing: tests read this process's output."""

    def _answer(self, *, with_body: bool) -> None:
        path = self.path.partition("?")[0]
        address = upstreams().address(self.path)
        if address is None:
            self._say(404)
            return
        try:
            kept = fetched(path, address)
        except urllib.error.HTTPError as error:
            self._say(error.code)
            return
        except (OSError, http.client.HTTPException):
            self._say(504)
            return
        with kept.content.open("rb") as content:
            self.send_response(200)
            self.send_header("Content-Type", kept.kind)
            self.send_header("Content-Length", str(os.fstat(content.fileno()).st_size))
            self.end_headers()
            if with_body:
                shutil.copyfileobj(content, self.wfile)

    def _say(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


@dataclass(frozen=True, slots=True)
class Kept:
    """A fetched file in the cache."""

    content: Path
    kind: str


_locks: dict[str, threading.Lock] = {}
_locks_lock = threading.Lock()


def fetched(path: str, address: str) -> Kept:
    """Return the file for ``path``, fetched if it is not kept or is an index that is too old."""
    folder = store.subdirectory("mirror")
    content = folder / hashlib.sha256(path.encode()).hexdigest()
    note = content.with_suffix(".kind")
    with _locks_lock:
        lock = _locks.setdefault(path, threading.Lock())
    with lock:
        if note.exists() and (_LASTING.search(path) or time.time() - content.stat().st_mtime < _INDEX_AGE):
            os.utime(note)
            return Kept(content, note.read_text(encoding="utf-8"))
        request = urllib.request.Request(address, headers={"Accept": _accepted(path)})
        with (
            urllib.request.urlopen(request, timeout=_FETCH_LIMIT) as answer,
            tempfile.NamedTemporaryFile(dir=folder, delete=False) as fresh,
        ):
            kind = answer.headers.get("Content-Type", "application/octet-stream")
            _take(path, answer, fresh)
        os.replace(fresh.name, content)
        note.write_text(kind, encoding="utf-8")
        return Kept(content, kind)


def _accepted(path: str) -> str:
    return "text/html" if path.startswith("/pypi/simple/") else "*/*"


def _take(path: str, answer: IO[bytes], fresh: IO[bytes]) -> None:
    """Copy; addresses of other hosts become the mirror's own."""
    if path.startswith("/pypi/simple/"):
        fresh.write(re.sub(rb'href="https://', b'href="/pypi/files/', answer.read()))
    elif path.startswith("/npm/") and not path.endswith(".tgz"):
        text = answer.read().decode()
        json.loads(text)
        fresh.write(text.replace(f"{upstreams().npm}/", f"{URL}/npm/").encode())
    else:
        shutil.copyfileobj(answer, fresh)


def tidy() -> None:
    """Forget the files that nobody has asked for for longest, until the rest is of a bearable size."""
    notes = sorted(store.subdirectory("mirror").glob("*.kind"), key=lambda note: note.stat().st_mtime)
    contents = {note: note.with_suffix("") for note in notes}
    size = sum(content.stat().st_size for content in contents.values())
    for note, content in contents.items():
        if size <= _MOST_CACHED:
            return
        size -= content.stat().st_size
        note.unlink()
        content.unlink()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(("127.0.0.1", PORT), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening


def _listening_in(pid: int) -> socket.socket:
    """Return a socket that listens in the network namespace of that process."""
    libc = ctypes.CDLL(None, use_errno=True)
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        for namespace in (theirs, own):
            if libc.setns(namespace, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "cannot enter the network namespace")
            if namespace == theirs:
                listening = socket.create_server(("127.0.0.1", PORT), backlog=64)
        return listening
    finally:
        os.close(own)
        os.close(theirs)


def serve(pid: int) -> None:
    """Serve the machine whose first process that is, until it is gone."""
    leader = os.pidfd_open(pid)
    server = _Server(_listening_in(pid))
    tidy()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    select.select([leader], [], [])


@contextmanager
def serving(machine: Machine) -> Iterator[None]:
    """Serve the machine for the length of a block."""
    command = [sys.executable, "-m", "tests.testbed.mirror", str(machine.leader_pid)]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise TestbedError(f"cannot serve packages to {machine.name}: the mirror did not begin")
            yield
        finally:
            process.terminate()


def main(argv: Sequence[str]) -> None:
    """Serve one machine."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.testbed.mirror")
    parser.add_argument("pid", type=int, help="first process of the machine")
    serve(parser.parse_args(argv).pid)


if __name__ == "__main__":
    main(sys.argv[1:])
