"""The output of several jobs as lines of one stream, each behind the name of its job."""

import sys
from collections.abc import Iterable

from rnx.output import Format, clean, show_record, uses_colours
from rnx.times import show_exact_time

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_WIDEST = 24
"""Longer names do not make room for themselves in front of the lines of others."""
_LONGEST = 64 * 1024
"""Bytes of a line that are kept back until it ends."""


class LinePrinter:
    """Prints whole lines; what a job has begun waits for the end of its line, or of its output."""

    def __init__(self, form: Format, names: Iterable[str], *, timestamps: bool) -> None:
        """``names`` are all jobs: their order gives the colours, the longest the width."""
        self._form = form
        self._timestamps = timestamps
        self._places = {name: place for place, name in enumerate(names)}
        self._width = max((len(name) for name in self._places if len(name) <= _WIDEST), default=0)
        self._has_colours = form is Format.TABLE and uses_colours()
        self._begun: dict[str, tuple[int, bytes]] = {}

    def write(self, job: str, uuid: str, time_ns: int, piece: bytes) -> None:
        """Print the lines that the piece ends; ``time_ns``: when it was written, 0 if nobody knows."""
        time, before = self._begun.pop(uuid, (time_ns, b""))
        *lines, rest = (before + piece).split(b"\n")
        for line in lines:
            self._print(job, uuid, time, line)
            time = time_ns
        while len(rest) > _LONGEST:
            self._print(job, uuid, time, rest[:_LONGEST])
            rest = rest[_LONGEST:]
        if rest:
            self._begun[uuid] = (time, rest)
        sys.stdout.buffer.flush()

    def end(self, job: str, uuid: str) -> None:
        """Print what is left of a job's output."""
        if uuid in self._begun:
            self._print(job, uuid, *self._begun.pop(uuid))
            sys.stdout.buffer.flush()

    def _print(self, job: str, uuid: str, time_ns: int, line: bytes) -> None:
        time = show_exact_time(time_ns) if time_ns else ""
        if self._form is not Format.TABLE:
            record = {"job": job, "job_uuid": uuid, "timestamp": time, "data": line.decode(errors="replace")}
            show_record(
                self._form, {name: value for name, value in record.items() if value or name == "data"}
            )
            return
        sys.stdout.buffer.write(self._prefix(job))
        sys.stdout.buffer.write(f"{time} ".encode() if self._timestamps and time else b"")
        # A job's colours end with its line: the next one is another job's.
        sys.stdout.buffer.write(line + (b"\x1b[0m\n" if self._has_colours else b"\n"))

    def _prefix(self, job: str) -> bytes:
        name = clean(job).ljust(self._width)
        if not self._has_colours:
            return f"{name} | ".encode()
        colour = _COLOURS[self._places.get(job, 0) % len(_COLOURS)]
        return f"\x1b[{colour}m{name} |\x1b[0m ".encode()
