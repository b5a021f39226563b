import shutil
from pathlib import Path

import pytest

from joblet_agent.jobs.metrics.cgroup import ControlGroup, GroupGone
from joblet_agent.model.metrics import Sample
from tests.unit.jobs.metrics.groups import make_group


def taken(path: Path, now_ns: int = 7) -> Sample:
    group = ControlGroup(path)
    try:
        return group.sample(now_ns)
    finally:
        group.close()


def test_a_group_with_everything(tmp_path: Path) -> None:
    make_group(tmp_path / "g")
    assert taken(tmp_path / "g") == Sample(
        taken_ns=7,
        cpu_usec=1_500_000,
        memory=1048576,
        memory_peak=2097152,
        memory_limit=536870912,
        memory_anon=700_000,
        memory_file=300_000,
        memory_kernel=48_576,
        read_bytes=1100,
        write_bytes=220,
        read_ops=11,
        write_ops=2,
        tasks=3,
        cpu_pressure=1.5,
        memory_pressure=0.0,
        io_pressure=22.07,
    )


def test_without_controllers_there_is_cpu_and_pressure(tmp_path: Path) -> None:
    make_group(tmp_path / "g", without=("memory.", "io.stat", "pids."))
    assert taken(tmp_path / "g") == Sample(
        7, cpu_usec=1_500_000, cpu_pressure=1.5, memory_pressure=0.0, io_pressure=22.07
    )


def test_no_ceiling_and_an_older_kernel(tmp_path: Path) -> None:
    make_group(tmp_path / "g", without=("memory.peak", "cpu.pressure"))
    (tmp_path / "g" / "memory.max").write_text("max\n")
    sample = taken(tmp_path / "g")
    assert (sample.memory_limit, sample.memory_peak, sample.cpu_pressure) == (0, 0, 0.0)


def test_a_group_that_is_gone_says_so(tmp_path: Path) -> None:
    with pytest.raises(GroupGone):
        ControlGroup(tmp_path / "g")
    make_group(tmp_path / "g")
    group = ControlGroup(tmp_path / "g")
    shutil.rmtree(tmp_path / "g")
    with pytest.raises(GroupGone):
        group.sample(1)
    group.close()
