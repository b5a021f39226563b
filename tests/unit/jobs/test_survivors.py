"""B6: what cannot be killed is told."""

from dataclasses import replace
from pathlib import Path

import pytest

from joblet_agent.jobs.survivors import survivors, with_survivors
from joblet_agent.model.job import JobState, Outcome, Reason
from tests.unit.jobs.rig import Core, with_core

STOPPED = "cannot be killed and end when the kernel lets them: process "


@pytest.mark.parametrize(
    ("message", "pids", "told"),
    [
        ("", [], ""),
        ("out of memory", [], "out of memory"),
        ("", [7], f"{STOPPED}7"),
        ("timed out", [7, 11], f"timed out; {STOPPED}7, 11"),
        ("", list(range(1, 9)), f"{STOPPED}1, 2, 3, 4, 5, …"),
    ],
)
def test_b6_survivors_are_named(message: str, pids: list[int], told: str) -> None:
    outcome = with_survivors(Outcome(JobState.FAILED, Reason.TIMEOUT, message=message), pids)
    assert (outcome.state, outcome.reason, outcome.message) == (JobState.FAILED, Reason.TIMEOUT, told)


def test_b6_a_group_that_is_gone_has_none(tmp_path: Path) -> None:
    assert survivors(tmp_path / "gone") == []
    (tmp_path / "cgroup.procs").write_text("11\n7\n")
    assert survivors(tmp_path) == [7, 11]


@pytest.mark.parametrize("workflow_id", ["", "7f3a0000-0000-4000-8000-00000000000b"])
def test_b6_the_record_tells_what_has_survived(tmp_path: Path, workflow_id: str) -> None:
    async def case(core: Core) -> None:
        job = await core.run("sleep")
        active = core.registry.get(job.id)
        assert active is not None
        active.record = replace(active.record, workflow_id=workflow_id)
        group = core.units.control_group(job.id, workflow_id)
        group.mkdir(parents=True)
        (group / "cgroup.procs").write_text("4711\n")
        await core.service.stop(job.id, force=True)
        outcome = (await core.ended(job.id)).outcome
        assert outcome is not None
        assert (outcome.state, outcome.message) == (JobState.STOPPED, f"{STOPPED}4711")

    with_core(tmp_path, case)
