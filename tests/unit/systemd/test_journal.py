from datetime import UTC, datetime

import pytest

from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from joblet_agent.systemd.journal import JournalWriter, printable, record_datagram

_ID = JobId("7f3a0000-0000-4000-8000-000000000001")


def record(name: str = "") -> JobRecord:
    return JobRecord(_ID, JobSpec("true", name=name), JobState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC))


def fields(datagram: bytes) -> dict[str, bytes]:
    """Read a datagram as journald does: every field framed by its length."""
    found = {}
    while datagram:
        name, datagram = datagram.split(b"\n", 1)
        length = int.from_bytes(datagram[:8], "little")
        found[name.decode()] = datagram[8 : 8 + length]
        assert datagram[8 + length : 9 + length] == b"\n"
        datagram = datagram[9 + length :]
    return found


def test_a_line_carries_the_unit_and_the_job() -> None:
    assert fields(record_datagram(record("train"), priority=6, MESSAGE=b"hello")) == {
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"train",
        "OBJECT_SYSTEMD_UNIT": f"joblet-job-{_ID}.service".encode(),
        "JOBLET_JOB_ID": _ID.encode(),
        "MESSAGE": b"hello",
    }


def test_a_job_without_a_name_is_joblet() -> None:
    assert fields(record_datagram(record(), priority=6))["SYSLOG_IDENTIFIER"] == b"joblet"


def test_output_cannot_add_fields() -> None:
    forged = b"x\nPRIORITY=0\n_PID=1"
    found = fields(record_datagram(record(), priority=6, MESSAGE=forged))
    assert found["MESSAGE"] == b"x\\nPRIORITY=0\\n_PID=1"
    assert found["PRIORITY"] == b"6"
    assert "_PID" not in found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"plain\ttext", "plain\ttext"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        (b"\x00\x07\x7f", "\\x00\\x07\\x7f"),
        ("\x9b31m \u202e \u2028".encode(), "\\x9b31m \\u202e \\u2028"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("Größe 日本 😀".encode(), "Größe 日本 😀"),
        (b"dos\r", "dos"),
        (b"50%\rdone", "50%\\rdone"),
    ],
)
def test_printable(line: bytes, text: str) -> None:
    assert printable(line) == text


def test_without_journald_nothing_is_taken_and_it_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    writer = JournalWriter("/nonexistent/socket")
    assert writer.lines(record(), [b"a", b"b"]) == 0
    assert writer.lines(record(), [b"a"]) == 0
    writer.event(record(), "ended", "job ended")
    assert [one.getMessage() for one in caplog.records] == [
        "cannot write to the journal now: No such file or directory"
    ]
    writer.close()
