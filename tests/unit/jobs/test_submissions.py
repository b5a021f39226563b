"""C9: a submission that is repeated with its token makes one job."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.config import JobsConfig
from joblet_agent.errors import InvalidRequest, JobletError, LaunchFailed, StoreFailed
from joblet_agent.model.identity import Identity, Role
from joblet_agent.model.job import JobId, JobRecord, JobSpec, JobState, Token
from joblet_agent.model.secrets import Secrets
from tests.unit.jobs.rig import CALLER, Core, Host, until, with_core

TOKEN = Token("nightly 7", "digest")
SECRETS = Secrets({"KEY": "s3cr3t"}, {"key": b"s3cr3t"})


async def run(
    core: Core, command: str = "sleep", token: Token = TOKEN, caller: Identity = CALLER
) -> JobRecord:
    return await core.service.run(JobSpec(command), caller, token=token)


def test_c9_a_repeated_submission_gets_the_same_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core)
        assert (await run(core)).id == first.id
        await core.service.stop(first.id, force=False)
        again = await run(core)
        assert (again.id, again.state) == (first.id, JobState.STOPPED)

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_c9_two_at_the_same_moment_get_one_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        records = await asyncio.gather(*(run(core) for _ in range(20)))
        assert len({record.id for record in records}) == 1
        await core.service.stop(records[0].id, force=False)

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_c9_a_caller_that_goes_away_and_comes_back_finds_its_job(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.units.holds_starts = asyncio.Event()
        first = asyncio.create_task(run(core))
        await until(lambda: len(core.host.records) == 1)
        first.cancel()
        second = asyncio.create_task(run(core))
        await asyncio.sleep(0)
        core.host.units.holds_starts.set()
        record = await second
        await core.service.stop(record.id, force=False)

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_c9_the_token_outlives_the_agent(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        ids: set[JobId] = set()
        for _ in range(2):
            core = Core(host)
            await core.open()
            ids.add((await run(core)).id)
            await core.close()
        assert len(ids) == 1

    asyncio.run(main())
    assert len(host.units.starts) == 1


def test_c9_a_token_with_another_request_is_refused(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core)
        with pytest.raises(InvalidRequest) as caught:
            await run(core, token=replace(TOKEN, digest="other"))
        assert caught.value.reason == "TOKEN_REUSED"
        await core.service.stop(first.id, force=False)
        with pytest.raises(InvalidRequest):
            await run(core, token=replace(TOKEN, digest="other"))

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_c9_a_token_with_another_request_is_refused_while_the_first_is_under_way(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = asyncio.create_task(run(core))
        await asyncio.sleep(0)
        with pytest.raises(InvalidRequest) as caught:
            await run(core, token=replace(TOKEN, digest="other"))
        assert caught.value.reason == "TOKEN_REUSED"
        await core.service.stop((await first).id, force=False)

    with_core(tmp_path, case)


def test_tokens_are_each_callers_own(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core)
        second = await run(core, caller=Identity("another", Role.ADMIN))
        assert first.id != second.id
        for job in (first, second):
            await core.service.stop(job.id, force=False)

    with_core(tmp_path, case)


def test_a_submission_that_made_no_job_can_be_repeated(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        core.host.store.failures_left = 1
        with pytest.raises(StoreFailed):
            await run(core)
        await core.service.stop((await run(core)).id, force=False)

    assert len(with_core(tmp_path, case).units.starts) == 1


def test_a_submission_that_failed_to_start_is_not_tried_again(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(LaunchFailed):
            await run(core, "refused")
        assert (await run(core, "refused")).state is JobState.FAILED

    assert len(with_core(tmp_path, case).records) == 1


def test_a_deleted_job_frees_its_token(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        first = await run(core)
        await core.service.stop(first.id, force=False)
        await core.service.delete(first.id)
        second = await run(core)
        assert first.id != second.id
        await core.service.stop(second.id, force=False)

    with_core(tmp_path, case)


def test_c9_a_waiting_job_is_found_as_well(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        running = await core.run("sleep")
        first = await run(core)
        assert ((await run(core)).id, first.state) == (first.id, JobState.PENDING)
        await core.service.cancel(first.id)
        await core.service.stop(running.id, force=False)

    with_core(tmp_path, case, jobs=JobsConfig(max_concurrent=1))


def test_c9_a_job_that_an_agent_died_before_starting_is_started_by_the_next(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        core = Core(host)
        await core.open()
        host.units.holds_starts = asyncio.Event()
        call = asyncio.create_task(core.service.run(JobSpec("sleep"), CALLER, secrets=SECRETS, token=TOKEN))
        await until(lambda: any(host.paths.credentials.glob("*/key")))
        await core.close()
        await asyncio.gather(call, return_exceptions=True)
        host.units.holds_starts = None
        again = Core(host)
        await again.open()
        record = await again.service.run(JobSpec("sleep"), CALLER, secrets=SECRETS, token=TOKEN)
        await until(lambda: record.id in host.units.units)
        assert host.units.plans[record.id].environment["KEY"] == "s3cr3t"
        await again.service.stop(record.id, force=False)
        await again.close()

    asyncio.run(main())
    assert len(host.units.starts) == 1
    assert list(host.outcomes().values()) == ["STOPPED/stopped"]
    assert list(host.paths.starting_secrets.iterdir()) == []


@pytest.mark.parametrize("text", ["", " a", "a ", "a\n", "\x1b", "x" * 129])
def test_a_token_is_short_and_printable(tmp_path: Path, text: str) -> None:
    async def case(core: Core) -> None:
        with pytest.raises(JobletError) as caught:
            await run(core, token=Token(text, ""))
        assert caught.value.reason == "BAD_TOKEN"

    assert with_core(tmp_path, case).records == []
