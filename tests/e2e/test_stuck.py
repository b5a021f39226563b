"""What cannot be killed and cannot be removed: attack cases A4, B6."""

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import rmtree

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import DEADLINE, JOBS, Client, command, eventually
from tests.e2e.host import configured, disk_image, journal, refusal, rnx
from tests.e2e.inside import processes, running

pytestmark = [pytest.mark.systemd, pytest.mark.both]

HOST = JOBS.parent.parent / "joblet-test-host"
"""A directory of the host, on the file system of the jobs' directories."""


@pytest.fixture(name="kept")
def _kept() -> Iterator[Path]:
    (HOST / "inner").mkdir(parents=True)
    for file in (HOST / "kept", HOST / "inner" / "kept"):
        file.write_text("of the host", encoding="ascii")
    yield HOST
    assert [(HOST / name / "kept").read_text(encoding="ascii") for name in ("", "inner")] == [
        "of the host"
    ] * 2
    rmtree(HOST)


STAYS = ("FAILED_PRECONDITION", "FILES_NOT_REMOVED")


def _delete(client: Client, job_id: str) -> None:
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=DEADLINE)


def test_a4_a_mount_in_a_jobs_directory_is_not_crossed_and_told(client: Client, kept: Path) -> None:
    job_id = client.run("sh", "-c", "mkdir -p a/b/mnt c; touch a/gone c/gone file; ln -s /var/lib link")
    assert client.ended(job_id).status == "COMPLETED"
    work = JOBS / job_id / "work"
    command("mount", "--bind", str(kept), str(work / "a" / "b" / "mnt"))
    command("mount", "--bind", str(kept / "kept"), str(work / "file"))
    try:
        assert refusal(lambda: _delete(client, job_id)) == STAYS
        assert (kept / "inner" / "kept").exists()
        assert not list(JOBS.glob(f"{job_id}/**/gone"))
        assert client.status(job_id).status == "COMPLETED"
    finally:
        mounts = command("findmnt", "--list", "--noheadings", "--output=TARGET").stdout.splitlines()
        for mount in reversed([mount for mount in mounts if mount.startswith(str(JOBS))]):
            command("umount", mount)
    _delete(client, job_id)
    assert not (JOBS / job_id).exists()


def test_a4_a_mount_in_the_place_of_a_jobs_directory_is_not_emptied(client: Client, kept: Path) -> None:
    job_id = client.run("sh", "-c", "touch file")
    assert client.ended(job_id).status == "COMPLETED"
    command("mount", "--bind", str(kept), str(JOBS / job_id / "work"))
    try:
        assert refusal(lambda: _delete(client, job_id)) == STAYS
        assert (kept / "inner" / "kept").exists()
    finally:
        command("umount", str(JOBS / job_id / "work"))
    _delete(client, job_id)
    assert not (JOBS / job_id).exists()


def test_a4_an_immutable_file_is_told_and_the_rest_goes(client: Client) -> None:
    job_id = client.run("sh", "-c", "mkdir a; touch a/fixed a/gone gone")
    assert client.ended(job_id).status == "COMPLETED"
    command("chattr", "+i", str(JOBS / job_id / "work" / "a" / "fixed"))
    try:
        done = rnx("job", "delete", job_id)
        assert done.returncode == 1
        assert b"'fixed: Operation not permitted'" in done.stderr
        assert [path.name for path in (JOBS / job_id).rglob("*") if path.is_file()] == ["fixed"]
    finally:
        command("chattr", "-R", "-i", str(JOBS / job_id))
    assert rnx("job", "delete", job_id).returncode == 0
    assert not (JOBS / job_id).exists()


# -- B6 ------------------------------------------------------------------------------------------------

WRITES = "echo ready; while :; do echo x >file; sleep 0.01; done"


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """Mount a file system there that can be frozen: then nothing that writes to it can be killed."""
    with disk_image(64 << 20) as image:
        command("mount", "-o", "loop", str(image), str(place))
        try:
            yield
        finally:
            command("umount", str(place))


@contextmanager
def _frozen(place: Path) -> Iterator[None]:
    command("fsfreeze", "--freeze", str(place))
    try:
        yield
    finally:
        command("fsfreeze", "--unfreeze", str(place))


def _is_stuck(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "D"
    return False


def test_b6_a_process_that_cannot_be_killed_is_told_and_not_waited_for(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n  stop_grace: 1s\n"), ExitStack() as mounted:
        with running(client, "sh", "-c", "echo ready; exec sleep 1000"):
            job_id = client.run("sh", "-c", WRITES, uploads=[pb.FileUpload(path="file")])
            place = JOBS / job_id / "work"
            assert client.status(job_id).status == "PENDING"
            mounted.enter_context(_disk(place))
        eventually(lambda: client.log(job_id), lambda log: b"ready\n" in log)
        with _frozen(place):
            (stuck,) = eventually(lambda: [pid for pid in processes(job_id) if _is_stuck(pid)], bool)
            client.jobs.StopJob(pb.StopJobRequest(uuid=job_id), timeout=DEADLINE)
            status = client.ended(job_id)
            assert _is_stuck(stuck)
            assert (status.status, status.reason, status.signal) == ("STOPPED", "stopped", 9)
            assert status.message == f"cannot be killed and end when the kernel lets them: process {stuck}"
            assert status.message in str(journal("JOBLET_EVENT=ended", f"JOBLET_JOB_ID={job_id}"))
            assert client.status(client.run("true", work_dir="/tmp")).reason == ""  # others are not held up
        eventually(Path(f"/proc/{stuck}").exists, lambda there: not there)
