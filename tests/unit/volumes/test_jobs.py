"""The volumes of jobs, on fakes."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.config import VolumesConfig
from joblet_agent.errors import HostUnavailable, JobletError, NotFound, NotOffered, NotPermitted, WrongState
from joblet_agent.model.job import JobId, JobRecord, JobState, new_job_id
from joblet_agent.model.profile import Profile
from joblet_agent.model.volume import HeldVolume, VolumeMount
from joblet_agent.volumes import images
from tests.unit.jobs.rig import CALLER, Core, Host
from tests.unit.volumes.rig import FIRST, homes, refused, run, spec


def test_b9_volumes_that_are_switched_off_are_off_for_jobs_that_waited(host: Host) -> None:
    async def before(core: Core) -> None:
        await core.volumes.create("a", "1MB", "memory")

    run(host, before)

    async def case(core: Core) -> None:
        await refused(core.volumes.create("b", "1MB", "memory"), NotOffered, "VOLUMES_DISABLED")
        record = JobRecord(
            id=new_job_id(), spec=spec("a"), state=JobState.PENDING, created_at=host.clock.now()
        )
        await refused(core.job_volumes.hold(record), NotOffered, "VOLUMES_DISABLED")
        with pytest.raises(NotOffered):
            core.job_volumes.check(record.spec.volumes, Profile.DEFAULT)

    run(host, case, config=VolumesConfig(enabled=False))


def test_jobs_use_volumes_and_removals_wait_for_them(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "memory")
        await core.volumes.create("b", "1MB", "memory")
        job = await core.service.run(spec("a", "b:/data:ro"), CALLER)
        assert job.volumes == (HeldVolume("a", FIRST), HeldVolume("b", FIRST + 1))
        plan = host.units.plans[job.id]
        assert plan.groups == (FIRST + 1,)
        assert job.uid == FIRST  # that of the first volume that it writes to
        view = await core.volumes.get("a")
        assert [each.id for each in view.jobs] == [job.id]
        text = await refused(core.volumes.remove("a"), WrongState, "VOLUME_IN_USE")
        assert job.id[:8] in text
        other = await core.service.run(spec("a"), CALLER)
        assert (other.uid != FIRST, host.units.plans[other.id].groups) == (True, (FIRST,))
        await core.service.stop(job.id, force=True)
        await core.service.stop(other.id, force=True)
        await core.ended(job.id)
        await core.ended(other.id)
        await core.volumes.remove("a")
        again = await core.service.run(spec("b"), CALLER)
        assert again.uid == FIRST + 1

    run(host, case)


def test_the_next_job_waits_for_the_user_of_one_that_has_just_ended(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a program that is started again could not read what it has closed to all others."""

    async def case(core: Core) -> None:
        released = asyncio.Event()
        release = host.units.release

        async def late(job_id: JobId) -> None:
            await released.wait()
            await release(job_id)

        await core.volumes.create("a", "1MB", "memory")
        job = await core.service.run(spec("a"), CALLER)
        monkeypatch.setattr(host.units, "release", late)
        end = core.registry.end_of(job.id)
        await core.service.stop(job.id, force=True)
        await end.wait()
        next_one = asyncio.create_task(core.service.run(spec("a"), CALLER))
        await asyncio.sleep(0)
        released.set()
        assert (await next_one).uid == job.uid == FIRST

    run(host, case)


def test_an_unknown_volume_is_an_error_at_once_and_at_a_later_start(host: Host) -> None:
    async def case(core: Core) -> None:
        await refused(core.service.run(spec("none"), CALLER), NotFound, "VOLUME_NOT_FOUND")
        assert host.records == []
        await core.volumes.create("a", "1MB", "memory")
        job = await core.service.run(replace(spec("a"), schedule="2027-01-01T00:00:00Z"), CALLER)
        await core.volumes.remove("a")  # a job that waits does not count
        record = replace(job, state=JobState.PENDING)
        with pytest.raises(NotFound):
            await core.launcher.launch(record)
        ended = await core.ended(job.id)
        assert ended.state is JobState.FAILED
        assert ended.outcome is not None
        assert "there is no volume 'a'" in ended.outcome.message

    run(host, case)


def test_ten_jobs_start_while_the_volume_is_removed(host: Host) -> None:
    async def case(core: Core) -> None:
        for _ in range(20):
            await core.volumes.create("a", "1MB", "memory")
            starts = [core.service.run(spec("a"), CALLER) for _ in range(5)]
            later = [core.service.run(spec("a"), CALLER) for _ in range(5)]
            ends = await asyncio.gather(*starts, core.volumes.remove("a"), *later, return_exceptions=True)
            removal, jobs = ends[5], [*ends[:5], *ends[6:]]
            started = [each for each in jobs if isinstance(each, JobRecord)]
            if removal is None:
                assert not started
            else:
                assert isinstance(removal, WrongState)
                assert started
            assert {each.reason for each in jobs if isinstance(each, JobletError)} <= {
                "VOLUME_NOT_FOUND",
                "VOLUME_NOT_READY",
            }
            for record in started:
                await core.service.stop(record.id, force=True)
                await core.ended(record.id)
            if removal is not None:
                await core.volumes.remove("a")
            assert (homes(host), host.volumes.volumes) == ([], {})

    run(host, case)


def test_two_running_jobs_never_have_one_user(host: Host) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("a", "1MB", "memory")
        jobs = await asyncio.gather(*(core.service.run(spec("a"), CALLER) for _ in range(20)))
        assert len({job.uid for job in jobs}) == 20

    run(host, case)


def test_a_privileged_job_writes_to_no_quota_volume(host: Host) -> None:
    host.quotas.enforced = True

    async def case(core: Core) -> None:
        await core.volumes.create("q", "1MB", "")
        await core.volumes.create("m", "1MB", "memory")
        mount = VolumeMount("q", "/data")
        with pytest.raises(NotPermitted, match="does not bind a privileged job"):
            core.job_volumes.check([mount], Profile.PRIVILEGED)
        core.job_volumes.check(
            [replace(mount, is_read_only=True), VolumeMount("m", "/srv")], Profile.PRIVILEGED
        )
        core.job_volumes.check([mount], Profile.STRICT)

    run(host, case)


def test_what_was_unmounted_under_running_jobs_is_theirs_still(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(core: Core) -> None:
        await core.volumes.create("image", "1MB", "")
        await core.volumes.create("memory", "1MB", "memory")
        job = await core.service.run(spec("image", "memory"), CALLER)
        host.volume_units.mounted.clear()
        monkeypatch.setattr(images, "attached_to", lambda _image: Path("/dev/loop3"))
        # Never checked or mounted a second time from the file: that would be two file systems on one image.
        calls = len(host.volume_units.calls)
        other = await core.service.run(spec("image"), CALLER)
        assert host.volume_units.calls[calls:] == ["mount image"]
        plan = host.volume_units.mounted[host.paths.volume("image").mount]
        assert (plan.what, "loop" in plan.options) == ("/dev/loop3", False)
        await refused(core.service.run(spec("memory"), CALLER), WrongState, "VOLUME_BUSY")
        for record in (job, other):
            await core.service.stop(record.id, force=True)
            await core.ended(record.id)
        await core.service.run(spec("memory"), CALLER)
        # Another mount namespace keeps the image: nothing is copied or removed under it.
        monkeypatch.setattr("joblet_agent.volumes.mounts._DETACHED_WITHIN", 0.0)
        await refused(core.volumes.remove("image"), HostUnavailable, "VOLUME_BUSY")
        await refused(core.volume_snapshots.make("image", ""), HostUnavailable, "VOLUME_BUSY")
        assert host.paths.volume("image").mount in host.volume_units.mounted
        monkeypatch.setattr(images, "attached_to", lambda _image: None)
        await core.volumes.remove("image")

    run(host, case)
