"""GPUs of the job core: from the start of a job until its unit is gone they are nobody else's."""

import asyncio
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.model.job import JobRecord, JobSpec, JobState, Reason
from tests.unit.gpu.test_jobs import DRIVER
from tests.unit.jobs.rig import CALLER, Core, Host, with_core


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("joblet_agent.gpu.jobs.find_driver", lambda: DRIVER)


async def run(core: Core, gpus: int) -> JobRecord:
    return await core.service.run(JobSpec("sleep", gpus=gpus), CALLER)


def indices(record: JobRecord) -> tuple[int, ...]:
    return record.gpus.indices if record.gpus else ()


def test_jobs_have_different_ones_and_what_is_refused_leaves_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first, second = await run(core, 1), await run(core, 2)
        assert (indices(first), indices(second), indices(await run(core, 0))) == ((0,), (1, 4), ())
        with pytest.raises(LimitReached) as caught:
            await run(core, 1)
        assert caught.value.reason == "GPUS_BUSY"
        core.host.units.end(first.id, "exited", 0)
        await core.ended(first.id)
        assert indices(await run(core, 1)) == (0,)

    assert len(with_core(tmp_path, case).records) == 4


def test_too_many_are_refused_before_anything_is_there(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await run(core, 4)
        assert caught.value.reason == "TOO_FEW_GPUS"

    assert with_core(tmp_path, case).calls == []


def test_the_next_agent_knows_who_has_which(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host)
        await core.open()
        await run(core, 2)
        await core.close()
        again = Core(host)
        await again.open()
        with pytest.raises(LimitReached):
            await run(again, 2)
        assert indices(await run(again, 1)) == (4,)
        await again.close()

    asyncio.run(main())


def test_a_job_that_waited_fails_if_others_have_them_when_it_starts(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core, 0)
        await run(core, 3)
        waits = await run(core, 1)
        assert (waits.state, indices(waits)) == (JobState.PENDING, ())
        core.host.units.end(first.id, "exited", 0)
        ended = await core.ended(waits.id)
        assert ended.outcome is not None
        assert ended.outcome.reason is Reason.START_FAILED
        assert "of 3 on this host 0 are free" in ended.outcome.message

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=2))
