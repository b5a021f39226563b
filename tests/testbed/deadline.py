"""Waiting with a limit."""

from __future__ import annotations

import time
from datetime import timedelta


class Deadline:
    """A moment some seconds from now, asked for the time that is left."""

    def __init__(self, limit: timedelta) -> None:
        self._end = time.monotonic() + limit.total_seconds()

    def seconds(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self._end - time.monotonic())

    def milliseconds(self) -> int:
        """Milliseconds left, rounded up."""
        return int(self.seconds() * 1000) + 1
