"""The size of a job's workspace from its submission to its end, on a file system with project quotas."""

from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.errors import InvalidRequest, LimitReached
from joblet_agent.model.files import NewFile, Uploads
from joblet_agent.model.job import JobSpec
from joblet_agent.model.resources import NOTHING
from tests.unit.jobs.rig import CALLER, Core, Host, with_core

GIB = 1 << 30
KIB = 1 << 10


def sized(size: int) -> JobSpec:
    return JobSpec("sleep", resources=replace(NOTHING, work_size=size))


def files(*sizes: int) -> Uploads:
    return Uploads(
        files=tuple(NewFile(f"f{n}", size=size, content=bytes(size)) for n, size in enumerate(sizes))
    )


async def with_quotas(core: Core) -> None:
    core.host.quotas.enforced = True
    core.quotas.are_enforced = True


def test_a_limit_is_there_as_long_as_the_job_and_nothing_of_it_after_that(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await with_quotas(core)
        record = await core.run("sleep")
        assert (record.spec.resources.work_size, record.spec.work_in_memory) == (20 * GIB, False)
        assert list(core.host.quotas.limits.values()) == [(20 * GIB, 20 * GIB // (16 * KIB))]
        await core.service.stop(record.id, force=True)
        await core.ended(record.id)

    assert with_core(tmp_path, case).quotas.limits == {}


def test_a_workspace_that_cannot_be_limited_is_memory_if_a_size_was_asked_for(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        plain = await core.run("sleep")
        assert (plain.spec.resources.work_size, plain.spec.work_in_memory) == (0, False)
        asked = await core.service.run(sized(64 * KIB), CALLER)
        assert (asked.spec.resources.work_size, asked.spec.work_in_memory) == (64 * KIB, True)
        with pytest.raises(InvalidRequest) as caught:
            await core.service.run(sized(64 * KIB), CALLER, files(1))
        assert caught.value.reason == "UPLOADS_INTO_MEMORY"

    assert with_core(tmp_path, case).quotas.limits == {}


@pytest.mark.parametrize("sizes", [(40 * KIB, 40 * KIB), (1,) * 17, (0,) * 1025])
def test_c5_files_that_do_not_fit_are_refused_before_anything_is_made(
    tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    async def case(core: Core) -> None:
        await with_quotas(core)
        with pytest.raises(LimitReached, match="its work size is 64KiB: ") as caught:
            await core.service.run(sized(64 * KIB), CALLER, files(*sizes))
        assert caught.value.reason == "UPLOADS_OVER_WORK_SIZE"
        job = await core.service.run(sized(64 * KIB), CALLER, files(20 * KIB, 40 * KIB))
        (project,) = core.host.quotas.limits
        assert core.host.quotas.usage(project).files == 3
        await core.service.stop(job.id, force=True)
        await core.ended(job.id)

    host = with_core(tmp_path, case)
    assert len(host.records) == 1


def test_a_start_without_the_promised_limit_fails(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await with_quotas(core)
        core.host.quotas.enforced = False
        with pytest.raises(Exception, match="no longer has the project quotas"):
            await core.run("sleep")

    assert outcomes(with_core(tmp_path, case)) == ["FAILED/start-failed"]


def outcomes(host: Host) -> list[str]:
    return list(host.outcomes().values())


def test_who_ends_with_a_full_workspace_is_told(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        await with_quotas(core)
        for uploads, message in (
            (files(60 * KIB), "exited with status 1; its /work was full, limit 64 KiB"),
            (files(4 * KIB), "exited with status 1"),
        ):
            job = await core.service.run(sized(64 * KIB), CALLER, uploads)
            core.host.units.end(job.id, "exited", 1, "exit-code")
            outcome = (await core.ended(job.id)).outcome
            assert outcome is not None
            assert outcome.message == message

    with_core(tmp_path, case)
