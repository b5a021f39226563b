"""Runs commands inside a virtual machine for the host; copied into the image, so it stands alone.

Both sides of the virtio-serial port send frames: one letter, the length in four bytes, the content.

    host → guest   r  a request, JSON: argv, env, cwd, timeout in seconds; its input follows in
                   i  frames, the last one empty
    guest → host   h  sent once when the agent starts: the boot id
                   o, e  output and errors of the command as they come
                   x  the end of the command: its status as subprocess has it, or null after the timeout
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

PORT = "joblet.testbed"
CHUNK = 65536


def read_frame(stream: IO[bytes]) -> tuple[str, bytes]:
    """The next frame; EOFError when the other side is gone."""
    head = _read_exactly(stream, 5)
    return chr(head[0]), _read_exactly(stream, int.from_bytes(head[1:], "big"))


def write_frame(stream: IO[bytes], kind: str, content: bytes) -> None:
    """Send a frame."""
    data = kind.encode() + len(content).to_bytes(4, "big") + content
    while data:
        data = data[stream.write(data) :]
    stream.flush()


def _read_exactly(stream: IO[bytes], size: int) -> bytes:
    parts = []
    while size:
        part = stream.read(size)
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def serve(port: IO[bytes]) -> None:
    """Answer requests until the port is closed."""
    write_frame(port, "h", Path("/proc/sys/kernel/random/boot_id").read_bytes().strip())
    while True:
        kind, content = read_frame(port)
        # Anything else belongs to a request of an earlier boot.
        if kind == "r":
            _answer(port, json.loads(content))


def _answer(port: IO[bytes], request: dict[str, object]) -> None:
    with tempfile.TemporaryFile() as given:
        while content := read_frame(port)[1]:
            given.write(content)
        given.seek(0)
        try:
            process = subprocess.Popen(
                request["argv"],  # type: ignore[call-overload]
                env=request["env"],
                cwd=request["cwd"],
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            write_frame(port, "e", f"cannot run the command: {error}\n".encode())
            write_frame(port, "x", b"127")
            return
    with process:
        ended = _pass_on(port, process, float(str(request["timeout"])))
        if not ended:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
    write_frame(port, "x", json.dumps(status if ended else None).encode())


def _pass_on(port: IO[bytes], process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Send the output until it ends; False when the time was over first."""
    end = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        assert process.stdout is not None
        assert process.stderr is not None
        selector.register(process.stdout, selectors.EVENT_READ, "o")
        selector.register(process.stderr, selectors.EVENT_READ, "e")
        while selector.get_map():
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                return False
            for key, _ in ready:
                content = os.read(key.fd, CHUNK)
                if content:
                    write_frame(port, key.data, content)
                else:
                    selector.unregister(key.fileobj)
    return True


def main() -> int:
    """Serve the port of the host."""
    with open(f"/dev/virtio-ports/{PORT}", "r+b", buffering=0) as port, contextlib.suppress(EOFError):
        serve(port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
