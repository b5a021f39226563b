"""Commands inside jobs, as tests run them."""

import queue
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, Client, command, eventually

EXECS = Path("/run/joblet/exec")
TERMINAL = pb.ExecTerminal(size=pb.TerminalSize(rows=33, columns=77), term="vt220")
STDIN_END = pb.ExecInJobRequest(stdin_end=pb.ExecStdinEnd())


def start(job_id: str, *words: str, **fields: Any) -> pb.ExecInJobRequest:
    """Return the first message of a call."""
    return pb.ExecInJobRequest(start=pb.ExecStart(uuid=job_id, command=words[0], args=words[1:], **fields))


def stdin(data: bytes) -> pb.ExecInJobRequest:
    return pb.ExecInJobRequest(stdin=data)


def execute(
    client: Client, job_id: str, *words: str, given: tuple[pb.ExecInJobRequest, ...] = (), **fields: Any
) -> tuple[bytes, bytes, pb.ExecEnd]:
    """Run a command in the job; return its standard output, its standard error and its end."""
    out, err, ends = b"", b"", []
    for event in client.agent.ExecInJob(iter([start(job_id, *words, **fields), *given]), timeout=DEADLINE):
        out, err = out + event.stdout, err + event.stderr
        if event.WhichOneof("event") == "end":
            ends.append(event.end)
    (end,) = ends
    return out, err, end


class Exchange:
    """A call that is given its messages while it runs."""

    def __init__(self, client: Client, job_id: str, *words: str, **fields: Any) -> None:
        self._messages: queue.SimpleQueue[pb.ExecInJobRequest | None] = queue.SimpleQueue()
        self.give(start(job_id, *words, **fields))
        self.call = client.agent.ExecInJob(iter(self._messages.get, None), timeout=DEADLINE)
        self.out = b""

    def __enter__(self) -> "Exchange":
        return self

    def __exit__(self, *_: object) -> None:
        self._messages.put(None)
        self.call.cancel()

    def give(self, message: pb.ExecInJobRequest) -> None:
        self._messages.put(message)

    def until(self, text: bytes) -> bytes:
        """Read until the output has the text, and return all of it so far."""
        while text not in self.out:
            self.out += next(self.call).stdout
        return self.out

    def end(self) -> pb.ExecEnd:
        """Read to the end of the command."""
        ends: list[pb.ExecEnd] = []
        for event in self.call:
            self.out += event.stdout
            if event.WhichOneof("event") == "end":
                ends.append(event.end)
        (end,) = ends
        return end


def exec_units() -> list[str]:
    return command(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", "joblet-exec-*"
    ).stdout.split()


def nothing_is_left() -> Iterator[None]:
    """Look after a test: no unit and no file of a command is there any more. For a fixture."""
    yield
    eventually(exec_units, lambda units: not units)
    eventually(lambda: list(EXECS.iterdir()), lambda entries: not entries)


def popen(*words: str, stdin: Any = subprocess.DEVNULL) -> "subprocess.Popen[bytes]":
    """Start the client."""
    return subprocess.Popen(["rnx", *words], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
