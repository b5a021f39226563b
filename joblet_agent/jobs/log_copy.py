"""Which lines of a job's log go to the journal, for people.

The log is the buffer: what the journal cannot take now is read again later, so nothing is held in
memory but one block. A job that writes more than its rate gets a gap, and the gap is told::

    copied lines … | "8231 lines not copied, see: rnx log UUID" | copied lines …

After a crash of the agent the lines of the last second may be copied twice: at least once, never lost.
"""

import os
from typing import NamedTuple

from joblet_agent.model.job import JobRecord
from joblet_agent.ports import JournalCopy

LINE_BYTES = 32 * 1024
CUT_MARK = b" [cut, see: rnx log %s]"
_BLOCK_BYTES = 64 * 1024
_BATCH_LINES = 128
_COUNT_BYTES = 4 * 1024 * 1024
_BUSY_SECONDS = 0.05


class _Line(NamedTuple):
    """A line to copy, and how far into the block one is after it."""

    text: bytes
    end: int
    is_cut: bool = False
    """The rest of the line follows there, and is left out."""


class LineCopier:
    """Copies one job's lines, at most ``rate`` a second on average and ``burst`` at once."""

    __slots__ = (
        "_burst",
        "_gap",
        "_in_cut_line",
        "_journal",
        "_rate",
        "_record",
        "_tokens",
        "_tokens_at",
        "offset",
    )

    def __init__(self, journal: JournalCopy, record: JobRecord, *, rate: int, burst: int, now: float) -> None:
        """Continue at the record's ``journal_offset``; ``now`` is a monotonic time in seconds."""
        self._journal = journal
        self._record = record
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._tokens_at = now
        self._gap = False
        self._in_cut_line = False
        self.offset = record.journal_offset
        """Everything before it is copied, or told not to be."""

    def copy(self, fd: int, size: int, *, has_ended: bool, now: float) -> float | None:
        """Copy some lines of the first ``size`` bytes.

        Returns the seconds after which to call again, None when there is nothing more to do before
        the log grows. When the job has ended, the last line needs no newline. Raises OSError.
        """
        self._refill(now)
        if self._gap and not self._close_gap(fd, size, has_ended=has_ended):
            return self._seconds_to_refill()
        if self.offset >= size:
            return None
        if self._in_cut_line and size - self.offset > _COUNT_BYTES:
            return self._give_up_cut_line(has_ended=has_ended)
        block = os.pread(fd, min(_BLOCK_BYTES, size - self.offset), self.offset)
        if self._in_cut_line:
            return self._skip_cut_line(block)
        is_last = has_ended and self.offset + len(block) == size
        lines = self._split(block, is_last=is_last)
        return self._send(lines, has_ended=has_ended) if lines else None

    def _split(self, block: bytes, *, is_last: bool) -> list[_Line]:
        """Return the first lines of the block that can be told by now."""
        lines: list[_Line] = []
        at = 0
        while len(lines) < _BATCH_LINES and (newline := block.find(b"\n", at)) >= 0:
            lines.append(_Line(self._shortened(block[at:newline]), newline + 1))
            at = newline + 1
        rest = block[at:]
        if len(lines) == _BATCH_LINES or not rest:
            return lines
        if len(rest) > LINE_BYTES:
            lines.append(_Line(self._shortened(rest), at + LINE_BYTES, is_cut=True))
        elif is_last:
            lines.append(_Line(rest, len(block)))
        return lines

    def _shortened(self, line: bytes) -> bytes:
        if len(line) <= LINE_BYTES:
            return line
        return line[:LINE_BYTES] + CUT_MARK % self._record.id.encode()

    def _send(self, lines: list[_Line], *, has_ended: bool) -> float:
        """Copy what the rate and the journal allow; return the seconds after which to go on."""
        allowed = lines[: int(self._tokens)]
        taken = self._journal.lines(self._record, [line.text for line in allowed]) if allowed else 0
        self._tokens -= taken
        if taken:
            self.offset += lines[taken - 1].end
            self._in_cut_line = lines[taken - 1].is_cut
        if taken < len(allowed):
            return _BUSY_SECONDS
        self._gap = taken < len(lines)
        return self._seconds_to_refill() if self._gap and not has_ended else 0.0

    def _give_up_cut_line(self, *, has_ended: bool) -> float:
        """Leave out what is there instead of looking for the line's end in it, and tell so, once a second.

        Reading gigabytes that have no line in them costs the job that writes them memory bandwidth.
        """
        self._in_cut_line = False
        self._gap = True
        self._tokens = 0.0
        return 0.0 if has_ended else self._seconds_to_refill()

    def _skip_cut_line(self, block: bytes) -> float | None:
        if not block:
            return None
        newline = block.find(b"\n")
        self._in_cut_line = newline < 0
        self.offset += len(block) if newline < 0 else newline + 1
        return 0.0

    def _close_gap(self, fd: int, size: int, *, has_ended: bool) -> bool:
        """Tell what is left out and go on behind it; False while it is too early for that."""
        if not has_ended and self._tokens < self._enough:
            return False
        end = size if has_ended else _resume_offset(fd, self.offset, size)
        told = f"{_amount(fd, self.offset, end)} not copied, see: rnx log {self._record.id}"
        if end > self.offset and not self._journal.lines(self._record, [told.encode()]):
            return False
        # The window began in the middle of a line that has no end in it.
        self._in_cut_line = not has_ended and end == size - _BLOCK_BYTES > self.offset
        self.offset = end
        self._gap = False
        return True

    @property
    def _enough(self) -> int:
        return min(self._rate, self._burst)

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + (now - self._tokens_at) * self._rate)
        self._tokens_at = now

    def _seconds_to_refill(self) -> float:
        return max((self._enough - self._tokens) / self._rate, _BUSY_SECONDS)


def _resume_offset(fd: int, start: int, size: int) -> int:
    """Return where the last complete line of the part ends, or where the window to look for it begins."""
    begin = max(start, size - _BLOCK_BYTES)
    return begin + os.pread(fd, size - begin, begin).rfind(b"\n") + 1


def _amount(fd: int, start: int, end: int) -> str:
    """Say how much output that is: in lines, unless counting them is work to speak of."""
    if end - start > _COUNT_BYTES:
        return f"{end - start} bytes"
    lines = 0
    last = b""
    while start < end and (block := os.pread(fd, min(_BLOCK_BYTES, end - start), start)):
        lines += block.count(b"\n")
        start += len(block)
        last = block[-1:]
    lines += last not in (b"", b"\n")
    return f"{lines} line" + ("s" if lines != 1 else "")
