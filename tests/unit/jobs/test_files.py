"""A4 and A3: a job's work directory holds what it likes; nothing outside is touched."""

import os
import stat
from pathlib import Path

import pytest

from joblet_agent.jobs import files
from joblet_agent.jobs.paths import AgentPaths, JobPaths
from joblet_agent.jobs.secrets import deliver_files
from joblet_agent.model.job import new_job_id

UID = 1_879_048_192


@pytest.fixture
def agent(tmp_path: Path) -> AgentPaths:
    paths = AgentPaths(tmp_path / "state", tmp_path / "run")
    for directory in paths.directories:
        directory.mkdir(parents=True)
    return paths


@pytest.fixture
def job(agent: AgentPaths) -> JobPaths:
    paths = agent.job(new_job_id())
    files.prepare(paths, UID)
    return paths


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "precious").write_text("kept")
    return directory


def end(job: JobPaths) -> None:
    files.discard_work(job)
    files.remove_private(job)


def flatten(top: Path) -> None:
    while (top / "d" / "d").exists():
        (top / "d" / "d").rename(top / "e")
        (top / "d").rmdir()
        (top / "e").rename(top / "d")


def is_whole(outside: Path) -> bool:
    return [(file.name, file.read_text()) for file in outside.iterdir()] == [("precious", "kept")]


def test_only_the_agent_may_look_at_what_is_the_agents(job: JobPaths) -> None:
    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert (mode(job.home), mode(job.log), mode(job.launch_report)) == (0o700, 0o600, 0o600)
    assert job.log.read_bytes() == b""
    if os.getuid() == 0:
        assert (job.work.stat().st_uid, job.work.stat().st_gid) == (UID, UID)


def test_prepare_again_keeps_the_log(job: JobPaths) -> None:
    job.log.write_bytes(b"output")
    files.prepare(job, UID)
    assert job.log.read_bytes() == b"output"


def test_an_ended_job_leaves_its_log(job: JobPaths) -> None:
    job.environment.write_text("SECRET=x")
    (job.work / "file").write_text("x")
    end(job)
    assert list(job.home.iterdir()) == [job.log]
    assert not any(path.exists() for path in (job.environment, job.launch_report, job.trash))


def test_ending_twice_is_no_error(job: JobPaths, caplog: pytest.LogCaptureFixture) -> None:
    end(job)
    end(job)
    files.remove_all(job)
    files.remove_all(job)
    assert caplog.records == []


def test_links_to_the_outside_are_not_followed(job: JobPaths, outside: Path) -> None:
    (job.work / "directory").symlink_to(outside)
    (job.work / "file").symlink_to(outside / "precious")
    (job.work / "up").symlink_to("../../..")
    (job.work / "deep").mkdir()
    (job.work / "deep" / "link").symlink_to(outside)
    os.link(outside / "precious", job.work / "hard")
    end(job)
    assert is_whole(outside)
    assert not job.trash.exists()


def test_a_work_directory_that_became_a_link_is_only_unlinked(job: JobPaths, outside: Path) -> None:
    job.work.rmdir()
    job.work.symlink_to(outside)
    end(job)
    assert is_whole(outside)
    assert not job.work.is_symlink()


def test_whatever_a_job_leaves_goes_away(job: JobPaths) -> None:
    os.mkfifo(job.work / "fifo")
    for name in ("new\nline", "-rf", " ", "\\x2d", "ü", "a" * 255):
        (job.work / name).write_text("x")
    os.close(os.open(os.fsencode(job.work) + b"/\xff\xfe", os.O_CREAT | os.O_WRONLY))
    closed = job.work / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "inner" / "file").write_text("x")
    (closed / "inner").chmod(0)
    closed.chmod(0)
    end(job)
    if os.getuid() == 0:  # as the agent, which may enter what nobody may
        assert not job.trash.exists()


@pytest.mark.parametrize("levels", [200, 3000])
def test_a_deep_tree_goes_away(job: JobPaths, levels: int) -> None:
    """Deeper than a path may be long, than Python may recurse, and than descriptors may be open."""
    here = os.open(job.work, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        end(job)
        assert not job.trash.exists()
    finally:
        flatten(job.trash)  # what would be left, pytest could not remove


def test_a_missing_report_is_empty_and_a_long_or_broken_one_is_cut(job: JobPaths) -> None:
    assert files.read_report(job) == ""
    job.launch_report.write_bytes(b"\xff" + b"x" * 10_000)
    assert files.read_report(job) == "\ufffd" + "x" * 4095
    job.launch_report.unlink()
    assert files.read_report(job) == ""


def test_a_file_that_cannot_be_removed_is_told_once(job: JobPaths, caplog: pytest.LogCaptureFixture) -> None:
    job.environment.mkdir()
    files.remove_private(job)
    (told,) = caplog.messages
    assert str(job.environment) in told


def test_a_work_directory_that_cannot_be_discarded_does_not_keep_the_job_from_ending(
    job: JobPaths, caplog: pytest.LogCaptureFixture
) -> None:
    (job.trash / "full").mkdir(parents=True)
    files.discard_work(job)
    (told,) = caplog.messages
    assert str(job.work) in told
    files.remove_all(job)
    assert not job.home.exists()


def test_homes_are_directories_only(agent: AgentPaths, job: JobPaths, outside: Path) -> None:
    (agent.jobs / "file").write_text("x")
    (agent.jobs / "link").symlink_to(outside)
    assert [str(found) for found in files.homes(agent)] == [job.home.name]


def test_leftovers_of_dead_jobs_go_and_those_of_active_ones_stay(agent: AgentPaths, job: JobPaths) -> None:
    dead = agent.job(new_job_id())
    files.prepare(dead, UID)
    for paths in (dead, job):
        paths.environment.write_text("X=1")
    files.discard_work(dead)
    for paths in (dead, job):
        deliver_files(paths.credentials, {"key": b"x"}, UID)
    files.remove_leftovers(agent, {job.home.name}, started=set())
    gone = (dead.environment, dead.launch_report, dead.trash, dead.credentials)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (job.environment, job.launch_report, job.work, job.credentials))
    files.remove_leftovers(agent, {job.home.name}, started={job.home.name})
    assert not job.environment.exists()
    assert job.credentials.exists()
