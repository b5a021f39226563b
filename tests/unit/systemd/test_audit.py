import asyncio

from joblet_agent.model.audit import AuditEntry, AuditResult, Subject
from joblet_agent.systemd.audit import MOST_TEXT, MOST_WAITING, JournalAudit, audit_datagram
from joblet_agent.systemd.journal import JournalWriter
from tests.unit.systemd.test_journal import fields

ID = "7f3a0000-0000-4000-8000-000000000001"
ENTRY = AuditEntry(
    "alice", "operator", "192.0.2.1:5555", "JobService/StopJob", AuditResult.DONE, subject=Subject(job_id=ID)
)


class FakeJournal(JournalWriter):
    """Takes as many records as it has room for."""

    def __init__(self, room: int) -> None:
        super().__init__("/nonexistent/socket")
        self.room = room
        self.taken: list[bytes] = []

    def send(self, datagram: bytes) -> bool:
        if self.room <= 0:
            return False
        self.room -= 1
        self.taken.append(datagram)
        return True


def test_a_record() -> None:
    assert fields(audit_datagram(ENTRY)) == {
        "MESSAGE": b'audit: "alice" (operator) at 192.0.2.1:5555: JobService/StopJob: done, job "%s"'
        % ID.encode(),
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"joblet-agent",
        "JOBLET_EVENT": b"audit",
        "JOBLET_CALLER": b"alice",
        "JOBLET_ROLE": b"operator",
        "JOBLET_ADDRESS": b"192.0.2.1:5555",
        "JOBLET_RPC": b"JobService/StopJob",
        "JOBLET_RESULT": b"done",
        "JOBLET_JOB_ID": ID.encode(),
        "OBJECT_SYSTEMD_UNIT": f"joblet-job-{ID}.service".encode(),
    }


def test_hostile_texts_stay_in_their_field() -> None:
    hostile = 'x" (admin)\nJOBLET_CALLER=root\n\x1b[2J\u202e\ud800' + "y" * 100_000
    entry = AuditEntry(
        hostile,
        hostile,
        hostile,
        hostile,
        AuditResult.FAILED,
        hostile,
        Subject(hostile, hostile, hostile, hostile, hostile),
    )
    datagram = audit_datagram(entry)
    found = fields(datagram)
    assert "OBJECT_SYSTEMD_UNIT" not in found
    assert found["JOBLET_CALLER"].startswith(b'x" (admin)\\nJOBLET_CALLER=root\\n\\x1b[2J\\u202e')
    assert all(len(value) <= MOST_TEXT + 3 for name, value in found.items() if name != "MESSAGE")
    assert all(value.decode().isprintable() for value in found.values())
    assert found["MESSAGE"].startswith(b"audit: \"x' (admin)")
    assert len(datagram) < 10_000


def test_a_journal_that_is_away_gets_the_records_later_and_in_order() -> None:
    async def run() -> FakeJournal:
        journal = FakeJournal(room=1)
        audit = JournalAudit(journal)
        for number in range(5):
            audit.write(AuditEntry(str(number), "", "", "x", AuditResult.DONE))
        assert len(journal.taken) == 1
        journal.room = 100
        audit.write(AuditEntry("5", "", "", "x", AuditResult.DONE))
        audit.close()
        journal.close()
        return journal

    journal = asyncio.run(run())
    assert [fields(datagram)["JOBLET_CALLER"] for datagram in journal.taken] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
        b"5",
    ]


def test_what_is_too_much_to_keep_is_counted() -> None:
    async def run() -> FakeJournal:
        journal = FakeJournal(room=0)
        audit = JournalAudit(journal)
        for _ in range(MOST_WAITING + 7):
            audit.write(ENTRY)
        journal.room = 2 * MOST_WAITING
        audit.close()
        journal.close()
        return journal

    journal = asyncio.run(run())
    assert len(journal.taken) == MOST_WAITING + 1
    last = fields(journal.taken[-1])
    assert (last["JOBLET_EVENT"], last["JOBLET_RESULT"], last["JOBLET_COUNT"]) == (b"audit", b"lost", b"7")
