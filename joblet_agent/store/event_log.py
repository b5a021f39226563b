"""``ports.EventLog`` on SQLite: triggers write the events, watchers read them, each by its own number.

The thread that writes looks after each transaction how far the history is; only if it has grown the event
loop is told. So a watcher is woken by changes of jobs alone, and one that has all of them asks for nothing.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from joblet_agent.model.event import JobEvent
from joblet_agent.model.job import JobId
from joblet_agent.store import events
from joblet_agent.store.commits import write_together
from joblet_agent.store.worker import Act, Ending, Worker

_log = logging.getLogger(__name__)


class EventPulse:
    """Knows the newest event's number and wakes those who wait for more. Made on the event loop it serves."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._written = 0
        self._listeners: set[Callable[[], None]] = set()
        self.newest = 0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Take in what the history has; in the thread that writes."""
        self._written = self.newest = events.newest(connection)

    def write(self, connection: sqlite3.Connection, acts: Sequence[Act[Any]]) -> Sequence[Ending]:
        """Do the acts (commits.py) and tell the loop if they were events; in the thread that writes."""
        endings = write_together(connection, acts)
        try:
            written = events.newest(connection)
        except sqlite3.Error as error:
            _log.warning("watchers learn of changes later: %s", error)
            return endings
        if written > self._written:
            self._written = written
            self._loop.call_soon_threadsafe(self._grown, written)
        return endings

    def listen(self, wake: Callable[[], None]) -> None:
        """See ports.EventLog."""
        self._listeners.add(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """See ports.EventLog."""
        self._listeners.discard(wake)

    def _grown(self, newest: int) -> None:
        self.newest = newest
        for wake in list(self._listeners):
            wake()


class SqliteEventLog:
    """The events of one store, through its reading thread."""

    def __init__(self, pulse: EventPulse, reader: Worker) -> None:
        self._pulse = pulse
        self._reader = reader
        self.listen = pulse.listen
        self.forget = pulse.forget

    @property
    def newest(self) -> int:
        """Number of the last event."""
        return self._pulse.newest

    async def events(self, after: int, *, most: int) -> Sequence[JobEvent]:
        """See ports.EventLog."""
        return await self._reader.do(partial(events.after, number=after, most=most))

    async def standing(self, ids: Sequence[JobId]) -> tuple[int, Sequence[JobEvent]]:
        """See ports.EventLog."""
        return await self._reader.do(partial(events.standing, ids=ids))

    async def mentions(self, job_id: JobId, *, after: int) -> bool:
        """See ports.EventLog."""
        return await self._reader.do(partial(events.mentions, job_id=job_id, number=after))
