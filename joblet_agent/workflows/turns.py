"""Long work on the event loop, in turns with everybody else's."""

import asyncio
import time

_LONGEST = 0.005


class Turns:
    """Begins with a turn; ``give`` between steps lets others run once it has been long enough."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    async def give(self) -> None:
        """Wait for the next turn if this one has taken some milliseconds."""
        if time.monotonic() - self._began > _LONGEST:
            await asyncio.sleep(0)
            self._began = time.monotonic()
