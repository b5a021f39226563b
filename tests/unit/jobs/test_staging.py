"""C5 without a host: what a stream leaves, and who may take it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import UploadsConfig
from joblet_agent.errors import InvalidRequest, JobletError, LimitReached, NotFound
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.model.files import NewFile, StagedUpload, UploadPart
from tests.fakes.clock import FakeClock
from tests.unit.jobs.rig import until

Case = Callable[[UploadStaging], Awaitable[None]]


def with_staging(home: Path, case: Case, **limits: object) -> None:
    async def main() -> None:
        staging = UploadStaging(home, replace(UploadsConfig(), **limits), FakeClock())  # type: ignore[arg-type]
        await staging.open()
        try:
            await case(staging)
        finally:
            await staging.close()

    asyncio.run(main())


def file(path: str, content: bytes = b"abc", **changes: object) -> UploadPart:
    entry = NewFile(path, size=len(content))
    part = UploadPart(entry, content=content, sha256=hashlib.sha256(content).digest())
    return replace(part, **changes)  # type: ignore[arg-type]


async def stream(
    *parts: UploadPart, then: Callable[[], Awaitable[object]] | None = None
) -> AsyncIterator[UploadPart]:
    for part in parts:
        yield part
    if then is not None:
        await then()


async def refusal(staging: UploadStaging, *parts: UploadPart) -> JobletError:
    with pytest.raises(JobletError) as caught:
        await staging.receive(stream(*parts), "me")
    return caught.value


def test_an_upload_is_taken_once_by_its_owner(tmp_path: Path) -> None:
    async def case(staging: UploadStaging) -> None:
        upload = await staging.receive(
            stream(file("d/a", b"xyz"), UploadPart(NewFile("e", is_directory=True)), file("b", b"")), "me"
        )
        assert (upload.file_count, upload.total_bytes, upload.paths) == (2, 3, ("d/a", "b"))
        assert sorted(await staging.entries(upload.id, "me", act="run it")) == ["b", "d", "d/a", "e"]
        with pytest.raises(NotFound, match="cannot run it"):
            await staging.entries(upload.id, "you", act="run it")
        with pytest.raises(NotFound):
            staging.take(upload.id, "you")
        _, directory = staging.take(upload.id, "me")
        assert (directory / "d" / "a").read_bytes() == b"xyz"
        assert (directory / "e").is_dir()
        with pytest.raises(NotFound):
            staging.take(upload.id, "me")

    with_staging(tmp_path, case)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([file("a", sha256=b"x" * 32)], "WRONG_CHECKSUM"),
        ([file("a", sha256=b"")], "UPLOAD_INCOMPLETE"),
        ([file("a", sha256=b""), file("b")], "UPLOAD_INCOMPLETE"),
        ([file("a"), file("a")], "DUPLICATE_PATH"),
        ([file("a"), file("a/b")], "BAD_PATH"),
        ([file("../a")], "BAD_PATH"),
        ([file("a", offset=1)], "BAD_OFFSET"),
        ([UploadPart(content=b"x")], "BAD_UPLOAD"),
        ([UploadPart(sha256=b"x")], "BAD_UPLOAD"),
        ([file("a", entry=NewFile("a", size=-1))], "UPLOAD_TOO_LARGE"),
        ([file("a", entry=NewFile("a", size=2))], "WRONG_SIZE"),
        ([file("a", entry=NewFile("a", size=4))], "WRONG_SIZE"),
    ],
)
def test_c5_what_is_wrong_leaves_nothing(tmp_path: Path, parts: list[UploadPart], reason: str) -> None:
    async def case(staging: UploadStaging) -> None:
        assert (await refusal(staging, *parts)).reason == reason
        await until(lambda: not list(tmp_path.iterdir()))

    with_staging(tmp_path, case)


def test_c5_a_stalled_stream_and_a_cancelled_one_leave_nothing(tmp_path: Path) -> None:
    async def case(staging: UploadStaging) -> None:
        with pytest.raises(LimitReached) as caught:
            await staging.receive(stream(file("a"), then=asyncio.Event().wait), "me")
        assert caught.value.reason == "UPLOAD_STALLED"
        endless = asyncio.create_task(staging.receive(stream(file("a"), then=asyncio.Event().wait), "me"))
        await until(lambda: bool(list(tmp_path.rglob("a"))))
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)
        await until(lambda: not list(tmp_path.iterdir()))

    with_staging(tmp_path, case, idle_timeout=timedelta(seconds=0.2))


def test_c5_what_nobody_takes_goes_away(tmp_path: Path) -> None:
    async def case(staging: UploadStaging) -> None:
        upload: StagedUpload = await staging.receive(stream(file("a")), "me")
        await until(lambda: not list(tmp_path.iterdir()))
        with pytest.raises(NotFound):
            staging.take(upload.id, "me")

    with_staging(tmp_path, case, keep_for=timedelta(seconds=0.1))


def test_limits_of_a_stream(tmp_path: Path) -> None:
    async def case(staging: UploadStaging) -> None:
        assert (await refusal(staging, file("a", bytes(2000)))).reason == "UPLOAD_TOO_LARGE"
        assert (
            await refusal(staging, file("a", bytes(600)), file("b", bytes(600)))
        ).reason == "UPLOAD_TOO_LARGE"
        assert (await refusal(staging, file("a/b"), file("c"))).reason == "TOO_MANY_FILES"
        endless = asyncio.create_task(staging.receive(stream(then=asyncio.Event().wait), "me"))
        await asyncio.sleep(0)
        assert (await refusal(staging)).reason == "TOO_MANY_UPLOADS"
        endless.cancel()
        await asyncio.gather(endless, return_exceptions=True)

    with_staging(tmp_path, case, max_size=1024, max_entries=2, max_at_once=1)


def test_what_an_earlier_agent_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "left" / "sub").mkdir(parents=True)
    (tmp_path / "left" / "sub" / "a").write_text("x")

    async def case(_staging: UploadStaging) -> None:
        assert not (tmp_path / "left").exists()

    with_staging(tmp_path, case)


def test_a_piece_has_a_limit(tmp_path: Path) -> None:
    async def case(staging: UploadStaging) -> None:
        error = await refusal(staging, file("a", bytes((4 << 20) + 1)))
        assert isinstance(error, InvalidRequest)
        assert error.reason == "BAD_UPLOAD"

    with_staging(tmp_path, case)
