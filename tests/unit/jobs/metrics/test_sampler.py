"""The sampler and the reader together, on a core of fakes and control groups made of files."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from joblet_agent.config.live import set_value
from joblet_agent.errors import InvalidRequest, NotFound, WrongState
from joblet_agent.jobs.metrics import history
from joblet_agent.jobs.metrics.sampler import MetricsSampler
from joblet_agent.model.ids import new_job_id, new_workflow_id
from joblet_agent.model.job import JobId, JobRecord
from joblet_agent.model.metrics import MetricsQuery, Reading, Sample, Usage
from joblet_agent.ports import Accounted
from tests.fakes.unit_manager import ENDED_AT, STARTED_AT
from tests.unit.jobs.metrics.groups import make_group, set_cpu
from tests.unit.jobs.rig import Core, Host, until, with_core

ALL, FOLLOW = MetricsQuery(), MetricsQuery(follow=True)
NONE = Reading.between(Sample(0), Sample(0))


async def sampled(core: Core, *, often: float = 0.01) -> tuple[JobRecord, Path]:
    """Run a job that has a control group, with samples coming fast."""
    set_value(core.config, "metrics.interval", timedelta(seconds=often))
    core.host.units.cgroups = core.host.home / "cgroups"
    record = await core.run("sleep")
    group = core.units.control_group(record.id)
    make_group(group)
    return record, group


async def readings(core: Core, given: str, query: MetricsQuery = ALL) -> list[Reading]:
    _, found = await core.service.metrics(given, query)
    return [reading async for reading in found]


async def some(found: AsyncIterator[Reading], count: int) -> list[Reading]:
    return [await anext(found) for _ in range(count)]


def report_usage(host: Host, job_id: JobId, line: str = "usage cpu_usec=9000000 memory_peak=99\n") -> None:
    with host.paths.job(job_id).launch_report.open("a") as file:
        file.write(line)


def test_samples_are_stored_and_followed_to_the_end(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, group = await sampled(core)
        _, following = await core.service.metrics(record.id[:8], FOLLOW)
        first = (await some(following, 2))[0]
        assert (first.sample.cpu_usec, first.sample.tasks) == (1_500_000, 3)
        report_usage(core.host, record.id)
        shutil.rmtree(group)  # systemd removes it before it tells
        core.host.units.end(record.id, "exited", 0)
        rest = [reading async for reading in following]
        await core.ended(record.id)
        stored = await readings(core, record.id)
        assert stored[0] == first
        assert stored[-len(rest) :] == rest
        final = stored[-1].sample
        assert (final.cpu_usec, final.memory, final.memory_peak) == (9_000_000, 0, 2097152)
        times = [reading.sample.taken_ns for reading in stored]
        assert times == sorted(set(times))

    with_core(tmp_path, case)


def test_a_job_of_a_workflow_is_sampled_in_its_slice(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        other, _ = await sampled(core)
        record = replace(other, workflow_id=new_workflow_id())
        sampler = MetricsSampler(core.units.control_group, core.links, core.config.metrics)
        assert await sampler.now(record) is None
        make_group(core.units.control_group(record.id, record.workflow_id))
        use = await sampler.now(record)
        assert use is not None
        assert use.sample.cpu_usec == 1_500_000
        paths = core.host.paths.job(new_job_id())
        paths.metrics.parent.mkdir()
        sampler.keep(record, paths)
        try:
            await until(lambda: sampler.latest(record.id) is not None)
        finally:
            await sampler.close()

    with_core(tmp_path, case)


def test_rates_are_between_a_sample_and_the_one_before(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, group = await sampled(core)
        await until(lambda: core.sampler.latest(record.id) is not None)
        set_cpu(group, 1_900_000)
        first, second = (await readings(core, record.id, MetricsQuery(limit=1))), None
        path = core.host.paths.job(record.id).metrics
        await until(lambda: (history.last(path) or first[0].sample).cpu_usec == 1_900_000)
        found = await readings(core, record.id)
        second = next(reading for reading in found if reading.sample.cpu_usec == 1_900_000)
        spent = 400_000 / 1e6
        assert second.cpu_percent == pytest.approx(100 * spent / second.seconds)
        started_ns = int(STARTED_AT.timestamp()) * 10**9
        assert found[0].seconds == pytest.approx((found[0].sample.taken_ns - started_ns) / 1e9)

    with_core(tmp_path, case)


def carry(core: Core, job_id: JobId, *, host_received: int, host_sent: int) -> None:
    """Let so much have gone over the host's end of the job's link."""
    counters = core.links.directory / core.links._interface(job_id) / "statistics"
    counters.mkdir(parents=True, exist_ok=True)
    (counters / "rx_bytes").write_text(f"{host_received}\n")
    (counters / "tx_bytes").write_text(f"{host_sent}\n")


@pytest.mark.parametrize("is_killed", [False, True])
def test_what_went_over_the_link_is_counted_to_the_end(tmp_path: Path, is_killed: bool) -> None:
    async def case(core: Core) -> None:
        core.links.directory = tmp_path / "net"
        record, group = await sampled(core)
        carry(core, record.id, host_received=300, host_sent=2000)
        await until(lambda: (core.sampler.latest(record.id) or NONE).sample.sent_bytes == 300)
        use = await core.service.use(record)
        assert use is not None
        assert (use.sample.recv_bytes, use.sample.sent_bytes) == (2000, 300)
        carry(core, record.id, host_received=301, host_sent=2001)
        if not is_killed:
            report_usage(core.host, record.id)
        shutil.rmtree(group)
        core.host.units.end(record.id, "exited", 0)
        usage = (await core.ended(record.id)).usage
        assert usage is not None
        assert (usage.recv_bytes, usage.sent_bytes, usage.is_partial) == (2001, 301, is_killed)
        last = (await readings(core, record.id))[-1].sample
        assert (last.recv_bytes, last.sent_bytes) == (2001, 301)

    with_core(tmp_path, case)


def test_counters_never_go_back(tmp_path: Path) -> None:
    """A link that was repaired is another one."""

    async def case(core: Core) -> None:
        core.links.directory = tmp_path / "net"
        record, _ = await sampled(core)
        carry(core, record.id, host_received=300, host_sent=2000)
        await until(lambda: (core.sampler.latest(record.id) or NONE).sample.sent_bytes == 300)
        carry(core, record.id, host_received=1, host_sent=1)
        before = core.sampler.latest(record.id)
        await until(lambda: core.sampler.latest(record.id) is not before)
        assert {each.sample.sent_bytes for each in await readings(core, record.id)} <= {0, 300}
        core.host.units.end(record.id, "exited", 0)
        await core.ended(record.id)

    with_core(tmp_path, case)


def test_a_range_and_a_limit(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        _, following = await core.service.metrics(record.id, FOLLOW)
        found = await some(following, 4)
        await following.aclose()  # type: ignore[attr-defined]
        times = [reading.sample.taken_ns for reading in found]
        assert await readings(core, record.id, MetricsQuery(limit=2)) == found[:2]
        assert await readings(core, record.id, MetricsQuery(times[1], times[2])) == found[1:3]
        assert await readings(core, record.id, MetricsQuery(times[1] + 1, times[3] - 1)) == found[2:3]
        beyond = MetricsQuery(start_ns=times[0] + 10**18)
        assert await readings(core, record.id, beyond) == []

    with_core(tmp_path, case)


@pytest.mark.parametrize(
    "query", [MetricsQuery(-1), MetricsQuery(0, -1), MetricsQuery(limit=-1), MetricsQuery(5, 4)]
)
def test_a_range_that_is_none_is_refused(tmp_path: Path, query: MetricsQuery) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        with pytest.raises(InvalidRequest) as caught:
            await core.service.metrics(record.id, query)
        assert caught.value.reason == "METRICS_QUERY_INVALID"
        with pytest.raises(NotFound):
            await core.service.metrics("0" * 8, MetricsQuery())

    with_core(tmp_path, case)


def test_a_job_that_ended_before_its_first_sample_has_none(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record = await core.run("exit", "0")
        await core.ended(record.id)
        assert await readings(core, record.id, FOLLOW) == []
        assert not core.host.paths.job(record.id).metrics.exists()

    with_core(tmp_path, case)


def test_running_jobs_with_their_newest_reading(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        other = await core.run("sleep")  # without a control group: it is about to end
        await until(lambda: core.sampler.latest(record.id) is not None)
        found = {job.id: reading for job, reading in await core.service.readings([])}
        assert found.keys() == {record.id, other.id}
        assert (found[record.id] is not None, found[other.id]) == (True, None)
        assert [job.id for job, _ in await core.service.readings([record.id[:12]])] == [record.id]
        core.host.units.end(other.id, "exited", 0)
        await core.ended(other.id)
        assert await core.service.readings([other.id]) == []

    with_core(tmp_path, case)


@pytest.mark.parametrize("enabled", [True, False])
def test_the_use_of_now_is_there_before_any_sample(tmp_path: Path, enabled: bool) -> None:
    async def case(core: Core) -> None:
        set_value(core.config, "metrics.enabled", enabled)
        record, group = await sampled(core, often=3600)
        use = await core.service.use(await core.service.get(record.id))
        assert use is not None
        assert (use.sample.cpu_usec, use.sample.tasks, use.sample.memory_file) == (1_500_000, 3, 300_000)
        shutil.rmtree(group)
        assert await core.service.use(record) is None
        core.host.units.end(record.id, "exited", 0)
        assert await core.service.use(await core.ended(record.id)) is None

    with_core(tmp_path, case)


def test_the_use_of_now_counts_from_the_newest_sample(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, group = await sampled(core)
        await until(lambda: core.sampler.latest(record.id) is not None)
        set_value(core.config, "metrics.interval", timedelta(seconds=3600))
        latest = core.sampler.latest(record.id)
        assert latest is not None
        assert await core.service.use(record) == core.sampler.latest(record.id)  # not a second old
        long_ago = replace(latest.sample, taken_ns=latest.sample.taken_ns - 10 * 10**9)
        core.sampler._jobs[record.id].latest = replace(latest, sample=long_ago)
        set_cpu(group, 1_500_000 + 5_000_000)
        use = await core.service.use(record)
        assert use is not None
        assert use.cpu_percent == pytest.approx(50, rel=0.2)
        core.host.units.end(record.id, "exited", 0)
        await core.ended(record.id)

    with_core(tmp_path, case)


def test_nobody_samples_when_nothing_runs(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        assert core.sampler._task is not None
        core.host.units.end(record.id, "exited", 0)
        await core.ended(record.id)
        await until(lambda: core.sampler._task is None)

    with_core(tmp_path, case)


def test_a_job_that_comes_when_the_last_one_has_just_gone_is_sampled(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        task = core.sampler._task
        assert task is not None
        await core.sampler.conclude(record.id, None, ENDED_AT)
        set_value(core.config, "metrics.interval", timedelta(seconds=3600.0))
        late = asyncio.Event()
        task.add_done_callback(lambda _task: late.set())  # behind the sampler's own
        while not task.done():  # noqa: ASYNC110
            await asyncio.sleep(0)
        core.sampler.keep(record, core.host.paths.job(record.id))
        await late.wait()
        assert core.sampler._task not in {None, task}

    with_core(tmp_path, case)


def test_an_agent_that_comes_later_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)

    async def main() -> None:
        first = Core(host)
        await first.open()
        record, _ = await sampled(first)
        await until(lambda: first.sampler.latest(record.id) is not None)
        await first.close()
        before = history.last(host.paths.job(record.id).metrics)
        assert before is not None
        second = Core(host)
        set_value(second.config, "metrics.interval", timedelta(seconds=0.01))
        await second.open()
        await until(lambda: second.sampler.latest(record.id) is not None)
        stored = await readings(second, record.id)
        assert before in [reading.sample for reading in stored]
        assert stored[-1].sample.taken_ns > before.taken_ns
        await second.close()

    asyncio.run(main())


def test_switched_off_nothing_is_sampled_and_nobody_waits(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        set_value(core.config, "metrics.enabled", False)
        record, _ = await sampled(core)
        assert core.sampler._task is None
        for call in (core.service.metrics(record.id, FOLLOW), core.service.readings([])):
            with pytest.raises(WrongState) as caught:
                await call
            assert caught.value.reason == "METRICS_DISABLED"
        assert await readings(core, record.id) == []

    with_core(tmp_path, case)


def test_what_cannot_be_stored_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        core.host.paths.job(record.id).metrics.mkdir()  # a disk that refuses
        await until(lambda: "cannot sample" in caplog.text)
        core.host.units.end(record.id, "exited", 0)
        ended = await core.ended(record.id)
        assert ended.state == "COMPLETED"

    with_core(tmp_path, case)
    assert caplog.text.count("cannot sample") == 1


# -- final figures -------------------------------------------------------------------------------------


def test_the_final_figures_are_those_of_the_launcher(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record = await core.run("sleep")
        report_usage(core.host, record.id)
        core.host.units.end(record.id, "exited", 3, "exit-code")
        ended = await core.ended(record.id)
        assert ended.usage == Usage(cpu_usec=9_000_000, memory_peak=99)
        assert ended.outcome is not None
        assert (ended.outcome.reason, ended.outcome.exit_code) == ("exit-code", 3)
        (event,) = [text for name, text in core.journal.events if name == "ended"]
        assert event.endswith("(9 s of CPU, memory peak 99 B)")

    host = with_core(tmp_path, case)
    assert not [call for call in host.calls if call.startswith("accounted")]


def test_of_a_killed_job_systemd_and_the_last_sample_know_something(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        await until(lambda: core.sampler.latest(record.id) is not None)
        core.host.units.accounts[record.id] = Accounted(Usage(cpu_usec=1_700_000))
        await core.service.stop(record.id, force=True)
        ended = await core.ended(record.id)
        assert ended.usage == Usage(
            cpu_usec=1_700_000,
            memory_peak=2097152,
            read_bytes=1100,
            write_bytes=220,
            read_ops=11,
            write_ops=2,
            is_partial=True,
        )

    with_core(tmp_path, case)


@pytest.mark.parametrize(("ceiling", "peak"), [(512 << 20, "512 MiB"), (0, "")])
def test_out_of_memory_had_all_that_it_may_have(tmp_path: Path, ceiling: int, peak: str) -> None:
    async def case(core: Core) -> None:
        record = await core.run("sleep")
        core.host.units.accounts[record.id] = Accounted(Usage(cpu_usec=5), memory_max=ceiling)
        core.host.units.end(record.id, "killed", 9, "oom-kill")
        ended = await core.ended(record.id)
        assert ended.usage == Usage(cpu_usec=5, memory_peak=ceiling, is_partial=True)
        assert ended.outcome is not None
        assert ended.outcome.message.endswith(f"peak {peak}" if peak else "out of memory")

    with_core(tmp_path, case)


def test_what_never_ran_has_used_nothing(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record = await core.run("sleep")
        core.host.paths.job(record.id).launch_report.write_text("")
        core.host.units.end(record.id, "exited", 226, "exit-code")
        assert (await core.ended(record.id)).usage is None

    with_core(tmp_path, case)


def test_of_a_job_whose_end_nobody_saw_the_last_sample_tells(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        await until(lambda: core.sampler.latest(record.id) is not None)
        core.host.units.end(record.id, "exited", 0)
        core.host.units.vanish(record.id, remembered=True)
        ended = await core.ended(record.id)
        assert ended.usage is not None
        assert (ended.usage.cpu_usec, ended.usage.is_partial) == (1_500_000, True)

    with_core(tmp_path, case)


def test_deleting_a_job_deletes_its_history(tmp_path: Path) -> None:
    async def case(core: Core) -> None:
        record, _ = await sampled(core)
        await until(lambda: core.sampler.latest(record.id) is not None)
        core.host.units.end(record.id, "exited", 0)
        await core.ended(record.id)
        assert core.host.paths.job(record.id).metrics.exists()
        await core.service.delete(record.id)
        assert not core.host.paths.job(record.id).home.exists()

    with_core(tmp_path, case)
