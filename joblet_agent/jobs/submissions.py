"""A submission that carries a token makes one job or one schedule, however often it is repeated.

Its first arrival makes it in a task of its own, which the caller may leave; whoever comes meanwhile
waits for the same task. Later ones find it stored, where the token is part of the record and so is
written with it. Forgetting the job or the schedule forgets the token.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar, cast

from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.check import quoted
from joblet_agent.jobs.tasks import Tasks
from joblet_agent.model.job import Token
from joblet_agent.ports import JobStore

MOST_TOKEN = 128
"""Characters of a token."""


class Submitted(Protocol):
    """A job or a recurring schedule."""

    @property
    def token(self) -> Token | None:
        """What its submission is known by."""
        ...


Find = Callable[[str, str], Awaitable[Submitted | None]]
"""Returns what this caller's submission with this text as token made."""

T = TypeVar("T", bound=Submitted)


class Submissions:
    """Accepts jobs and schedules, each in a task that outlives its caller."""

    def __init__(self, store: JobStore) -> None:
        self._finds: list[Find] = [store.submitted]
        self._under_way: dict[tuple[str, str], tuple[Token, asyncio.Task[Any]]] = {}
        self._tasks = Tasks()

    def find_also(self, find: Find) -> None:
        """Look there, too, for what a token has made."""
        self._finds.append(find)

    async def make(self, caller: str, token: Token | None, accept: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what ``accept`` returns, or what an earlier submission with the token made.

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
        return cast(T, await asyncio.shield(task))

    async def close(self) -> None:
        """Wait for nobody any more; jobs that were accepted go on."""
        await self._tasks.close()

    async def _first(self, caller: str, token: Token, accept: Callable[[], Coroutine[Any, Any, T]]) -> T:
        for find in self._finds:
            made = await find(caller, token.text)
            if made is not None:
                assert made.token is not None
                _check_same(made.token, token)
                return cast(T, made)  # the same request makes the same kind
        return await accept()


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
            f"cannot run job: token {quoted(again.text)} belongs to another request",
            reason="TOKEN_REUSED",
            hint="use a new token for each job and schedule; a repeated one must come with the same request",
        )
