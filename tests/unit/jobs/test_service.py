"""The job use cases, on fakes."""

import asyncio
import os
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import AmbiguousId, InvalidRequest, LimitReached, NotFound, StoreFailed, WrongState
from joblet_agent.model.job import JobFilter, JobId, JobRecord, JobSpec, JobState, LogQuery, Reason
from tests.contract.job_records import record
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

ONE_AT_A_TIME = JobsConfig(max_concurrent=1)
TWIN_A, TWIN_B = JobId("7f3a0000-0000-4000-8000-00000000000a"), JobId("7f3a0000-0000-4000-8000-00000000000b")


# -- run and queue -----------------------------------------------------------------------------------


def test_run_answers_when_the_command_runs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        assert (await core.run("sleep")).state is JobState.RUNNING

    with_core(tmp_path, case)


def test_run_refuses_what_can_never_run_and_leaves_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await core.service.run(JobSpec("x", network="moon"), CALLER)
        assert caught.value.reason == "UNKNOWN_NETWORK"

    assert with_core(tmp_path, case).calls == []


def test_jobs_beyond_the_limit_wait_in_order_and_start_when_there_is_room(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        second, third = await core.run("sleep"), await core.run("exit", "0")
        assert (second.state, third.state) == (JobState.PENDING, JobState.PENDING)
        assert [core.service.queue_position(job.id) for job in (first, second, third)] == [0, 1, 2]
        core.host.units.end(first.id, "exited", 0)
        await until(lambda: second.id in core.host.units.units)
        assert core.service.queue_position(third.id) == 1
        await core.service.stop(second.id, force=False)
        await core.ended(third.id)

    host = with_core(tmp_path, case, jobs=ONE_AT_A_TIME)
    assert list(host.outcomes().values()) == ["COMPLETED/", "STOPPED/stopped", "COMPLETED/"]


def test_a_full_queue(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        await core.run("sleep")
        with pytest.raises(LimitReached) as caught:
            await core.run("sleep")
        assert caught.value.reason == "QUEUE_FULL"
        assert "jobs.max_waiting" in str(caught.value)

    assert len(with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1, max_waiting=1)).records) == 2


def test_the_queue_survives_the_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> list[JobId]:
        core = Core(host, jobs=ONE_AT_A_TIME)
        await core.open()
        ids = [(await core.run("sleep")).id for _ in range(3)]
        await core.close()
        again = Core(host, jobs=ONE_AT_A_TIME)
        await again.open()
        assert [again.service.queue_position(job_id) for job_id in ids] == [0, 1, 2]
        for job_id in ids:
            await until(lambda wanted=job_id: wanted in host.units.units)  # type: ignore[misc]
            await again.service.stop(job_id, force=False)
            await again.ended(job_id)
        await again.close()
        return ids

    ids = asyncio.run(main())
    assert host.units.starts == ids


def test_the_queue_survives_a_reboot(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host, jobs=ONE_AT_A_TIME)
        await core.open()
        runs, waits = await core.run("sleep"), await core.run("sleep")
        await core.close()
        host.units.reboot()
        again = Core(host, jobs=ONE_AT_A_TIME, boot_id="boot-2")
        await again.open()
        assert (await again.ended(runs.id)).state is JobState.FAILED
        await until(lambda: waits.id in host.units.units)
        await again.close()

    asyncio.run(main())


def test_a_job_from_the_queue_outlasts_a_full_disk(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = await core.run("sleep"), await core.run("exit", "0")
        core.host.units.end(first.id, "exited", 0)
        await until(lambda: core.host.calls[-1] == f"release {first.id}")
        core.host.store.failures_left = 1
        await until(lambda: core.host.store.records[second.id].has_ended)
        assert await core.state(second.id) is JobState.COMPLETED

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_caller_that_goes_away_while_its_job_is_queued_does_not_strand_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await core.run("sleep")
        waiting = asyncio.create_task(core.run("exit", "0"))
        await until(lambda: len(core.host.records) == 2)  # stored, but the store has not answered yet
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        core.host.units.end(first.id, "exited", 0)
        await until(lambda: all(job.has_ended for job in core.host.records))

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_caller_that_goes_away_while_its_job_starts(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        calling = asyncio.create_task(core.run("exit", "0"))
        await until(lambda: bool(core.keeper.kept))
        calling.cancel()
        await asyncio.gather(calling, return_exceptions=True)
        core.host.units.holds_starts.set()
        (job_id,) = core.keeper.kept
        assert (await core.ended(job_id)).state is JobState.COMPLETED

    with_core(tmp_path, case)


# -- stop and cancel -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("force", "number"),
    [(False, 15), (True, 9)],
)
def test_stop_ends_a_running_job(tmp_path: Path, force: bool, number: int) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        stopped = await core.service.stop(job.id, force=force)
        assert stopped.outcome is not None
        assert (stopped.state, stopped.outcome.reason) == (JobState.STOPPED, Reason.STOPPED)
        assert (stopped.outcome.exit_code, stopped.outcome.signal) == (-1, number)
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    (job,) = host.records
    verb = "kill" if force else "stop"
    assert host.calls.index(f"save STOPPING {job.id}") < host.calls.index(f"{verb} {job.id}")
    assert host.units.units == {}


def test_a_second_stop_may_kill(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("stubborn")
        polite = asyncio.create_task(core.service.stop(job.id, force=False))
        await until(lambda: f"stop {job.id}" in core.host.calls)
        assert (await core.service.stop(job.id, force=True)).state is JobState.STOPPED
        assert (await polite).state is JobState.STOPPED

    with_core(tmp_path, case)


def test_stop_of_an_unkillable_job_answers_stopping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case(core: Core) -> None:
        job = await core.run("stubborn")
        assert (await core.service.stop(job.id, force=False)).state is JobState.STOPPING
        core.host.units.end(job.id, "killed", 9, "timeout")
        assert (await core.ended(job.id)).state is JobState.STOPPED

    monkeypatch.setattr("joblet_agent.jobs.service._STOP_ANSWER_MOST", timedelta(0))
    with_core(tmp_path, case)


def test_stop_during_the_launch(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        launch = asyncio.create_task(core.run("sleep"))
        await until(lambda: bool(core.keeper.kept))
        (job_id,) = core.keeper.kept
        stop = asyncio.create_task(core.service.stop(job_id, force=False))
        await until(lambda: f"save STOPPING {job_id}" in core.host.calls)
        core.host.units.holds_starts.set()
        assert (await stop).state is JobState.STOPPED
        await launch
        await core.ended(job_id)

    host = with_core(tmp_path, case)
    assert list(host.outcomes().values()) == ["STOPPED/stopped"]
    assert host.units.units == {}


def test_stop_before_the_start_was_sent(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        first = asyncio.create_task(core.run("sleep"))
        await until(lambda: len(core.keeper.kept) == 1)
        second = asyncio.create_task(core.run("sleep"))
        await until(lambda: len(core.keeper.kept) == 2)
        second_id = list(core.keeper.kept)[1]
        stop = asyncio.create_task(core.service.stop(second_id, force=False))
        await until(lambda: f"save STOPPING {second_id}" in core.host.calls)
        core.host.units.holds_starts.set()
        assert (await stop).state is JobState.STOPPED
        await first
        await second
        assert core.host.units.starts == [next(iter(core.keeper.kept))]

    with_core(tmp_path, case, jobs=JobsConfig(start_parallelism=1))


def test_stop_of_a_waiting_job_cancels_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await core.run("sleep")
        waits = await core.run("sleep")
        canceled = await core.service.stop(waits.id, force=False)
        assert canceled.state is JobState.CANCELED
        assert await core.state(waits.id) is JobState.CANCELED
        assert core.service.queue_position(waits.id) == 0
        assert len(core.host.units.starts) == 1

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_cancel_that_cannot_be_stored_leaves_the_job_waiting(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, waits = await core.run("sleep"), await core.run("exit", "0")
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await core.service.cancel(waits.id)
        core.host.units.end(first.id, "exited", 0)
        await until(lambda: core.host.store.records[waits.id].has_ended)

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_full_disk_does_not_keep_a_job_from_being_stopped(tmp_path: Path) -> None:
    """The job may be what fills it."""

    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await until(lambda: core.host.store.records[job.id].state is JobState.RUNNING)
        core.host.store.failures_left = 1
        assert (await core.service.stop(job.id, force=False)).state is JobState.STOPPED
        await core.ended(job.id)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["STOPPED/stopped"]


def test_a_caller_that_goes_away_during_a_stop_does_not_undo_it(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        stop = asyncio.create_task(core.service.stop(job.id, force=False))
        await until(lambda: f"save STOPPING {job.id}" in core.host.calls)
        stop.cancel()
        await asyncio.gather(stop, return_exceptions=True)
        assert (await core.ended(job.id)).state is JobState.STOPPED

    with_core(tmp_path, case)


@pytest.mark.parametrize("verb", ["stop", "cancel"])
def test_an_ended_job_cannot_be_stopped(tmp_path: Path, verb: str) -> None:
    async def case(core: Core) -> None:
        job = await core.run("exit", "3")
        await core.ended(job.id)
        with pytest.raises(WrongState) as caught:
            await (core.service.stop(job.id, force=False) if verb == "stop" else core.service.cancel(job.id))
        assert caught.value.reason == ("JOB_ENDED" if verb == "stop" else "JOB_NOT_WAITING")
        assert str(caught.value).startswith(f"cannot {verb} job {job.id[:8]}: ")

    with_core(tmp_path, case)


def test_cancel_is_for_waiting_jobs_only(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        runs, waits = await core.run("sleep"), await core.run("sleep")
        with pytest.raises(WrongState) as caught:
            await core.service.cancel(runs.id)
        assert caught.value.reason == "JOB_NOT_WAITING"
        assert (await core.service.cancel(waits.id)).state is JobState.CANCELED

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_a_stop_while_the_unit_is_released_changes_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_releases = asyncio.Event()
        job = await core.run("sleep")
        core.host.units.end(job.id, "exited", 0)
        await until(lambda: core.host.store.records[job.id].has_ended)
        with pytest.raises(WrongState) as caught:
            await core.service.stop(job.id, force=False)
        assert caught.value.reason == "JOB_ENDED"
        core.host.units.holds_releases.set()
        await core.ended(job.id)

    assert list(with_core(tmp_path, case).outcomes().values()) == ["COMPLETED/"]


# -- delete and list -----------------------------------------------------------------------------------


def test_a_job_can_be_deleted_as_soon_as_its_stop_has_answered(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await core.service.stop(job.id, force=False)
        assert await core.service.delete(job.id) == job.id
        assert not core.host.paths.job(job.id).home.exists()

    host = with_core(tmp_path, case)
    assert (host.records, host.units.units) == ([], {})


def test_what_has_not_ended_cannot_be_deleted(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for job in (await core.run("sleep"), await core.run("sleep")):
            with pytest.raises(WrongState) as caught:
                await core.service.delete(job.id)
            assert caught.value.reason == "JOB_NOT_ENDED"

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_delete_ended_counts_what_it_leaves(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        for _ in range(2):
            await core.ended((await core.run("exit", "0")).id)
        runs, waits = await core.run("sleep"), await core.run("sleep")
        assert await core.service.delete_ended() == (2, 2)
        assert {job.id for job in core.host.records} == {runs.id, waits.id}

    with_core(tmp_path, case, jobs=ONE_AT_A_TIME)


def test_delete_ended_takes_a_job_as_soon_as_its_stop_has_answered(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        await core.service.stop(job.id, force=False)
        assert await core.service.delete_ended() == (1, 0)

    host = with_core(tmp_path, case)
    assert (host.records, host.units.units) == ([], {})


def test_a_page_shows_what_is_true_now(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        page = await core.service.page(JobFilter(), size=10, token="")
        assert [(found.id, found.state) for found in page.jobs] == [(job.id, JobState.RUNNING)]

    with_core(tmp_path, case)


def test_logs_of_a_job_end_with_the_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        chunks = await core.service.logs(job.id, LogQuery())
        core.host.paths.job(job.id).log.write_bytes(b"output")
        core.host.units.end(job.id, "exited", 0)
        assert b"".join([chunk.payload async for chunk in chunks]) == b"output"
        again = await core.service.logs(job.id, LogQuery())
        assert b"".join([chunk.payload async for chunk in again]) == b"output"

    with_core(tmp_path, case)


# -- ids -----------------------------------------------------------------------------------------------


def _with_twins(tmp_path: Path, given: str) -> JobRecord:
    found: list[JobRecord] = []

    async def case(core: Core) -> None:
        for number, job_id in enumerate((TWIN_A, TWIN_B)):
            made = record(number, JobState.COMPLETED)
            await core.host.store.save(JobRecord(job_id, made.spec, made.state, made.created_at))
        found.append(await core.service.get(given))

    with_core(tmp_path, case)
    return found[0]


@pytest.mark.parametrize("given", [TWIN_A, TWIN_A.upper(), f" {TWIN_A}\n"])
def test_ids_are_found_as_people_paste_them(tmp_path: Path, given: str) -> None:
    assert _with_twins(tmp_path, given).id == TWIN_A


def test_a_prefix_of_two_jobs_is_refused(tmp_path: Path) -> None:  # A6
    with pytest.raises(AmbiguousId) as caught:
        _with_twins(tmp_path, "7f3a")
    assert caught.value.reason == "JOB_ID_AMBIGUOUS"


def test_an_unknown_id(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        _with_twins(tmp_path, "8")
    assert caught.value.reason == "JOB_NOT_FOUND"


@pytest.mark.parametrize(
    "given", ["", "../x", "%", "_", "7f3a*", "7f3a\0", "7f3a' OR '1", "x" * 5000, "é", TWIN_A + "0"]
)
def test_what_is_no_id_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        _with_twins(tmp_path, given)
    assert caught.value.reason == "INVALID_JOB_ID"
    assert len(str(caught.value)) < 100


def test_explain_and_unit_name(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        unit = f"joblet-job-{job.id}.service"
        assert core.service.unit_name(job.id) == unit
        assert (await core.service.explain(job.id)).unit == unit

    with_core(tmp_path, case)


def test_work_directories_are_the_jobs_own(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        work = core.host.paths.job(job.id).work.stat()
        if os.getuid() == 0:
            assert (work.st_uid, work.st_gid) == (job.uid, job.uid)

    with_core(tmp_path, case)
