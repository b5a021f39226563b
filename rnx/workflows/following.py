"""A workflow and the output of its jobs, followed at once: what happens comes out of one queue, in order.

Each log is read by a thread of its own and the workflow by another; whoever takes the events prints them, so
nothing is printed by two. The queue is bounded: a slow reader slows down the threads, and so the agent.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from rnx.attach import LogFollower, Patience, job_status
from rnx.client import Client, pb
from rnx.exits import RnxError, Unreachable
from rnx.workflows.watching import ENDED, JOB_ENDED, NO_JOB, Change, WorkflowWatcher

MOST_LOGS = 100
"""Followed at once: an agent serves only so many calls of one client."""
_QUEUE = 256
_LOOKS_FOR_INTERRUPT = 1.0
"""Seconds. Windows notices Ctrl-C only between two waits."""
_IN_QUEUE = frozenset({"PENDING", "SCHEDULED"})
JOB_GONE = "JOB_NOT_FOUND"
"""Reason of a failure: somebody has deleted the job meanwhile."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Output of a job; ``time_ns`` is when it was written, 0 if that was not asked for."""

    job: str
    uuid: str
    time_ns: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Nothing more comes of a job's output; ``problem``: because it cannot be read."""

    job: str
    uuid: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class _WatchEnd:
    """The workflow has ended."""


Event: TypeAlias = Change | Piece | LogEnd
LogRequest: TypeAlias = Callable[[str], Any]
"""Makes the GetJobLogsRequest for a job's id."""


class Following:
    """Yields changes and output until the workflow has ended and all output has come."""

    def __init__(
        self,
        client: Client,
        watcher: WorkflowWatcher,
        *,
        log_request: LogRequest = lambda uuid: pb.GetJobLogsRequest(uuid=uuid),
        wanted: Callable[[Any], bool] = lambda _: True,
        known: frozenset[str] = frozenset(),
        skips_ended: bool = False,
    ) -> None:
        """Take what is to be followed.

        ``wanted`` says of a job (WorkflowJob) whether its output is; ``known`` are ids that were shown.
        ``skips_ended``: nothing is said of jobs that have ended before.
        """
        self._client = client
        self._watcher = watcher
        self._log_request = log_request
        self._wanted = wanted
        self._known = set(known)
        self._skips_ended = skips_ended
        self._events: queue.Queue[Event | _WatchEnd | BaseException] = queue.Queue(_QUEUE)
        self._waiting: deque[tuple[str, str]] = deque()
        self._reading = 0
        self.most_waiting = 0
        """Logs that had to wait for others to end, at the most."""

    def events(self) -> Iterator[Event]:
        """Yield what happens. Raises what one of the threads has met."""
        threading.Thread(target=self._watch, daemon=True).start()
        has_ended = False
        while not (has_ended and not self._reading):
            event = self._next()
            if isinstance(event, BaseException):
                raise event
            if isinstance(event, _WatchEnd):
                has_ended = True
                continue
            if isinstance(event, LogEnd):
                self._reading -= 1
                self._read_more()
            if isinstance(event, Change):
                if event.is_first and self._skips_ended:
                    event = replace(event, jobs=[job for job in event.jobs if job.status not in JOB_ENDED])
                self._note(event)
            yield event

    def _next(self) -> Event | _WatchEnd | BaseException:
        while True:
            try:
                return self._events.get(timeout=_LOOKS_FOR_INTERRUPT)
            except queue.Empty:
                continue

    def _note(self, change: Change) -> None:
        for job in change.jobs:
            if has_begun(job) and job.job_uuid not in self._known and self._wanted(job):
                self._known.add(job.job_uuid)
                self._waiting.append((job.job_name, job.job_uuid))
        self._read_more()

    def _read_more(self) -> None:
        while self._waiting and self._reading < MOST_LOGS:
            self._reading += 1
            threading.Thread(target=self._read, args=self._waiting.popleft(), daemon=True).start()
        self.most_waiting = max(self.most_waiting, len(self._waiting))

    def _watch(self) -> None:
        try:
            for change in self._watcher.changes():
                self._events.put(change)
            self._events.put(_WatchEnd())
        except BaseException as error:  # the thread's top: the other one raises it
            self._events.put(error)

    def _read(self, job: str, uuid: str) -> None:
        try:
            for time_ns, payload in whole_log(self._client, self._log_request(uuid)):
                self._events.put(Piece(job, uuid, time_ns, payload))
            self._events.put(LogEnd(job, uuid))
        except RnxError as error:
            self._events.put(LogEnd(job, uuid, str(error)) if error.reason == JOB_GONE else error)
        except BaseException as error:  # the thread's top: the other one raises it
            self._events.put(error)


def has_begun(job: Any) -> bool:
    """Tell whether there may be output of the job (WorkflowJob). One in the queue takes no other's turn."""
    return job.job_uuid not in NO_JOB and job.status not in _IN_QUEUE


def whole_log(client: Client, request: Any) -> Iterator[tuple[int, bytes]]:
    """Yield what a job writes until it has ended, or what is there, with the Unix ns of each piece or 0."""
    follower, uuid, patience = LogFollower(client, request), request.uuid, Patience()
    while True:
        for time_ns, payload in follower.timed_pieces():
            patience.heard()
            yield time_ns, payload
        if request.no_follow or job_status(client, uuid).status in ENDED:
            return
        # An agent that is closing down may end the stream in good order before the job has ended.
        patience.wait(Unreachable("the agent ends the log again and again although the job has not ended"))
