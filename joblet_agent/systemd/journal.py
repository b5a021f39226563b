"""The copy of jobs' output and events in the journal, for people (ports.JournalCopy).

Speaks the journal's native protocol itself (systemd.io/JOURNAL_NATIVE_PROTOCOL). pystemd's
``sendv`` waits for a journald that is stuck and holds the interpreter lock meanwhile: measured
with journald stopped for 3 s, every thread of the process stood still for 3.0 s (252 and 257).
"""

import logging
import re
import socket
from collections.abc import Sequence

from joblet_agent.model.job import JobRecord
from joblet_agent.model.metrics import Usage
from joblet_agent.systemd.names import unit_name

_SOCKET = "/run/systemd/journal/socket"
_SEND_BUFFER = 8 * 1024 * 1024  # as libsystemd does
_INFO, _NOTICE = 6, 5  # sd-daemon(3)
_NAME_MOST = 64
_OTHER_THAN_PLAIN = re.compile(r"[^ -~\t]")

_log = logging.getLogger(__name__)


class JournalWriter:
    """Sends records to journald without ever waiting for it."""

    def __init__(self, path: str = _SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        )
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._was_reported = False

    def close(self) -> None:
        """Send no more."""
        self._socket.close()

    def lines(self, record: JobRecord, lines: Sequence[bytes]) -> int:
        """Copy output lines; return how many of the first journald took. See ports.JournalCopy."""
        for number, line in enumerate(lines):
            if not self.send(record_datagram(record, priority=_INFO, MESSAGE=line)):
                return number
        return len(lines)

    def event(self, record: JobRecord, event: str, text: str) -> None:
        """Write one record about the job's life; none if journald does not take it now."""
        fields = {"JOBLET_EVENT": event.encode(), "MESSAGE": text.encode(errors="backslashreplace")}
        if record.usage is not None:
            fields |= _usage_fields(record.usage)
        if not self.send(record_datagram(record, priority=_NOTICE, **fields)):
            _log.debug("event %s of job %s is not in the journal", event, record.id)

    def send(self, datagram: bytes) -> bool:
        """Give journald a record; say whether it took it. Never waits."""
        try:
            self._socket.sendto(datagram, self._path)
        except BlockingIOError:
            return False  # journald is busy or stuck
        except OSError as error:  # it restarts: no socket, or nobody behind it
            if not self._was_reported:
                self._was_reported = True
                _log.warning("cannot write to the journal now: %s", error.strerror)
            return False
        self._was_reported = False
        return True


def _usage_fields(usage: Usage) -> dict[str, bytes]:
    """Return the final figures that somebody may want to search for or sum up."""
    figures = {
        "JOBLET_CPU_USEC": usage.cpu_usec,
        "JOBLET_MEMORY_PEAK": usage.memory_peak,
        "JOBLET_DISK_READ_BYTES": usage.read_bytes,
        "JOBLET_DISK_WRITE_BYTES": usage.write_bytes,
    }
    return {name: str(figure).encode() for name, figure in figures.items()}


def printable(line: bytes) -> str:
    r"""Return the line as text that can do nothing to a terminal.

    What is not UTF-8, control characters, separators and marks that turn the direction of text
    become escapes (``\x1b``, ``\u202e``); journalctl would hide a whole line that holds one.
    """
    text = line.removesuffix(b"\r").decode(errors="backslashreplace")
    return _OTHER_THAN_PLAIN.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    character = found[0]
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def record_datagram(record: JobRecord, *, priority: int, **fields: bytes) -> bytes:
    """Return a record about a job, ready for journald's socket; fields are made printable."""
    # OBJECT_SYSTEMD_UNIT is what `journalctl -u` matches for records that root writes about a unit.
    name = printable(record.spec.name.encode(errors="backslashreplace"))[:_NAME_MOST] or "joblet"
    return b"".join(
        (
            journal_field("PRIORITY", str(priority)),
            journal_field("SYSLOG_IDENTIFIER", name),
            journal_field("OBJECT_SYSTEMD_UNIT", unit_name(record.id)),
            journal_field("JOBLET_JOB_ID", record.id),
            *(journal_field(field, printable(value)) for field, value in fields.items()),
        )
    )


def journal_field(name: str, text: str) -> bytes:
    """Frame a field by the length of its value: whatever it holds, it cannot begin another field."""
    value = text.encode()
    return name.encode() + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
