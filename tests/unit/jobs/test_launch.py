"""Starts that are refused, get lost or find no room, on fakes."""

from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import HostUnavailable, LaunchFailed, LimitReached, StoreFailed
from joblet_agent.model.job import JobState
from tests.unit.jobs.rig import Core, until, with_core

BUS_IS_GONE = HostUnavailable("cannot ask systemd: the bus is gone", reason="SYSTEMD_UNAVAILABLE")


def test_a_unit_that_systemd_refuses_is_a_failed_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(LaunchFailed) as caught:
            await core.run("refused")
        assert caught.value.reason == "SYSTEMD_REFUSED"
        assert not list(core.registry)

    host = with_core(tmp_path, case)
    (job,) = host.records
    assert host.outcomes() == {job.id: "FAILED/start-failed"}
    assert job.outcome is not None
    assert job.outcome.message == "systemd refused StartTransientUnit: no"


def test_a_start_without_an_answer_is_asked_for_again_and_found_running(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(HostUnavailable):
            await core.run("unanswered")
        (job,) = core.registry
        await until(lambda: job.record.state is JobState.RUNNING)
        assert core.host.units.starts == [job.record.id]
        await core.service.stop(job.record.id, force=False)
        assert (await core.ended(job.record.id)).state is JobState.STOPPED

    with_core(tmp_path, case)


def test_a_start_that_got_lost_fails(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(HostUnavailable):
            await core.run("lost")
        await until(lambda: not list(core.registry))

    assert list(with_core(tmp_path, case).outcomes().values()) == ["FAILED/start-failed"]


def test_a_store_that_refuses_the_first_record_leaves_no_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await core.run("sleep")
        assert not list(core.registry)
        assert core.free_uids() == 3

    host = with_core(tmp_path, case, jobs=JobsConfig(uid_count=3))
    assert (host.records, host.calls) == ([], [])


def test_no_uid_left(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        with pytest.raises(LimitReached) as caught:
            await core.run("sleep")
        assert caught.value.reason == "NO_FREE_UID"
        assert "jobs.uid_count" in str(caught.value)

    assert len(with_core(tmp_path, case, jobs=JobsConfig(uid_count=1)).records) == 1


def test_files_that_cannot_be_made_are_a_failed_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.paths.jobs.rmdir()
        with pytest.raises(HostUnavailable) as caught:
            await core.run("sleep")
        assert caught.value.reason == "CANNOT_PREPARE_FILES"
        assert not list(core.registry)

    host = with_core(tmp_path, case)
    assert list(host.outcomes().values()) == ["FAILED/start-failed"]
    assert host.units.starts == []
