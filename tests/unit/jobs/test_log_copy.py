import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from joblet_agent.jobs.log_copy import LINE_BYTES, LineCopier
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from tests.fakes.journal_copy import FakeJournalCopy

_ID = JobId("7f3a0000-0000-4000-8000-000000000001")
_CUT = f" [cut, see: rnx log {_ID}]".encode()


class Log:
    """A log, the journal it is copied to, and a clock."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.journal = FakeJournalCopy()
        self.now = 100.0
        self.copier = self.new_copier()

    def new_copier(self, *, offset: int = 0, rate: int = 10, burst: int = 20) -> LineCopier:
        record = JobRecord(
            _ID, JobSpec("true"), JobState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC), journal_offset=offset
        )
        return LineCopier(self.journal, record, rate=rate, burst=burst, now=self.now)

    def write(self, data: bytes) -> None:
        os.write(self.fd, data)

    def copy(self, *, has_ended: bool = False) -> float | None:
        """Copy until nothing is due at once."""
        while True:
            size = os.fstat(self.fd).st_size
            pause = self.copier.copy(self.fd, size, has_ended=has_ended, now=self.now)
            if pause != 0.0:
                return pause

    @property
    def told(self) -> list[bytes]:
        told, self.journal.copied = self.journal.copied, []
        return told


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path / "output.log")
    yield log
    os.close(log.fd)


def test_complete_lines_are_copied_and_the_rest_waits_for_its_newline(log: Log) -> None:
    log.write(b"one\n\ntwo\nthr")
    assert log.copy() is None
    assert log.told == [b"one", b"", b"two"]
    log.write(b"ee\n")
    assert log.copy() is None
    assert log.told == [b"three"]
    assert log.copier.offset == 15


def test_the_last_line_of_an_ended_job_needs_no_newline(log: Log) -> None:
    log.write(b"one\nlast")
    assert log.copy(has_ended=True) is None
    assert log.told == [b"one", b"last"]
    assert log.copy(has_ended=True) is None
    assert log.told == []


def test_a_new_agent_continues_where_the_last_one_stopped(log: Log) -> None:
    log.write(b"one\ntwo\n")
    log.copier = log.new_copier(offset=4)
    log.copy()
    assert log.told == [b"two"]


@pytest.mark.parametrize("written_at_once", [True, False])
def test_a_long_line_is_cut_and_the_next_one_whole(log: Log, written_at_once: bool) -> None:
    log.write(b"x" * 500_000)
    if not written_at_once:
        log.copy()
    log.write(b"yz\nnext\n")
    assert log.copy() is None
    assert log.told == [b"x" * LINE_BYTES + _CUT, b"next"]
    assert log.copier.offset == 500_008


def test_a_line_of_exactly_the_limit_is_whole(log: Log) -> None:
    log.write(b"x" * LINE_BYTES)
    assert log.copy() is None
    log.write(b"\n" + b"y" * (LINE_BYTES + 1) + b"\nz\n")
    log.copy()
    assert log.told == [b"x" * LINE_BYTES, b"y" * LINE_BYTES + _CUT, b"z"]


def test_what_goes_beyond_the_rate_is_counted_and_told(log: Log) -> None:
    log.write(b"".join(b"%d\n" % number for number in range(100)))
    assert log.copy() == pytest.approx(1.0)
    assert log.told == [b"%d" % number for number in range(20)]
    log.now += 0.9
    assert log.copy() == pytest.approx(0.1)
    assert log.told == []
    log.now += 0.2
    log.write(b"unfinished")
    assert log.copy() is None
    assert log.told == [b"80 lines not copied, see: rnx log " + _ID.encode()]
    log.write(b" line\n")
    assert log.copy() is None
    assert log.told == [b"unfinished line"]


def test_the_end_of_the_job_tells_the_gap_at_once(log: Log) -> None:
    log.write(b"line\n" * 99 + b"end")
    log.copy(has_ended=True)
    assert log.told == [b"line"] * 20 + [b"80 lines not copied, see: rnx log " + _ID.encode()]


def test_a_huge_gap_is_told_in_bytes_and_ends_at_a_line(log: Log) -> None:
    log.write(b"line\n" * 2_000_000)
    log.copy()
    assert log.told == [b"line"] * 20
    log.write(b"x" * 200_000)
    log.now += 10
    log.copy()
    assert log.told == [f"10134364 bytes not copied, see: rnx log {_ID}".encode()]
    log.write(b"\nnext\n")
    log.copy()
    assert log.told == [b"next"]


def test_a_busy_journal_gets_the_same_lines_later(log: Log) -> None:
    log.write(b"a\nb\nc\n")
    log.journal.room = 1
    assert log.copy() == pytest.approx(0.05)
    assert log.copier.offset == 2
    log.journal.room = None
    assert log.copy() is None
    assert log.told == [b"a", b"b", b"c"]


def test_a_busy_journal_is_told_of_the_gap_later(log: Log) -> None:
    log.write(b"a\n" * 30)
    log.copy()
    log.journal.room = 0
    log.now += 1
    assert log.copy() is not None
    log.journal.room = None
    log.copy()
    assert log.told[-1] == b"10 lines not copied, see: rnx log " + _ID.encode()


def test_megabytes_without_a_line_are_left_out_once_a_second(log: Log) -> None:
    megabytes = b"x" * 6_000_000
    log.write(megabytes)
    assert log.copy() == pytest.approx(1.0)
    assert log.told == [b"x" * LINE_BYTES + _CUT]
    log.write(megabytes)
    log.now += 0.5
    assert log.copy() == pytest.approx(0.5)
    assert log.told == []
    log.now += 0.5
    log.copy()
    (told,) = log.told
    assert told.endswith(f" bytes not copied, see: rnx log {_ID}".encode())
    log.write(b"\nnext\n")
    assert log.copy() is None
    assert log.told == [b"next"]


def test_megabytes_without_a_line_are_told_at_the_end_of_the_job(log: Log) -> None:
    log.write(b"x" * 6_000_000)
    assert log.copy(has_ended=True) is None
    assert log.told == [b"x" * LINE_BYTES + _CUT, f"5967232 bytes not copied, see: rnx log {_ID}".encode()]
