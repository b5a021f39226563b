"""The audit trail in the journal (ports.AuditLog): `journalctl JOBLET_EVENT=audit`.

Whatever callers send, they cannot forge a record: fields are framed by their length, what is not printable
becomes an escape, and in MESSAGE texts of callers stand in quotes. Other programs can write such fields, too;
what journald itself says of the sender (``_SYSTEMD_UNIT=joblet-agent.service``) they cannot.
"""

import asyncio
import re
from collections import deque

from joblet_agent.model.audit import AuditEntry, AuditResult
from joblet_agent.model.job import JobId
from joblet_agent.systemd.journal import JournalWriter, journal_field, printable
from joblet_agent.systemd.names import unit_name

MOST_WAITING = 4096
"""Records that wait for a journal that is away, 500 bytes each; what is beyond is counted."""
MOST_TEXT = 256
"""Characters of a text that came from outside."""

_IDENTIFIER = "joblet-agent"
_INFO, _WARNING = 6, 4  # sd-daemon(3)
_RETRY_SECONDS = 0.5
_FULL_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class JournalAudit:
    """Writes records in their order. One that journald does not take waits, and all behind it."""

    def __init__(self, journal: JournalWriter) -> None:
        self._journal = journal
        self._waiting: deque[bytes] = deque()
        self._lost = 0
        self._retry: asyncio.TimerHandle | None = None

    def write(self, entry: AuditEntry) -> None:
        """Write a record. See ports.AuditLog."""
        datagram = audit_datagram(entry)
        if not self._waiting and self._journal.send(datagram):
            return
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(datagram)
        else:
            self._lost += 1
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._again)

    def close(self) -> None:
        """Offer what waits a last time."""
        if self._retry is not None:
            self._retry.cancel()
        self._flush()

    def _again(self) -> None:
        self._retry = None
        if not self._flush():
            self._retry = asyncio.get_running_loop().call_later(_RETRY_SECONDS, self._again)

    def _flush(self) -> bool:
        while self._waiting:
            if not self._journal.send(self._waiting[0]):
                return False
            self._waiting.popleft()
        if self._lost and self._journal.send(_lost_datagram(self._lost)):
            self._lost = 0
        return not self._lost


def audit_datagram(entry: AuditEntry) -> bytes:
    """Return a record, ready for journald's socket; fields that say nothing are left out."""
    subject = entry.subject
    fields = {
        "JOBLET_CALLER": entry.caller,
        "JOBLET_ROLE": entry.role,
        "JOBLET_ADDRESS": entry.address,
        "JOBLET_RPC": entry.rpc,
        "JOBLET_RESULT": entry.result.value,
        "JOBLET_REASON": entry.reason,
        "JOBLET_JOB_ID": subject.job_id,
        "JOBLET_SCHEDULE_ID": subject.schedule_id,
        "JOBLET_WORKFLOW_ID": subject.workflow_id,
        "JOBLET_NAME": subject.name,
        "JOBLET_COMMAND": subject.command,
        # `journalctl -u` shows it with the job. Never of a text that is no id: it would be another unit.
        "OBJECT_SYSTEMD_UNIT": _unit(subject.job_id),
    }
    if entry.result is AuditResult.NOT_RECORDED:
        fields["JOBLET_COUNT"] = str(entry.count)
    is_denied = entry.result in {AuditResult.DENIED, AuditResult.NOT_RECORDED}
    return _datagram(_WARNING if is_denied else _INFO, _message(entry), fields)


def _lost_datagram(count: int) -> bytes:
    text = f"{count} audit records lost: the journal did not take them, and too many waited"
    return _datagram(_WARNING, text, {"JOBLET_RESULT": "lost", "JOBLET_COUNT": str(count)})


def _datagram(priority: int, message: str, fields: dict[str, str]) -> bytes:
    return b"".join(
        (
            journal_field("MESSAGE", message),
            journal_field("PRIORITY", str(priority)),
            journal_field("SYSLOG_IDENTIFIER", _IDENTIFIER),
            journal_field("JOBLET_EVENT", "audit"),
            *(journal_field(name, _plain(text)) for name, text in fields.items() if text),
        )
    )


def _message(entry: AuditEntry) -> str:
    role, address = _plain(entry.role) or "no role", _plain(entry.address) or "this host"
    who = f"{_quoted(entry.caller)} ({role}) at {address}"
    if entry.result is AuditResult.NOT_RECORDED:
        return f"audit: {entry.count} more denied calls of {who} not recorded"
    subject = entry.subject
    about = "".join(
        f", {word} {_quoted(text)}"
        for word, text in (
            ("job", subject.job_id),
            ("schedule", subject.schedule_id),
            ("workflow", subject.workflow_id),
            ("name", subject.name),
            ("command", subject.command),
        )
        if text
    )
    reason = f" ({_plain(entry.reason)})" if entry.reason else ""
    return f"audit: {who}: {_plain(entry.rpc)}: {entry.result}{reason}{about}"


def _plain(text: str) -> str:
    shown = printable(text[: MOST_TEXT + 1].encode(errors="backslashreplace"))
    return shown if len(shown) <= MOST_TEXT else shown[:MOST_TEXT] + "..."


def _quoted(text: str) -> str:
    return '"' + _plain(text).replace('"', "'") + '"' if text else "nobody known"


def _unit(job_id: str) -> str:
    return unit_name(JobId(job_id)) if _FULL_ID.fullmatch(job_id) else ""
