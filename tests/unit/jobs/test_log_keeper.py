import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from joblet_agent.config import LogsConfig
from joblet_agent.jobs.log_keeper import LogKeeper
from joblet_agent.jobs.logs import JobEnd
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState
from tests.fakes.file_watcher import FakeFileWatcher
from tests.fakes.journal_copy import FakeJournalCopy

_ID = JobId("7f3a0000-0000-4000-8000-000000000001")
_RECORD = JobRecord(_ID, JobSpec("true"), JobState.RUNNING, datetime(2026, 1, 1, tzinfo=UTC))
_SOON = 10.0
_LIMIT = 1000


@dataclass
class Kept:
    """A keeper with one job."""

    paths: JobPaths
    journal: FakeJournalCopy = field(default_factory=FakeJournalCopy)
    watcher: FakeFileWatcher = field(default_factory=FakeFileWatcher)
    end: JobEnd = field(default_factory=JobEnd)
    truncated: list[JobId] = field(default_factory=list)
    copied: list[tuple[JobId, int]] = field(default_factory=list)
    record: JobRecord = _RECORD
    copies: bool = True

    def __post_init__(self) -> None:
        self.keeper = LogKeeper(
            self.watcher,
            LogsConfig(max_size=_LIMIT, journal=self.copies, journal_lines_per_second=100, journal_burst=100),
            self.journal,
            on_truncated=self.truncated.append,
            on_copied=lambda job_id, offset: self.copied.append((job_id, offset)),
        )

    def keep(self) -> None:
        self.keeper.keep(self.record, self.paths, self.end)

    def write(self, data: bytes) -> None:
        with self.paths.log.open("ab") as log:
            log.write(data)
        self.watcher.changed(self.paths.log)

    async def idle(self) -> None:
        """Wait until the keeper waits for growth."""
        await self.watcher.until_armed()

    async def finish(self) -> None:
        self.end.set()
        await self.keeper.finished(_ID)


def run(tmp_path: Path, case: Callable[[Kept], Awaitable[None]], *, copies: bool = True) -> None:
    async def with_keeper() -> None:
        home = tmp_path / "job"
        home.mkdir()
        kept = Kept(
            JobPaths(home, tmp_path / "env", tmp_path / "report", tmp_path / "trash", tmp_path / "secrets"),
            copies=copies,
        )
        kept.write(b"")
        try:
            await asyncio.wait_for(case(kept), _SOON)
        finally:
            await kept.keeper.close()
        assert kept.watcher.armed == []

    asyncio.run(with_keeper())


def test_lines_are_copied_while_the_job_runs_and_the_last_one_at_its_end(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.keep()
        await kept.idle()
        kept.write(b"one\ntw")
        await kept.idle()
        assert kept.journal.copied == [b"one"]
        kept.write(b"o")
        await kept.finish()
        assert kept.journal.copied == [b"one", b"two"]
        assert kept.copied[-1] == (_ID, 7)
        assert kept.paths.log_times.stat().st_size > 0

    run(tmp_path, case)


def test_r10_a_job_that_ended_before_anybody_looked(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.write(b"only")
        kept.end.set()
        kept.keep()
        await kept.keeper.finished(_ID)
        assert kept.journal.copied == [b"only"]

    run(tmp_path, case)


def test_b4_a_log_beyond_its_limit_keeps_its_head_and_is_told_once(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.keep()
        for _ in range(3):
            await kept.idle()
            kept.write(b"0123456789" * 70)
        await kept.finish()
        assert kept.paths.log.read_bytes() == b"0123456789" * 100
        assert kept.truncated == [_ID]

    run(tmp_path, case)


def test_a_log_at_its_limit_is_not_truncated(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.write(b"x" * _LIMIT)
        kept.keep()
        await kept.finish()
        assert kept.truncated == []

    run(tmp_path, case)


def test_a_new_agent_does_not_repeat_itself(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.write(b"one\ntwo\n" + b"x" * _LIMIT)
        kept.record = replace(kept.record, journal_offset=4, log_truncated=True)
        kept.keep()
        kept.keep()
        await kept.finish()
        assert kept.journal.copied[0] == b"two"
        assert kept.truncated == []
        assert kept.paths.log.stat().st_size == _LIMIT

    run(tmp_path, case)


def test_without_a_journal_only_limit_and_index(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.keep()
        kept.write(b"one\n")
        await kept.finish()
        assert kept.copied == []
        assert kept.paths.log_times.stat().st_size == 16

    run(tmp_path, case, copies=False)


def test_a_job_that_is_deleted_ends_it(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.keep()
        await kept.idle()
        kept.paths.log.unlink()
        await kept.finish()
        assert os.listdir(kept.paths.home) == []

    run(tmp_path, case)


def test_a_log_that_cannot_be_opened_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def case(kept: Kept) -> None:
        kept.paths.log.unlink()
        kept.paths.log.mkdir()
        kept.keep()
        await kept.finish()

    run(tmp_path, case)
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot keep the log of job {_ID}: [Errno 21] Is a directory: '{tmp_path}/job/output.log'"
    ]


def test_closing_leaves_the_rest_to_the_next_agent(tmp_path: Path) -> None:
    async def case(kept: Kept) -> None:
        kept.keep()
        await kept.idle()
        kept.write(b"one\n")
        await kept.idle()
        await kept.keeper.close()
        assert kept.copied == [(_ID, 4)]

    run(tmp_path, case)
