"""Whoever watches a workflow: told of what has changed since the last look, however slow they are."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from joblet_agent.model.workflow import Change, Member, Workflow


class Watch:
    """Iterates over the changes of one workflow; the first has all its members. Whoever has it closes it."""

    def __init__(
        self,
        look: Callable[[Iterable[int]], tuple[Workflow, Sequence[Member]]],
        numbers: Iterable[int],
        close: Callable[["Watch"], None],
    ) -> None:
        """``look`` returns the workflow and these members as they are now."""
        self._look = look
        self._close = close
        self._dirty = set(numbers)
        self._is_last = False
        self._is_over = False
        self._woken = asyncio.Event()
        self._woken.set()

    def tell(self, numbers: Iterable[int], *, is_last: bool) -> None:
        """Take in that these members, or the workflow itself, have changed."""
        self._dirty.update(numbers)
        self._is_last = self._is_last or is_last
        self._woken.set()

    def end(self) -> None:
        """Let nothing more come: nobody follows the workflow any more."""
        self._is_over = True
        self._woken.set()

    def __aiter__(self) -> "Watch":
        """Return itself."""
        return self

    async def __anext__(self) -> Change:
        """Return the next change; what has changed several times meanwhile comes once."""
        await self._woken.wait()
        if self._is_over:
            raise StopAsyncIteration
        self._woken.clear()
        workflow, members = self._look(sorted(self._dirty))
        self._dirty.clear()
        if self._is_last:
            self.end()
        return Change(workflow, members)

    async def aclose(self) -> None:
        """Watch no more."""
        self.end()
        self._close(self)
