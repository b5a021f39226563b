"""A job's output as it comes, across restarts of the agent, and the job's end as an exit status.

The log is a file on the agent's side, and every piece of it says where it begins. So a follower that lost the
connection asks again from the byte it reached: nothing is missed and nothing comes twice.
"""

import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import TracebackType
from typing import Any

from rnx.client import SHORT, STOP, Client, pb
from rnx.exits import Exit, NoTrust, RnxError, Unreachable, report
from rnx.output import clean
from rnx.submit import submit

PATIENCE = timedelta(seconds=60)
"""How long an agent may be away before we give up on it. The job goes on without us."""
FIRST_PAUSE = timedelta(milliseconds=50)
LONGEST_PAUSE = timedelta(seconds=1)

ENDED = frozenset({"COMPLETED", "FAILED", "STOPPED", "CANCELED"})
_STATUS_OF_REASON = {
    "program-not-found": Exit.NOT_FOUND,
    "program-not-executable": Exit.CANNOT_INVOKE,
    "start-failed": Exit.OURS,
    "host-rebooted": Exit.OURS,
    "lost": Exit.OURS,
}
_SPEAKS_FOR_ITSELF = frozenset({"", "exit-code", "stopped"})


class Patience:
    """Bounds the time without an answer, and makes the pauses between two tries longer and longer."""

    def __init__(self) -> None:
        self.heard()

    def heard(self) -> None:
        """Begin again: the agent has just answered."""
        self._until = time.monotonic() + PATIENCE.total_seconds()
        self._pause = FIRST_PAUSE

    def wait(self, lost: Unreachable) -> None:
        """Pause before the next try, or raise ``lost`` when the agent was away for too long."""
        if time.monotonic() > self._until:
            raise lost
        time.sleep(self._pause.total_seconds())
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class LogFollower:
    """Reads one job's log from a request on, and goes on after a lost connection."""

    def __init__(self, client: Client, request: Any) -> None:
        self._client = client
        self._request = request
        self._begun = False
        self._received = 0

    def pieces(self) -> Iterator[bytes]:
        """Yield the output without gap or duplicate until the agent says that it ends."""
        for _, piece in self.timed_pieces():
            yield piece

    def timed_pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield pieces of output with the Unix ns at which they were written; 0 if it was not asked for."""
        patience = Patience()
        while True:
            try:
                for chunk in self._client.stream(self._client.jobs.GetJobLogs, self._request):
                    patience.heard()
                    if piece := self._new_part(chunk):
                        yield chunk.time_unix_ns, piece
                return
            except Unreachable as lost:
                patience.wait(lost)
                self._received = 0

    def _new_part(self, chunk: Any) -> bytes:
        """Return what of the chunk was not seen before, and ask for the rest alone next time.

        An agent that knows no offsets sends 0 with every chunk and all bytes again after a reconnect.
        """
        payload: bytes = chunk.payload
        if not payload:
            return b""
        start = chunk.offset or self._received
        self._received = start + len(payload)
        fresh = payload[max(0, self._request.offset - start) :] if self._begun else payload
        self._begun = True
        self._request.offset = max(self._request.offset, self._received)
        self._request.tail_lines = 0
        return fresh


class StopOnInterrupt:
    """While entered, Ctrl-C asks the job to stop and a second one kills it; a third leaves it to itself.

    The handler only counts: it may run while this thread holds a lock of gRPC, so the calls are made by
    threads of their own. A Ctrl-C before the job has an id is kept until it has one.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._presses: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._count = 0
        self._before: Any = None

    def __enter__(self) -> "StopOnInterrupt":
        self._before = signal.signal(signal.SIGINT, self._pressed)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def stops(self, uuid: str) -> None:
        """Say which job it is about."""
        threading.Thread(target=self._serve, args=(uuid,), daemon=True).start()

    def _pressed(self, *_: object) -> None:
        self._count += 1
        force = self._count > 1
        if force:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        self._presses.put(force)

    def _serve(self, uuid: str) -> None:
        while True:
            force = self._presses.get()
            text = "killing the job" if force else "stopping the job; Ctrl-C once more kills it"
            print(f"rnx: {text}", file=sys.stderr)
            threading.Thread(target=self._stop, args=(uuid, force), daemon=True).start()

    def _stop(self, uuid: str, force: bool) -> None:
        patience = Patience()
        while True:
            try:
                self._client.call(self._client.jobs.StopJob, pb.StopJobRequest(uuid=uuid, force=force), STOP)
                return
            except Unreachable as lost:
                patience.wait(lost)
            except RnxError as error:
                # Most likely the job ended by itself meanwhile; the follower will see that.
                if error.reason != "JOB_ENDED":
                    report(error)
                return


def attach(client: Client, request: Any) -> int:
    """Run the job, show its output, wait for its end and return its exit status."""
    with StopOnInterrupt(client) as interrupts:
        uuid = submit(client, request).job_uuid
        interrupts.stops(uuid)
        try:
            return _follow_to_end(client, uuid)
        except KeyboardInterrupt:
            print(f"rnx: left job {clean(uuid)} to itself", file=sys.stderr)
            raise
        except (Unreachable, NoTrust) as lost:
            raise type(lost)(f"{lost}; job {uuid} goes on", hint=lost.hint, reason=lost.reason) from lost


def exit_status(status: Any) -> int:
    """Return what the shell gets for an ended job (GetJobStatusResponse) or command in one (ExecEnd)."""
    if status.reason in _STATUS_OF_REASON:
        return _STATUS_OF_REASON[status.reason]
    if status.signal > 0:
        return Exit.SIGNAL_BASE + int(status.signal)
    known = 0 <= status.exit_code < 256 and getattr(status, "status", "") != "CANCELED"  # noqa: PLR2004 - a byte
    return int(status.exit_code) if known else Exit.OURS


def job_status(client: Client, uuid: str) -> Any:
    """Return the status of a job (GetJobStatusResponse), also while the agent restarts."""
    patience = Patience()
    while True:
        try:
            return client.call(client.jobs.GetJobStatus, pb.GetJobStatusRequest(uuid=uuid), SHORT)
        except Unreachable as lost:
            patience.wait(lost)


def _follow_to_end(client: Client, uuid: str) -> int:
    follower = LogFollower(client, pb.GetJobLogsRequest(uuid=uuid))
    patience = Patience()
    while True:
        for piece in follower.pieces():
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            patience.heard()
        status = job_status(client, uuid)
        if status.status in ENDED:
            _explain_end(status)
            return exit_status(status)
        # An agent that is closing down may end the stream in good order before the job has ended.
        patience.wait(Unreachable("the agent ends the log again and again although the job has not ended"))


def _explain_end(status: Any) -> None:
    """Say on standard error what an exit status alone does not tell."""
    if status.log_truncated:
        print("rnx: the output was larger than the agent's limit and was cut", file=sys.stderr)
    if status.reason not in _SPEAKS_FOR_ITSELF:
        text = status.message or f"job {status.uuid} ended: {status.reason}"
        print(f"rnx: {clean(text)}", file=sys.stderr)
