"""The lines of a log that a pattern matches.

Patterns come from users: one that takes for ever on a line (``(a+)+$``) must hold nobody up, so
``regex`` stops each search after a while, which the standard library's ``re`` cannot.
"""

import re
import time
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from joblet_agent.errors import InvalidRequest

_PATTERN_MOST = 1024
# regex doubles its program for every repetition around a group: 16 levels, 114 characters, are 2 GiB.
_REPEATED_MOST = 5
_REPEATED_GROUP = re.compile(r"\)\s*[{*+?]")
# Verbose patterns and comments would hide a repetition from that.
_HIDING = re.compile(r"\(\?(#|[A-Za-z0-9]*x)")
_SPECIAL = re.compile(r"[][.*+?(){}^$|\\\n]")
MATCHED_BYTES = 1024 * 1024
# A search keeps the interpreter lock for the first limit: giving it up and getting it back for
# every line makes it wait for the event loop each time. Only what takes longer gives it up.
_QUICK_SECONDS, _LINE_SECONDS, _FEED_SECONDS = 0.002, 0.5, 2.0


@dataclass(slots=True)
class Run:
    """Matching lines that follow each other in the log, and where they begin."""

    offset: int
    lines: bytearray = field(default_factory=bytearray)


class _Line(Enum):
    """What becomes of the rest of the line that is being read."""

    UNDECIDED = auto()
    PASSED = auto()
    DROPPED = auto()


class LineFilter:
    """Passes the lines that a pattern matches, byte for byte.

    Lines longer than MATCHED_BYTES are decided by that many bytes; the rest passes or not as it
    comes, so memory stays bounded. Slow: call it in a thread, one call at a time.
    """

    def __init__(self, pattern: str) -> None:
        """Compile the pattern. Raises InvalidRequest (PATTERN_INVALID)."""
        self._regex = _compile(pattern)
        self._literal = None if _SPECIAL.search(pattern) else pattern.encode()
        self._line = _Line.UNDECIDED
        self._head = bytearray()
        self._head_offset = 0
        self._runs: list[Run] = []
        self._deadline = 0.0

    def feed(self, offset: int, payload: bytes) -> list[Run]:
        """Take in the next bytes of the log; return what is decided by now.

        Raises InvalidRequest (PATTERN_TOO_SLOW).
        """
        self._deadline = time.thread_time() + _FEED_SECONDS
        at = self._skip(payload, self._rest_of_long_line(offset, payload))
        while (newline := payload.find(b"\n", at)) >= 0:
            self._decide(offset + at, payload[at : newline + 1])
            at = self._skip(payload, newline + 1)
        if at < len(payload):
            self._begin_line(offset + at, payload[at:])
        return self._take_runs()

    def finish(self) -> list[Run]:
        """Decide the last line, which has no newline. Raises InvalidRequest (PATTERN_TOO_SLOW)."""
        self._deadline = time.thread_time() + _FEED_SECONDS
        if self._head:
            self._decide(self._head_offset + len(self._head), b"")
        return self._take_runs()

    def _skip(self, payload: bytes, at: int) -> int:
        """Return where the next line begins that may match; makes a search for plain text 40 times faster."""
        if self._literal is None or self._head or self._line is not _Line.UNDECIDED:
            return at
        found = payload.find(self._literal, at)
        return max(at, payload.rfind(b"\n", at, found if found >= 0 else len(payload)) + 1)

    def _rest_of_long_line(self, offset: int, payload: bytes) -> int:
        """Pass or drop up to the end of a line that is decided; return where the next one begins."""
        if self._line is _Line.UNDECIDED or not payload:
            return 0
        newline = payload.find(b"\n")
        end = len(payload) if newline < 0 else newline + 1
        if self._line is _Line.PASSED:
            self._pass(offset, payload[:end])
        if newline >= 0:
            self._line = _Line.UNDECIDED
        return end

    def _begin_line(self, offset: int, part: bytes) -> None:
        if self._line is not _Line.UNDECIDED:
            return
        if not self._head:
            self._head_offset = offset
        self._head += part
        if len(self._head) >= MATCHED_BYTES:
            is_match = self._matches(bytes(self._head[:MATCHED_BYTES]))
            self._line = _Line.PASSED if is_match else _Line.DROPPED
            if is_match:
                self._pass(self._head_offset, bytes(self._head))
            self._head.clear()

    def _decide(self, offset: int, end_of_line: bytes) -> None:
        if self._head:
            offset = self._head_offset
            end_of_line = bytes(self._head) + end_of_line
            self._head.clear()
        if self._matches(end_of_line.removesuffix(b"\n")[:MATCHED_BYTES]):
            self._pass(offset, end_of_line)

    def _pass(self, offset: int, data: bytes) -> None:
        if not self._runs or self._runs[-1].offset + len(self._runs[-1].lines) != offset:
            self._runs.append(Run(offset))
        self._runs[-1].lines += data

    def _take_runs(self) -> list[Run]:
        runs, self._runs = self._runs, []
        return runs

    def _matches(self, line: bytes) -> bool:
        try:
            is_match = self._search(line)
        except TimeoutError as error:
            raise _too_slow() from error
        if time.thread_time() > self._deadline:
            raise _too_slow()
        return is_match

    def _search(self, line: bytes) -> bool:
        try:
            return self._regex.search(line, concurrent=False, timeout=_QUICK_SECONDS) is not None
        except TimeoutError:
            return self._regex.search(line, concurrent=True, timeout=_LINE_SECONDS) is not None


def _compile(pattern: str) -> Any:
    if len(pattern) > _PATTERN_MOST:
        raise _invalid(f"the pattern is longer than {_PATTERN_MOST} characters")
    if len(_REPEATED_GROUP.findall(pattern)) > _REPEATED_MOST:
        raise _invalid(f"the pattern repeats more than {_REPEATED_MOST} groups")
    if _HIDING.search(pattern):
        raise _invalid("the pattern has a comment or the flag x")
    import regex  # noqa: PLC0415 - 1.3 MB that most runs of the agent never need

    try:
        return regex.compile(pattern.encode())
    except (regex.error, RecursionError, OverflowError, ValueError) as error:
        raise _invalid(f"invalid pattern {pattern!r}: {error}") from error


def _invalid(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"cannot search the log: {text}",
        reason="PATTERN_INVALID",
        hint="patterns are regular expressions; put a backslash before . * + ? ( ) [ ] { } ^ $ | \\",
    )


def _too_slow() -> InvalidRequest:
    return InvalidRequest(
        "cannot search the log: the pattern takes too long",
        reason="PATTERN_TOO_SLOW",
        hint="avoid repetitions inside repetitions, like (a+)+",
    )
