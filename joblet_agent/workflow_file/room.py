"""How much the jobs of a file may come to: a line can make ten thousand, and each takes over all there is."""

MOST_BYTES = 8 * 1024 * 1024
"""Of a file: room for the 10,000 jobs that there may be."""
MOST_TEXT = 64 * 1024 * 1024
"""Characters of all jobs of a file, complete."""
_ENTRY = 32
"""Counted for each text beside its characters."""


class TooMuch(Exception):
    """There is no room for more."""


class Room:
    """What is left for jobs."""

    def __init__(self, most: int = MOST_TEXT) -> None:
        self._left = most

    def take(self, entries: int, characters: int = 0) -> None:
        """Take room for something of so many texts. Raises TooMuch."""
        self._left -= entries * _ENTRY + characters
        if self._left < 0:
            raise TooMuch
