"""Which project a work directory gets, and when a limit comes and goes; tests/vm has real ones."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from joblet_agent.jobs.work_quotas import WorkQuotas
from tests.fakes.project_quotas import FakeProjectQuotas

FIRST, COUNT = 7000, 20
MIB = 1 << 20
FOR_A_MIB = (MIB, 1024)


def directory(home: Path, name: str, *files: str) -> Path:
    path = home / name
    path.mkdir()
    for file in files:
        (path / file).parent.mkdir(exist_ok=True)
        (path / file).write_bytes(bytes(8192))
    return path


def project(fake: FakeProjectQuotas, path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return fake.project(descriptor)
    finally:
        os.close(descriptor)


def kernel() -> FakeProjectQuotas:
    return FakeProjectQuotas(enforced=True)


def test_everything_that_came_with_a_job_is_of_its_project(tmp_path: Path) -> None:
    fake, work = kernel(), directory(tmp_path, "w", "a", "d/b")
    WorkQuotas(fake, FIRST, COUNT).limit(work, MIB)
    (limited,) = fake.limits
    assert FIRST <= limited < FIRST + COUNT
    assert fake.limits[limited] == FOR_A_MIB
    assert {project(fake, path) for path in (work, *work.rglob("*"))} == {limited}


def test_a_start_that_is_made_again_keeps_its_project(tmp_path: Path) -> None:
    fake, work = kernel(), directory(tmp_path, "w")
    WorkQuotas(fake, FIRST, COUNT).limit(work, MIB)
    WorkQuotas(fake, FIRST, COUNT).limit(work, MIB)
    assert list(fake.limits.values()) == [FOR_A_MIB]


def test_a_project_is_not_given_twice_as_long_as_a_file_has_it(tmp_path: Path) -> None:
    """Also when many start at once, and when the job before has ended and an agent has come anew."""
    fake = kernel()
    works = [directory(tmp_path, f"w{number}") for number in range(COUNT)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda work: WorkQuotas(fake, FIRST, COUNT).lift(work), works))
        quotas = WorkQuotas(fake, FIRST, COUNT)
        list(threads.map(lambda work: quotas.limit(work, MIB), works))
    assert len({project(fake, work) for work in works}) == COUNT
    for work in works:
        quotas.lift(work)
    assert fake.limits == {}
    with pytest.raises(OSError, match="all project ids of "):
        WorkQuotas(fake, FIRST, COUNT).limit(directory(tmp_path, "more"), MIB)


def test_what_does_not_fit_is_said_with_the_limit(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="what came with it takes more than its work size, 4KiB"):
        WorkQuotas(kernel(), FIRST, COUNT).limit(directory(tmp_path, "w", "a"), 4096)


def test_a_job_does_not_start_without_the_limit_it_was_promised(tmp_path: Path) -> None:
    fake = kernel()
    quotas = WorkQuotas(fake, FIRST, COUNT)
    fake.enforced = False
    with pytest.raises(OSError, match="no longer has the project quotas"):
        quotas.limit(directory(tmp_path, "w"), MIB)


def test_the_start_of_an_agent_sets_what_is_wanted_and_lifts_what_is_left(tmp_path: Path) -> None:
    fake = kernel()
    runs, ended, gone = directory(tmp_path, "runs"), directory(tmp_path, "ended"), tmp_path / "gone"
    quotas = WorkQuotas(fake, FIRST, COUNT)
    for work in (runs, ended):
        quotas.limit(work, MIB)
    fake.set_limit(FIRST - 1, size=MIB, files=1)  # an administrator's own
    fake.set_limit(project(fake, runs), size=0, files=0)  # somebody lifted it
    WorkQuotas(fake, FIRST, COUNT).reconcile({runs: 2 * MIB, gone: MIB})
    assert fake.limits == {FIRST - 1: (MIB, 1), project(fake, runs): (2 * MIB, 1024)}


def test_a_directory_is_full_when_no_block_or_no_file_fits(tmp_path: Path) -> None:
    fake = kernel()
    quotas = WorkQuotas(fake, FIRST, COUNT)
    work = directory(tmp_path, "w", "a")
    assert not quotas.is_full(work)
    quotas.limit(work, MIB)
    assert not quotas.is_full(work)
    used = fake.usage(project(fake, work))
    fake.set_limit(used.project, size=used.size + 4095, files=1024)
    assert quotas.is_full(work)
    fake.set_limit(used.project, size=MIB, files=used.files)
    assert quotas.is_full(work)
