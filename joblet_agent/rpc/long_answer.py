"""Answers that may be too long for a message, and long enough to hold up the event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from joblet_agent.errors import LimitReached

PAGE = 500
"""Rows that are converted at a stretch: the event loop is free again every few milliseconds."""

T = TypeVar("T")


class LongAnswer:
    """A message that is serialized part by part.

    Serialized messages may be strung together (Protocol Buffers, "Encoding", "Last One Wins"): lists grow, so
    no part need stay in memory as a message.
    """

    def __init__(self, most: int, task: str, hint: str) -> None:
        """``most`` is the longest message in bytes; ``task`` and ``hint`` are for who gets an error."""
        self._most = most
        self._task = task
        self._hint = hint
        self._parts: list[bytes] = []
        self._size = 0

    async def add(self, part: Message) -> None:
        """Append a part, and let others work. Raises LimitReached (LIST_TOO_LARGE)."""
        self._parts.append(part.SerializeToString())
        self._size += len(self._parts[-1])
        if self._size > self._most:
            raise LimitReached(
                f"cannot {self._task}: the list is larger than a message of {self._most} bytes",
                reason="LIST_TOO_LARGE",
                hint=self._hint,
            )
        await asyncio.sleep(0)

    def whole(self) -> bytes:
        """Return the message, serialized."""
        return b"".join(self._parts)


def pages(rows: Sequence[T], size: int = PAGE) -> Iterator[Sequence[T]]:
    """Yield the rows in their order, ``size`` at a time."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
