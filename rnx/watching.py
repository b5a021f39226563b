"""Changes of jobs as they come, across restarts of the agent.

The agent numbers every change of every job, and says with each answer how far the watch is. So a watcher that
lost the connection asks for what came after that number: nothing is missed and nothing comes twice.
"""

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from rnx.attach import Patience
from rnx.client import Client, pb
from rnx.exits import RnxError, TimedOut, Unreachable

GONE = "EVENTS_GONE"
"""The agent's word for a number whose followers it does not keep any more."""


class JobWatcher:
    """Reads changes of jobs, and goes on after a lost connection."""

    def __init__(
        self,
        client: Client,
        *,
        ids: Sequence[str] = (),
        name: str = "",
        states: Sequence[str] = (),
        after: int = 0,
        snapshot: bool = False,
        may_begin_again: bool = False,
        limit: timedelta | None = None,
    ) -> None:
        """With ``snapshot`` where jobs stand comes first; ``limit`` bounds the whole watch (TimedOut).

        ``may_begin_again`` is for those who want to know what is, not all that was: when the agent does not
        keep the changes any more that they missed, they get a new snapshot.
        """
        self._client = client
        self._snapshot = snapshot
        self._may_begin_again = may_begin_again
        self._request = pb.WatchJobsRequest(
            after=after, snapshot=snapshot, uuids=ids, name=name, states=states
        )
        self._until = None if limit is None else time.monotonic() + limit.total_seconds()

    def answers(self) -> Iterator[Any]:
        """Yield WatchJobsResponses; ends when every job that was named is deleted."""
        patience = Patience()
        ids: list[str] = []
        while True:
            try:
                for answer in self._client.stream(
                    self._client.agent.WatchJobs, self._request, limit=time_left(self._until)
                ):
                    patience.heard()
                    self._take_in(answer, ids)
                    yield answer
                return
            except Unreachable as lost:
                patience.wait(lost)
                ids.clear()
            except RnxError as error:
                if not self._may_begin_again or error.reason != GONE:
                    raise
                self._request.after, self._request.snapshot = 0, self._snapshot

    def _take_in(self, answer: Any, ids: list[str]) -> None:
        """Ask for the rest alone next time, and by full ids: by then the jobs may be deleted."""
        if answer.number == 0:
            ids.append(answer.event.uuid)
            return
        if self._request.snapshot and self._request.uuids and not self._request.states:
            self._request.uuids[:] = ids
        self._request.snapshot = False
        self._request.after = answer.number


def time_left(until: float | None) -> timedelta | None:
    """Return the time until then (time.monotonic), None without an end. Raises TimedOut when it is over."""
    if until is None:
        return None
    left = until - time.monotonic()
    if left <= 0:
        raise TimedOut("the time is over")
    return timedelta(seconds=left)
