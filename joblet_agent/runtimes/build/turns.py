"""Which builds are under way at once, in the order in which they came (runtimes.max_builds)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from joblet_agent.config.values import RuntimesConfig

__all__ = ["Turn", "Turns"]


@dataclass(slots=True)
class Turn:
    """A place in the queue."""

    build_id: str
    others: int
    """Builds that were before it when it came."""
    is_mine: bool = False
    _come: asyncio.Event = field(default_factory=asyncio.Event)

    async def come(self) -> None:
        """Wait for it."""
        await self._come.wait()

    def give(self) -> None:
        """Let it be."""
        self.is_mine = True
        self._come.set()


class Turns:
    """The queue."""

    def __init__(self, config: RuntimesConfig) -> None:
        self._config = config
        self._queue: list[Turn] = []
        self.urgent: set[str] = set()
        """Builds that are under way already, begun by an earlier agent: they wait for nobody."""

    @contextmanager
    def turn(self, build_id: str) -> Iterator[Turn]:
        """Stand in the queue within the block."""
        turn = Turn(build_id, len(self._queue))
        self._queue.append(turn)
        if build_id in self.urgent:
            turn.give()
        self._move()
        try:
            yield turn
        finally:
            self._queue.remove(turn)
            self._move()

    def is_waiting(self, build_id: str) -> bool:
        """Say whether others come before this build."""
        return any(turn.build_id == build_id and not turn.is_mine for turn in self._queue)

    def _move(self) -> None:
        free = self._config.max_builds - sum(turn.is_mine for turn in self._queue)
        for turn in self._queue:
            if free <= 0:
                break
            if not turn.is_mine:
                turn.give()
                free -= 1
