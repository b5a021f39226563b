import asyncio
import os
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joblet_agent.config import LogsConfig
from joblet_agent.errors import InvalidRequest
from joblet_agent.jobs.logs import JobEnd, LogChunk, LogReader
from joblet_agent.jobs.paths import JobPaths
from joblet_agent.model.job import LogQuery
from tests.fakes.file_watcher import FakeFileWatcher

_SOON = 10.0
_LIMIT = 1 << 30


@dataclass
class Job:
    """A job's log, and a reader of it."""

    paths: JobPaths
    reader: LogReader
    watcher: FakeFileWatcher
    end: JobEnd

    def write(self, data: bytes) -> None:
        self.paths.home.mkdir(exist_ok=True)
        with self.paths.log.open("ab") as log:
            log.write(data)
        self.watcher.changed(self.paths.log)

    async def chunks(self, query: LogQuery) -> list[LogChunk]:
        return [chunk async for chunk in self.reader.read(self.paths, query, self.end)]

    async def text(self, query: LogQuery) -> bytes:
        return b"".join(chunk.payload for chunk in await self.chunks(query))


def with_job(home: Path, case: Callable[[Job], Awaitable[None]], *, max_size: int = _LIMIT) -> None:
    async def run() -> None:
        watcher = FakeFileWatcher()
        reader = LogReader(watcher, LogsConfig(max_size=max_size))
        paths = JobPaths(
            home / "job", home / "environment", home / "report", home / "trash", home / "credentials"
        )
        try:
            await asyncio.wait_for(case(Job(paths, reader, watcher, JobEnd())), _SOON)
        finally:
            reader.close()
            assert watcher.armed == []

    asyncio.run(run())


def read(home: Path, data: bytes, query: LogQuery) -> list[LogChunk]:
    found: list[LogChunk] = []

    async def case(job: Job) -> None:
        job.write(data)
        job.end.set()
        found.extend(await job.chunks(query))

    with_job(home, case)
    return found


def text(chunks: list[LogChunk]) -> bytes:
    return b"".join(chunk.payload for chunk in chunks)


def test_binary_output_comes_back_byte_for_byte(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    chunks = read(tmp_path, data, LogQuery())
    assert text(chunks) == data
    assert [chunk.offset for chunk in chunks] == [0, 262144, 524288, 786432, 1048576]


def test_a_missing_log_of_an_ended_job_is_empty(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.end.set()
        assert await job.chunks(LogQuery()) == []
        assert job.reader.size(job.paths) == 0

    with_job(tmp_path, case)


def test_without_follow_a_running_job_ends_with_what_is_there(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        assert await job.chunks(LogQuery(follow=False)) == []
        job.write(b"one\n")
        assert await job.text(LogQuery(follow=False)) == b"one\n"

    with_job(tmp_path, case)


def test_a_follower_gets_all_from_before_the_log_exists_to_the_last_unterminated_line(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        follower = asyncio.create_task(job.text(LogQuery()))
        late = None
        for number in range(100):
            await asyncio.sleep(0)
            job.write(b"%d\n" % number)
            if number == 50:
                late = asyncio.create_task(job.text(LogQuery()))
        job.write(b"last")
        job.end.set()
        wanted = b"".join(b"%d\n" % number for number in range(100)) + b"last"
        assert late is not None
        assert await follower == wanted
        assert await late == wanted

    with_job(tmp_path, case)


def test_output_written_just_before_the_end_is_not_missed(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"")
        follower = asyncio.create_task(job.text(LogQuery()))
        await job.watcher.until_armed()
        with job.paths.log.open("ab") as log:
            log.write(b"last words")  # and no event for it
        job.end.set()
        assert await follower == b"last words"

    with_job(tmp_path, case)


def test_an_interrupted_stream_continues_at_its_offset(tmp_path: Path) -> None:
    assert read(tmp_path, b"0123456789", LogQuery(offset=4)) == [LogChunk(4, b"456789")]


def test_an_offset_beyond_the_end_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path, b"0123456789", LogQuery(offset=11, tail_lines=3)) == []


def test_nothing_beyond_the_limit_is_served(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"0123456789")
        follower = asyncio.create_task(job.text(LogQuery()))
        await asyncio.sleep(0)
        job.write(b"more")
        job.end.set()
        assert await follower == b"01234567"
        assert job.reader.size(job.paths) == 8

    with_job(tmp_path, case, max_size=8)


def test_a_follower_of_a_full_log_waits_for_the_end_of_the_job(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"0123456789")
        chunks = job.reader.read(job.paths, LogQuery(), job.end)
        assert (await anext(chunks)).payload == b"01234567"
        rest = asyncio.ensure_future(anext(chunks, None))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not rest.done()
        job.end.set()
        assert await rest is None

    with_job(tmp_path, case, max_size=8)


def test_a_deleted_log_ends_its_followers(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"x")
        follower = asyncio.create_task(job.text(LogQuery()))
        await job.watcher.until_armed()
        job.paths.log.unlink()
        job.watcher.changed(job.paths.log)
        assert await follower == b"x"

    with_job(tmp_path, case)


def test_a_reader_that_goes_away_leaves_nothing(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"x")
        follower = asyncio.create_task(job.text(LogQuery()))
        await job.watcher.until_armed()
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)
        assert job.watcher.armed == []

    with_job(tmp_path, case)


@pytest.mark.parametrize(
    ("data", "lines", "wanted"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\nb\nc\n", 3, b"a\nb\nc\n"),
        (b"a\nb\nc\n", 99, b"a\nb\nc\n"),
        (b"a\nb\n", 0, b""),
        (b"\n\n\n", 2, b"\n\n"),
        (b"", 5, b""),
        (b"x" * 200_000 + b"\nlast", 1, b"last"),
        (b"a\n" + b"x" * 200_000, 1, b"x" * 200_000),
    ],
)
def test_tail(tmp_path: Path, data: bytes, lines: int, wanted: bytes) -> None:
    assert text(read(tmp_path, data, LogQuery(tail_lines=lines))) == wanted


@given(parts=st.lists(st.sampled_from([b"\n", b"a", b"b" * 30_000]), max_size=12), lines=st.integers(0, 8))
def test_tail_is_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], lines: int
) -> None:
    data = b"".join(parts)
    wanted = b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""
    assert text(read(tmp_path_factory.mktemp("tail"), data, LogQuery(tail_lines=lines))) == wanted


def test_tail_then_follow(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"a\nb\n")
        follower = asyncio.create_task(job.text(LogQuery(tail_lines=1)))
        await job.watcher.until_armed()
        job.write(b"c\n")
        job.end.set()
        assert await follower == b"b\nc\n"

    with_job(tmp_path, case)


@pytest.mark.parametrize(
    ("second", "wanted"), [(5, b"0123456789"), (10, b"0123456789"), (11, b"456789"), (25, b"89")]
)
def test_since(tmp_path: Path, second: int, wanted: bytes) -> None:
    async def case(job: Job) -> None:
        job.write(b"0123456789")
        index = [(10, 4), (20, 8), (30, 10)]
        job.paths.log_times.write_bytes(
            b"".join(struct.pack(">qq", at * 1_000_000_000, size) for at, size in index) + b"torn"
        )
        job.end.set()
        assert await job.text(LogQuery(since=datetime.fromtimestamp(second, UTC))) == wanted

    with_job(tmp_path, case)


@pytest.mark.parametrize("is_indexed", [True, False])
def test_since_the_moment_before_a_write_has_it_although_files_times_lag(
    tmp_path: Path, is_indexed: bool
) -> None:
    moment_ns = 1_700_000_000_000_000_000
    written_ns = moment_ns - 9_000_000

    async def case(job: Job) -> None:
        job.write(b"new")
        os.utime(job.paths.log, ns=(written_ns, written_ns))
        if is_indexed:
            job.paths.log_times.write_bytes(struct.pack(">qq", written_ns, 3))
        job.end.set()
        assert await job.text(LogQuery(since=datetime.fromtimestamp(moment_ns / 10**9, UTC))) == b"new"

    with_job(tmp_path, case)


def test_since_a_time_after_the_last_write_is_empty_even_without_an_index(tmp_path: Path) -> None:
    assert read(tmp_path, b"old", LogQuery(since=datetime(2999, 1, 1, tzinfo=UTC))) == []


def test_grep_sends_matching_lines_with_their_positions(tmp_path: Path) -> None:
    data = b"ok\nerror 1\nerror 2\nok\nerror 3"
    assert read(tmp_path, data, LogQuery(grep="^error")) == [
        LogChunk(3, b"error 1\nerror 2\n"),
        LogChunk(22, b"error 3"),
    ]


def test_times_split_the_log_where_the_index_does(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"one\ntwo\nthree\n")
        job.paths.log_times.write_bytes(struct.pack(">qqqq", 5, 4, 6, 8))
        written = job.paths.log.stat().st_mtime_ns
        job.end.set()
        assert await job.chunks(LogQuery(timestamps=True)) == [
            LogChunk(0, b"one\n", 5),
            LogChunk(4, b"two\n", 6),
            LogChunk(8, b"three\n", written),
        ]
        assert await job.chunks(LogQuery(timestamps=True, grep="t", tail_lines=2)) == [
            LogChunk(4, b"two\n", 6),
            LogChunk(8, b"three\n", written),
        ]

    with_job(tmp_path, case)


def test_times_without_an_index_are_those_of_the_file(tmp_path: Path) -> None:
    (chunk,) = read(tmp_path, b"x", LogQuery(timestamps=True))
    assert chunk.time_ns > 0


def test_grep_of_the_last_lines(tmp_path: Path) -> None:
    assert text(read(tmp_path, b"e1\ne2\nx\n", LogQuery(grep="e", tail_lines=2))) == b"e2\n"


def test_grep_follows(tmp_path: Path) -> None:
    async def case(job: Job) -> None:
        job.write(b"no\nye")
        chunks = job.reader.read(job.paths, LogQuery(grep="yes"), job.end)
        first = asyncio.ensure_future(anext(chunks))
        await job.watcher.until_armed()
        job.write(b"s\nno")
        assert await first == LogChunk(3, b"yes\n")
        job.end.set()
        assert await anext(chunks, None) is None

    with_job(tmp_path, case)


@pytest.mark.parametrize(
    ("query", "reason", "words"),
    [
        (LogQuery(offset=-1), "LOG_QUERY_INVALID", "must not be negative"),
        (LogQuery(tail_lines=-2), "LOG_QUERY_INVALID", "must not be negative"),
        (LogQuery(grep="("), "PATTERN_INVALID", "cannot search the log: invalid pattern '('"),
        (LogQuery(grep="x" * 1025), "PATTERN_INVALID", "longer than 1024 characters"),
        (LogQuery(grep="^(a|aa)+$"), "PATTERN_TOO_SLOW", "the pattern takes too long"),
    ],
)
def test_queries_that_cannot_work(tmp_path: Path, query: LogQuery, reason: str, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path, b"a" * 200 + b"!\n", query)
    assert caught.value.reason == reason
    assert words in str(caught.value)
