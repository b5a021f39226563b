"""What is kept of ended jobs, and for how long."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from joblet_agent.config import RetentionConfig
from joblet_agent.errors import WrongState
from joblet_agent.jobs import files
from joblet_agent.jobs.retention import KeptWork
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import JobId, JobRecord, JobSpec
from tests.unit.jobs.rig import CALLER, Core, until, with_core

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_the_job_that_ended_first_goes_first() -> None:
    kept = KeptWork()
    for name, hour, size in (("b", 2, 20), ("a", 1, 10), ("c", 3, 30)):
        kept.add(JobId(name), NOW + timedelta(hours=hour), size)
    kept.add(JobId("a"), NOW + timedelta(hours=1), 15)
    assert (kept.total_bytes, kept.size(JobId("a"))) == (65, 15)
    kept.drop(JobId("a"))
    kept.drop(JobId("a"))
    assert (kept.total_bytes, kept.first()) == (50, (JobId("b"), NOW + timedelta(hours=2)))
    kept.drop(JobId("b"))
    kept.drop(JobId("c"))
    assert (kept.total_bytes, kept.first()) == (0, None)


async def _ended_with_files(core: Core, *names: str) -> list[JobRecord]:
    jobs = []
    for name in names:
        uploads = Uploads(files=(NewFile(name, content=b"x" * 5000),))
        record = await core.service.run(JobSpec("exit", ("0",)), CALLER, uploads)
        jobs.append(await core.ended(record.id))
    return jobs


def test_files_stay_and_an_empty_directory_does_not(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        (job,) = await _ended_with_files(core, "a")
        paths = core.host.paths.job(job.id)
        await until(lambda: core.retention.work_bytes(job.id) > 0)
        assert (core.service.has_files(job), (paths.work / "a").read_bytes()) == (True, b"x" * 5000)
        assert job.spec.uploads == ("a",)
        empty = await core.ended((await core.run("exit", "0")).id)
        assert not core.host.paths.job(empty.id).work.exists()
        await core.service.delete(job.id)
        assert not paths.home.exists()
        assert core.retention.work_bytes(job.id) == 0

    with_core(tmp_path, case)


def test_old_files_go_and_records_stay(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        jobs = await _ended_with_files(core, "a", "b", "c")
        await until(lambda: [core.service.has_files(job) for job in jobs].count(True) == 1)
        assert len(core.host.records) == 3

    with_core(tmp_path, case, retention=RetentionConfig(work_size=10_000))


def test_nothing_is_kept_when_it_is_switched_off(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        (job,) = await _ended_with_files(core, "a")
        assert not core.service.has_files(job)

    with_core(tmp_path, case, retention=RetentionConfig(keep_work=False))


def test_records_go_while_the_agent_runs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for _ in range(3):
            await core.run("exit", "0")
        await until(lambda: len(core.host.records) == 2 and all(job.has_ended for job in core.host.records))
        await until(lambda: len(list(core.host.paths.jobs.iterdir())) == 2)

    with_core(tmp_path, case, retention=RetentionConfig(keep_ended=2))


def test_a4_a_job_whose_files_stay_stays_until_they_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(core: Core) -> None:
        (job,) = await _ended_with_files(core, "a")
        with monkeypatch.context() as refusing:
            refusing.setattr(files, "remove_all", lambda _paths: ["a\n: Device or resource busy", "b: busy"])
            with pytest.raises(WrongState) as caught:
                await core.service.delete(job.id)
        assert caught.value.reason == "FILES_NOT_REMOVED"
        assert str(caught.value) == (
            f"cannot delete job {job.id[:8]}: 2 of its files cannot be removed, "
            r"first: 'a\n: Device or resource busy'"
        )
        assert (await core.service.get(job.id)).has_ended
        await core.service.delete(job.id)
        assert core.host.records == []

    with_core(tmp_path, case)
