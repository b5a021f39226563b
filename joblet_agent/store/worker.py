"""A thread that owns a connection, so that the event loop never waits for the disk.

Coroutines hand acts (functions of the connection) to it and await what they return. The thread takes all
that wait at once, which is what makes group commit possible (commits.py), and wakes the loop once for all
of them. Without work it sleeps in the queue and does not wake up.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, Self, TypeVar

from joblet_agent.errors import StoreFailed

T = TypeVar("T")

Act = Callable[[sqlite3.Connection], T]
Connect = Callable[[], sqlite3.Connection]

MOST_TOGETHER = 500
"""Bounds how long the first of a burst waits for the last."""


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """What an act returned."""

    value: T


Ending = Done[Any] | Exception
Perform = Callable[[sqlite3.Connection, Sequence[Act[Any]]], Sequence[Ending]]
"""Does the acts in their order and returns how each of them ended."""


@dataclass(frozen=True, slots=True)
class _Request:
    act: Act[Any]
    answer: asyncio.Future[Any]


class Worker:
    """Does acts on its connection in its thread. Belongs to the event loop that it was started on."""

    def __init__(self, name: str, connect: Connect, perform: Perform) -> None:
        self._connect = connect
        self._perform = perform
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[Any] = self._loop.create_future()
        self._ended: asyncio.Future[Any] = self._loop.create_future()
        self._closing = False
        # A daemon, so that an agent that failed before it could close can still exit.
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)

    @classmethod
    async def start(cls, name: str, connect: Connect, perform: Perform) -> Self:
        """Start the thread and open its connection; raises what ``connect`` raises."""
        worker = cls(name, connect, perform)
        worker._thread.start()
        await worker._opened
        return worker

    async def do(self, act: Act[T]) -> T:
        """Return what the act returns, or raise what it raises.

        An act that was handed over is done even if its caller no longer waits.
        """
        if self._closing:
            raise StoreFailed("cannot use the state database: it is closed", reason="STORE_CLOSED")
        answer: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Request(act, answer))
        return await answer

    async def close(self) -> None:
        """Do what was handed over, close the connection and end the thread; again is no error."""
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        await asyncio.shield(self._ended)
        self._thread.join()  # its last act was to say so

    def _serve(self) -> None:
        try:
            connection = self._connect()
        except Exception as error:  # the thread's top: whoever started it handles it
            self._answer([(self._opened, error)])
            return
        self._answer([(self._opened, Done(None))])
        while batch := self._next_batch():
            endings = self._perform(connection, [request.act for request in batch])
            self._answer(list(zip((request.answer for request in batch), endings, strict=True)))
        connection.close()
        self._answer([(self._ended, Done(None))])

    def _next_batch(self) -> list[_Request]:
        """Wait for work and return all that is there; nothing once all is done and the store closes."""
        request = self._queue.get()
        batch = []
        while request is not None:
            batch.append(request)
            if len(batch) == MOST_TOGETHER or self._queue.empty():
                return batch
            request = self._queue.get()
        if batch:
            self._queue.put(None)  # nothing can come after it, so the next round finds it again
        return batch

    def _answer(self, endings: Sequence[tuple[asyncio.Future[Any], Ending]]) -> None:
        self._loop.call_soon_threadsafe(_settle, endings)


def _settle(endings: Sequence[tuple[asyncio.Future[Any], Ending]]) -> None:
    for future, ending in endings:
        if future.done():
            continue  # its caller was cancelled
        if isinstance(ending, Done):
            future.set_result(ending.value)
        else:
            future.set_exception(ending)
