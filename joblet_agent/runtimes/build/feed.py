"""The events of one build, for any number of followers: each gets all of them, from the first on.

Phases are kept all, log lines as far as there is room: of a build that says very much, who comes late or
reads slowly misses lines in the middle of the log, and is told how many.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable
from typing import Final

from joblet_agent.ports import Clock
from joblet_agent.runtimes.build.events import BuildDone, BuildEvent, LogLevel, LogLine

__all__ = ["Feed"]

MOST_LINES: Final = 4000
LONGEST_LINE: Final = 4000
"""Characters of a log line; the rest is cut off."""


class Feed:
    """Events, in the order in which they happened."""

    def __init__(self, clock: Clock, left: Callable[[], None] = lambda: None) -> None:
        """``left`` is called when nobody follows any more."""
        self._clock = clock
        self._left = left
        self._events: list[tuple[int, BuildEvent]] = []
        """With their numbers, from 1; a gap is of lines that are not kept."""
        self._newest = 0
        self._lines = 0
        self._woken = asyncio.Event()
        self.followers = 0
        """How many follow now."""
        self.end: BuildDone | None = None

    def tell(self, event: BuildEvent) -> None:
        """Add an event; nothing comes after the end."""
        if self.end is not None:
            return
        if isinstance(event, BuildDone):
            self.end = event
        self._newest += 1
        self._events.append((self._newest, event))
        if isinstance(event, LogLine):
            self._lines += 1
            if self._lines > MOST_LINES:
                self._thin_out()
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()

    def say(self, level: LogLevel, text: str) -> None:
        """Add a log line."""
        if len(text) > LONGEST_LINE:
            text = f"{text[:LONGEST_LINE]}…"
        self.tell(LogLine(level, text, self._clock.now()))

    def _thin_out(self) -> None:
        """Forget the older half of the log."""
        surplus = self._lines - MOST_LINES // 2
        kept: list[tuple[int, BuildEvent]] = []
        for each in self._events:
            if surplus and isinstance(each[1], LogLine):
                surplus -= 1
                self._lines -= 1
            else:
                kept.append(each)
        self._events = kept

    async def follow(self, *, verbose: bool = False) -> AsyncGenerator[BuildEvent, None]:
        """Yield all events, up to the end."""
        self.followers += 1
        try:
            seen = 0
            while True:
                woken = self._woken
                for number, event in self._since(seen):
                    if number > seen + 1:
                        text = f"{number - seen - 1} lines of the log are not kept any more"
                        yield LogLine(LogLevel.WARN, text, self._clock.now())
                    seen = number
                    if verbose or not (isinstance(event, LogLine) and event.level is LogLevel.DEBUG):
                        yield event
                    if isinstance(event, BuildDone):
                        return
                await woken.wait()
        finally:
            self.followers -= 1
            if not self.followers:
                self._left()

    def _since(self, seen: int) -> list[tuple[int, BuildEvent]]:
        return self._events[bisect_right(self._events, seen, key=lambda each: each[0]) :]
