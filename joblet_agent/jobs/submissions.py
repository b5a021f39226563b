"""A submission that carries a token makes one job, however often it is repeated.

Its first arrival makes the job in a task of its own, which the caller may leave; whoever comes meanwhile
waits for the same task. Later ones find the job in the store, where the token is part of the record and
so is written with it. Forgetting the job forgets the token.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import JobRecord, Token
from joblet_agent.ports import JobStore

MOST_TOKEN = 128
"""Characters of a token."""

Accept = Callable[[], Coroutine[Any, Any, JobRecord]]


class Submissions:
    """Accepts jobs, each in a task that outlives its caller."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._under_way: dict[tuple[str, str], tuple[Token, asyncio.Task[JobRecord]]] = {}
        self._tasks = Tasks()

    async def make(self, caller: str, token: Token | None, accept: Accept) -> JobRecord:
        """Return what ``accept`` returns, or the job that an earlier submission with the token made.

        Raises what ``accept`` raises, and InvalidRequest TOKEN_REUSED if the earlier one asked for
        something else.
        """
        if token is None:
            return await asyncio.shield(self._tasks.start(accept(), "submission"))
        key = (caller, token.text)
        if key not in self._under_way:
            task = self._tasks.start(self._first(caller, token, accept), f"submission-{token.text}")
            self._under_way[key] = token, task
            task.add_done_callback(lambda _: self._under_way.pop(key))
        first, task = self._under_way[key]
        _check_same(first, token)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for nobody any more; jobs that were accepted go on."""
        await self._tasks.close()

    async def _first(self, caller: str, token: Token, accept: Accept) -> JobRecord:
        record = await self._store.submitted(caller, token.text)
        if record is None:
            return await accept()
        assert record.token is not None
        _check_same(record.token, token)
        return record


def check_token(text: str) -> None:
    """Raise InvalidRequest for text that cannot be a token."""
    if not text or len(text) > MOST_TOKEN or not text.isprintable() or text != text.strip():
        raise InvalidRequest(
            f"cannot run job: {quoted(text)} cannot be a token",
            reason="BAD_TOKEN",
            hint=f"use up to {MOST_TOKEN} printable characters without blanks around them",
        )


def _check_same(first: Token, again: Token) -> None:
    if first.digest != again.digest:
        raise InvalidRequest(
            f"cannot run job: token {quoted(again.text)} belongs to a job with another request",
            reason="TOKEN_REUSED",
            hint="use a new token for each job; a token that is repeated must come with the same request",
        )
