"""What comes along with a recurring schedule, on fakes: each job gets a copy of its own."""

import asyncio
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, StoreFailed
from joblet_agent.jobs.staging import UploadStaging
from joblet_agent.jobs.tree import copy_tree
from joblet_agent.model.files import NewFile, UploadPart, Uploads
from joblet_agent.model.job import JobId, JobSpec, Token
from joblet_agent.model.schedule import Schedule
from joblet_agent.model.secrets import Secrets
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

MINUTE = timedelta(minutes=1)
SPEC = JobSpec("sleep", schedule="every 60")
UPLOADS = Uploads(
    files=(
        NewFile("in", is_directory=True, mode=0o500),
        NewFile("in/data", content=b"kept", mode=0o640),
        NewFile("empty", is_directory=True),
    )
)
SECRETS = Secrets({"KEY": "s3cr3t"}, {"key": b"s3cr3t"})
TOKEN = Token("nightly 7", "digest")


async def create(core: Core, uploads: Uploads = UPLOADS, token: Token | None = None) -> Schedule:
    return await core.schedules.create(SPEC, CALLER, uploads, secrets=SECRETS, token=token)


async def next_job(core: Core, schedule: Schedule) -> JobId:
    """Let time pass to the next start; return its job once its command runs."""
    started = core.schedules.get(schedule.id).started
    core.host.timers.advance(MINUTE)
    await until(lambda: core.schedules.get(schedule.id).started > started)
    job_id = core.schedules.get(schedule.id).last_job
    assert job_id is not None
    await until(lambda: job_id in core.host.units.units)
    return job_id


async def end(core: Core, job_id: JobId) -> None:
    await core.service.stop(job_id, force=False)
    await core.ended(job_id)


def on_disk(host: Host) -> list[str]:
    """Return what there is of schedules, and of jobs' secrets."""
    places = (host.paths.schedules, host.paths.waiting_secrets, host.paths.starting_secrets)
    return [str(found) for place in places for found in place.rglob("*")]


def test_each_job_has_files_and_secrets_of_its_own(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        own = core.host.paths.schedule(schedule.id)
        assert stat.S_IMODE(own.home.stat().st_mode) == 0o700
        assert stat.S_IMODE(own.secrets.stat().st_mode) == 0o600
        assert schedule.spec.uploads == ("in/data",)
        assert (schedule.spec.secret_environment, schedule.spec.secret_files) == (("KEY",), ("key",))
        assert "s3cr3t" not in repr(schedule)
        for _ in range(2):
            job_id = await next_job(core, schedule)
            work = core.host.paths.job(job_id).work
            assert (work / "in/data").read_bytes() == b"kept"
            assert stat.S_IMODE((work / "in/data").stat().st_mode) == 0o640
            assert stat.S_IMODE((work / "in").stat().st_mode) == 0o500
            assert (work / "empty").is_dir()
            (work / "in/data").write_bytes(b"changed by the job")
            assert core.host.units.plans[job_id].environment["KEY"] == "s3cr3t"
            assert (core.host.paths.job(job_id).credentials / "key").read_bytes() == b"s3cr3t"
            assert (await core.service.get(job_id)).spec.uploads == ("in/data",)
            await end(core, job_id)
            assert list(core.host.paths.waiting_secrets.iterdir()) == []
        await core.schedules.remove(schedule.id)

    assert on_disk(with_core(tmp_path, case)) == []


def test_a_streamed_upload_is_taken_by_the_schedule(tmp_path: Path) -> None:
    async def sent(staging: UploadStaging) -> str:
        async def parts() -> AsyncIterator[UploadPart]:
            yield UploadPart(NewFile("dir", is_directory=True))

        return (await staging.receive(parts(), CALLER.name)).id

    async def case(core: Core) -> None:
        schedule = await create(core, Uploads(staged_id=await sent(core.staging)))
        assert list(core.host.paths.uploads.iterdir()) == []
        job_id = await next_job(core, schedule)
        assert (core.host.paths.job(job_id).work / "dir").is_dir()
        await end(core, job_id)

    with_core(tmp_path, case)


def test_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest):
            await core.schedules.create(replace(SPEC, schedule="bad"), CALLER, UPLOADS, secrets=SECRETS)
        core.host.store.failure = StoreFailed("disk is full", reason="STORE_FULL")
        with pytest.raises(StoreFailed):
            await create(core)
        core.host.store.failure = None
        assert core.schedules.all() == []

    assert on_disk(with_core(tmp_path, case)) == []


@pytest.mark.parametrize("gone", ["work", "secrets"])
def test_a_start_whose_belongings_cannot_be_given_is_left_out_and_says_why(tmp_path: Path, gone: str) -> None:
    async def case(core: Core) -> None:
        schedule = await create(core)
        own = core.host.paths.schedule(schedule.id)
        getattr(own, gone).rename(own.home / "aside")
        core.host.timers.advance(MINUTE)
        await until(lambda: core.schedules.get(schedule.id).skipped == 1)
        seen = core.schedules.get(schedule.id)
        assert (seen.started, core.host.records) == (0, [])
        assert "cannot be stored" in seen.skipped_reason
        assert list(core.host.paths.jobs.iterdir()) == []
        (own.home / "aside").rename(getattr(own, gone))
        await end(core, await next_job(core, schedule))

    with_core(tmp_path, case)


def test_r3_the_next_agent_removes_what_belongs_to_no_schedule(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def two_lives() -> None:
        first = Core(host)
        await first.open()
        kept = await create(first)
        orphan = host.paths.schedules / "orphan"
        (orphan / "work/deep").mkdir(parents=True)
        await first.close()
        second = Core(host)
        await second.open()
        await until(lambda: not orphan.exists())
        await end(second, await next_job(second, kept))
        await second.close()

    asyncio.run(two_lives())


def test_c9_a_repeated_submission_gets_the_same_schedule(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await create(core, token=TOKEN)
        again = await asyncio.gather(*(create(core, token=TOKEN) for _ in range(5)))
        assert {each.id for each in again} == {first.id}
        job_id = await next_job(core, first)
        assert (await core.service.get(job_id)).token is None
        assert (await create(core, token=TOKEN)).started == 1
        with pytest.raises(InvalidRequest) as caught:
            await core.service.run(JobSpec("sleep"), CALLER, token=replace(TOKEN, digest="other"))
        assert caught.value.reason == "TOKEN_REUSED"
        await end(core, job_id)
        await core.schedules.remove(first.id)
        assert (await create(core, token=TOKEN)).id != first.id

    with_core(tmp_path, case)


def test_a_copy_ends_when_nobody_wants_it(tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/file").write_bytes(b"content")
    with pytest.raises(InterruptedError):
        copy_tree(tmp_path / "from", tmp_path / "to", lambda: True)
