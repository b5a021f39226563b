"""What a step of a build says: a file that grows, taken up line by line, and held to a size."""

import asyncio
import os
import re
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from joblet_agent.ports import FileWatcher

MOST_LOG: Final = 8 << 20
_PIECE: Final = 64 << 10
_LONGEST_LINE: Final = 4096
_LAST_LINES: Final = 40
_TERMINAL_WORDS: Final = re.compile(r"\x1b(\[[0-9;?]*[A-Za-z]|[()][A-Z0-9]|[=>])")


class BuildLog:
    """Follows the file of one step, and tells of each line once."""

    def __init__(self, path: Path, on_line: Callable[[str], None], most: int = MOST_LOG) -> None:
        self._path = path
        self._on_line = on_line
        self._most = most
        self._offset = 0
        self._rest = b""
        self._is_full = False
        self.last_lines: deque[str] = deque(maxlen=_LAST_LINES)

    async def follow(self, watcher: FileWatcher) -> None:
        """Take up what comes, until cancelled."""
        woken = asyncio.Event()
        watch = watcher.watch(self._path, woken.set)
        try:
            while True:
                woken.clear()
                watch.arm()
                await self.take()
                await woken.wait()
        finally:
            watch.close()

    async def take(self) -> None:
        """Take up what there is. Beyond the limit nothing is, and the file is cut back to it."""
        while piece := await asyncio.to_thread(self._read):
            self._offset += len(piece)
            self._split(piece)
        if self._offset >= self._most:
            if not self._is_full:
                self._is_full = True
                self._tell(b"(what this step says from here on is left out)")
            # It is appended to, so what is written next begins at the new end.
            await asyncio.to_thread(self._cut)

    def finish(self) -> None:
        """Tell of a last line without an end."""
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _read(self) -> bytes:
        most = min(_PIECE, self._most - self._offset)
        with suppress(FileNotFoundError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                return os.pread(descriptor, most, self._offset)
            finally:
                os.close(descriptor)
        return b""

    def _cut(self) -> None:
        with suppress(FileNotFoundError):
            if self._path.stat().st_size > self._most:
                os.truncate(self._path, self._most)

    def _split(self, piece: bytes) -> None:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            self._tell(line)
        while len(self._rest) > _LONGEST_LINE:
            self._tell(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]

    def _tell(self, line: bytes) -> None:
        # Of a line that is written over and over, what stands there in the end.
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode("utf-8", "replace")
        text = _TERMINAL_WORDS.sub("", text).replace("\t", "    ")
        text = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
        if text := text[:_LONGEST_LINE].rstrip():
            self.last_lines.append(text)
            self._on_line(text)
