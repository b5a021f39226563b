"""Files on their way into a job, and out of it: what arrives, what is kept, what is refused."""

import hashlib
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, Client, eventually
from tests.e2e.host import STATE, configured, in_parallel, refusal, rnx, rnx_json, running
from tests.e2e.uploading import chunks_of, send, uploaded

pytestmark = pytest.mark.systemd

LISTING = r"cd /work && find . -mindepth 1 -printf '%y %m %s %u %p\n' | sort -k5"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Modes, sub-directories, empty ones, an empty file, a link inside."""
    top = tmp_path / "tree"
    (top / "sub" / "deeper").mkdir(parents=True)
    (top / "empty").mkdir()
    (top / "sub" / "run.sh").write_text("#!/bin/sh\necho it  ran\n")
    (top / "sub" / "run.sh").chmod(0o750)
    (top / "sub" / "deeper" / "data").write_bytes(bytes(range(256)) * 40)
    (top / "nothing").write_bytes(b"")
    (top / "sub" / "link").symlink_to("deeper/data")
    (top / "sub" / "deeper").chmod(0o711)
    return top


@pytest.mark.parametrize("streamed", [False, True])
def test_a_tree_arrives_as_it_was(client: Client, tree: Path, streamed: bool) -> None:
    if streamed:
        (tree / "big").write_bytes(os.urandom(5 << 20))
    done = rnx(
        "run", "--attach", f"--upload-dir={tree}", "sh", "-c", f"{LISTING}; ./sub/run.sh; sha256sum */*/data"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().splitlines()
    user = lines[0].split()[3]
    assert lines == [
        *([f"f 644 {5 << 20} {user} ./big"] if streamed else []),
        f"d 755 4096 {user} ./empty",
        f"f 644 0 {user} ./nothing",
        f"d 755 4096 {user} ./sub",
        f"d 711 4096 {user} ./sub/deeper",
        f"f 644 10240 {user} ./sub/deeper/data",
        f"f 644 10240 {user} ./sub/link",
        f"f 750 23 {user} ./sub/run.sh",
        "it ran",
        f"{hashlib.sha256((tree / 'sub/deeper/data').read_bytes()).hexdigest()}  sub/deeper/data",
    ]
    assert int(user) >= 1879048192
    assert not list((STATE / "uploads").iterdir())


def test_a2_modes_are_permissions_only_and_have_defaults(client: Client) -> None:
    files = [
        pb.FileUpload(path="bits", mode=0o6755),
        pb.FileUpload(path="dir", mode=(1 << 31) | 0o700, is_directory=True),
        pb.FileUpload(path="plain"),
        pb.FileUpload(path="plain-dir", is_directory=True),
    ]
    job_id = client.run("sh", "-c", "stat -c '%a %n' *", uploads=files)
    assert client.ended(job_id).status == "COMPLETED"
    assert client.log(job_id).splitlines() == [b"755 bits", b"700 dir", b"644 plain", b"755 plain-dir"]


KINDS = {
    "device": stat.S_IFCHR,
    "disk": stat.S_IFBLK,
    "fifo": stat.S_IFIFO,
    "link": stat.S_IFLNK,
    "socket": stat.S_IFSOCK,
}


@pytest.mark.parametrize("streamed", [False, True])
def test_a2_what_is_sent_is_a_file_or_a_directory_whatever_its_mode_says(
    client: Client, streamed: bool
) -> None:
    content = b"/etc/shadow"
    if streamed:
        made = (
            chunk for name, kind in KINDS.items() for chunk in chunks_of(name, content, mode=kind | 0o6644)
        )
        fields: dict[str, Any] = {"upload_id": send(client, made).upload_id}
    else:
        files = [
            pb.FileUpload(path=name, content=content, mode=kind | 0o6644) for name, kind in KINDS.items()
        ]
        fields = {"uploads": files}
    job_id = client.run("stat", "-c", "%F %a %h %s", *KINDS, **fields)
    assert client.ended(job_id).status == "COMPLETED", client.log(job_id)
    assert client.log(job_id).splitlines() == [b"regular file 644 1 11"] * len(KINDS)


TOGETHER = [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/b", "a/b")]


@pytest.mark.parametrize("paths", TOGETHER)
def test_a2_files_that_would_take_each_others_place_are_refused(
    client: Client, paths: tuple[str, str]
) -> None:
    before = set(JOBS.iterdir())
    request = pb.RunJobRequest(command="true", uploads=[pb.FileUpload(path=path) for path in paths])
    streamed = (chunk for path in paths for chunk in chunks_of(path, b"x"))
    for call in (lambda: client.jobs.RunJob(request, timeout=30), lambda: send(client, streamed)):
        code, reason = refusal(call)
        assert (code, reason in {"DUPLICATE_PATH", "BAD_PATH"}) == ("INVALID_ARGUMENT", True)
    assert set(JOBS.iterdir()) == before
    eventually(lambda: list((STATE / "uploads").iterdir()), lambda left: left == [])


def test_the_record_knows_the_paths_and_not_the_content(client: Client) -> None:
    content = b"a content that is nowhere else " * 40
    job_id = client.run("true", uploads=[pb.FileUpload(path="a/b", content=content), pb.FileUpload(path="c")])
    status = client.ended(job_id)
    assert list(status.uploads) == ["a/b", "c"]
    assert (status.has_files, status.work_size) == (True, 0)
    for database in STATE.glob("state.db*"):
        assert content[:31] not in database.read_bytes()


def test_a_waiting_job_has_its_files_from_the_beginning(client: Client) -> None:
    with configured("jobs:\n  max_concurrent: 1\n"):
        first = client.run("sleep", "1000")
        request = [pb.FileUpload(path="a", content=b"it was there\n")]
        waiting = client.run("cat", "a", uploads=request)
        canceled = client.run("cat", "a", uploads=request)
        assert client.status(waiting).status == "PENDING"
        assert (JOBS / waiting / "work" / "a").stat().st_uid == 0
        client.jobs.CancelJob(pb.CancelJobRequest(uuid=canceled), timeout=30)
        eventually((JOBS / canceled / "work").exists, lambda there: not there)
        client.jobs.StopJob(pb.StopJobRequest(uuid=first, force=True), timeout=30)
        assert client.ended(waiting).status == "COMPLETED"
        assert client.log(waiting) == b"it was there\n"


def test_a_scheduled_job_has_its_files_when_its_time_comes(client: Client) -> None:
    due = (datetime.now(UTC) + timedelta(seconds=3)).isoformat()
    upload_id = uploaded(client, {"a": b"it was there\n"})
    job_id = client.run("cat", "a", upload_id=upload_id, schedule=due)
    assert client.status(job_id).status == "SCHEDULED"
    assert (JOBS / job_id / "work" / "a").exists()
    canceled = client.run("cat", "a", uploads=[pb.FileUpload(path="a")], schedule="2030-01-01T00:00:00Z")
    client.jobs.CancelJob(pb.CancelJobRequest(uuid=canceled), timeout=30)
    eventually((JOBS / canceled / "work").exists, lambda there: not there)
    assert client.ended(job_id).status == "COMPLETED"
    assert client.log(job_id) == b"it was there\n"


def test_the_results_are_there_while_the_job_runs_and_after(client: Client, tmp_path: Path) -> None:
    made = "mkdir -p out/sub; echo one >out/one; echo two >out/sub/two"
    strange = "ln -s /etc/shadow out/link; mkfifo out/pipe"
    with running(client, f"{made}; {strange}; echo ready; sleep 1000") as job_id:
        assert _names(client, job_id) == {"out": "directory"}
        assert _names(client, job_id, "out") == {
            "link": "link",
            "one": "file",
            "pipe": "other",
            "sub": "directory",
        }
        assert rnx("job", "download", job_id, "out/one", "-o", "-").stdout == b"one\n"
    status = eventually(lambda: client.status(job_id), lambda status: status.work_bytes > 0)
    assert status.has_files
    done = rnx("job", "download", job_id[:13], "out", "-o", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert b"left out link: a symbolic link" in done.stderr
    assert b"left out pipe: no regular file" in done.stderr
    found = {
        str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    }
    assert found == {"out/one": "one\n", "out/sub/two": "two\n"}
    again = rnx("job", "download", job_id, "out", "-o", str(tmp_path))
    assert again.returncode == 1
    assert b"exists" in again.stderr
    assert rnx("job", "download", job_id, "out", "-o", str(tmp_path), "--force").returncode == 0
    assert [each["name"] for each in rnx_json("job", "files", job_id, "/work/out/")] == [
        "link",
        "one",
        "pipe",
        "sub",
    ]
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)
    assert not (JOBS / job_id).exists()


def test_a_sparse_file_costs_what_is_in_it(client: Client, tmp_path: Path) -> None:
    job_id = client.run("sh", "-c", "truncate -s 1T big; printf x | dd of=big bs=1 seek=1000000 conv=notrunc")
    assert client.ended(job_id).status == "COMPLETED"
    assert rnx("job", "download", job_id, "big", "-o", str(tmp_path / "big")).returncode == 0
    status = (tmp_path / "big").stat()
    assert (status.st_size, status.st_blocks * 512 < 1 << 20) == (1 << 40, True)
    with (tmp_path / "big").open("rb") as file:
        file.seek(1000000)
        assert file.read(2) == b"x\0"


def test_a_job_that_leaves_nothing_keeps_no_directory(client: Client) -> None:
    job_id = client.run("true")
    status = client.ended(job_id)
    eventually((JOBS / job_id / "work").exists, lambda there: not there)
    assert not client.status(job_id).has_files
    assert status.work_bytes == 0
    request = pb.ListJobFilesRequest(uuid=job_id)
    assert refusal(lambda: list(client.agent.ListJobFiles(request, timeout=30))) == ("NOT_FOUND", "NO_FILES")


RETENTION = {
    "age": ("work_for: 1s", 0),
    "size": ("work_size: 100KiB", 1),
    "switched-off": ("keep_work: false", 0),
}


@pytest.mark.parametrize(("setting", "kept"), RETENTION.values(), ids=RETENTION)
def test_files_are_kept_as_configured(client: Client, setting: str, kept: int) -> None:
    with configured(f"retention:\n  {setting}\n"):
        jobs = []
        for _ in range(3):
            jobs.append(client.run("sh", "-c", "head -c 65536 /dev/urandom >data"))
            client.ended(jobs[-1])
        left = jobs[3 - kept :]
        eventually(lambda: [job for job in jobs if client.status(job).has_files], lambda now: now == left)
        assert {client.status(job).status for job in jobs} == {"COMPLETED"}  # the records stay


def test_files_are_still_kept_after_a_restart_and_then_measured_again(client: Client) -> None:
    job_id = client.run("sh", "-c", "head -c 65536 /dev/urandom >data")
    client.ended(job_id)
    with configured("log_level: debug\n"):
        status = eventually(lambda: client.status(job_id), lambda status: status.work_bytes >= 65536)
        assert status.has_files
    with configured("retention:\n  work_size: 1KiB\n"):
        eventually(lambda: client.status(job_id), lambda status: not status.has_files)


def test_records_are_forgotten_while_the_agent_runs(client: Client) -> None:
    with configured("retention:\n  keep_ended: 3\n"):
        jobs = [client.run("true") for _ in range(6)]
        eventually(lambda: [_is_there(client, job) for job in jobs].count(True), lambda count: count == 3)
        assert _is_there(client, jobs[-1])


def test_work_size_is_a_memory_file_system(client: Client) -> None:
    fill = "head -c 3000000 /dev/zero >a && ! head -c 3000000 /dev/zero >b 2>/dev/null"
    script = f"{fill} && stat -f -c %T /work"
    job_id = client.run("sh", "-c", script, work_size=4 << 20)
    status = client.ended(job_id)
    assert status.status == "COMPLETED", (status.message, client.log(job_id))
    assert client.log(job_id) == b"tmpfs\n"
    assert (status.work_size, status.has_files) == (4 << 20, False)
    request = pb.ListJobFilesRequest(uuid=job_id)
    assert refusal(lambda: list(client.agent.ListJobFiles(request, timeout=30))) == (
        "FAILED_PRECONDITION",
        "WORK_IN_MEMORY",
    )
    both = pb.RunJobRequest(command="true", work_size=4 << 20, uploads=[pb.FileUpload(path="a")])
    assert refusal(lambda: client.jobs.RunJob(both, timeout=30)) == (
        "INVALID_ARGUMENT",
        "UPLOADS_INTO_MEMORY",
    )


def test_b4_a_work_directory_in_memory_has_room_for_so_many_files_only(client: Client) -> None:
    """Empty files take nothing of its size, but a KiB each of the host's memory."""
    bomb = 'for (1 .. 1e6) { open my $f, ">", $_ or do { print "$_: $!\n"; exit } }'
    job_id = client.run("perl", "-e", bomb, work_size=4 << 20)
    assert client.ended(job_id).status == "COMPLETED"
    count, error = client.log(job_id).split(b": ")
    assert (1000 < int(count) <= 1024, error) == (True, b"No space left on device\n")


def test_an_upload_serves_one_job_of_its_uploader(client: Client) -> None:
    upload_id = uploaded(client, {"a": b"abc\n"})
    job_id = client.run("cat", "a", upload_id=upload_id)
    assert client.ended(job_id).status == "COMPLETED"
    assert client.log(job_id) == b"abc\n"
    again = pb.RunJobRequest(command="true", upload_id=upload_id)
    assert refusal(lambda: client.jobs.RunJob(again, timeout=30)) == ("NOT_FOUND", "UPLOAD_NOT_FOUND")


def test_a_streamed_upload_and_files_in_the_request_exclude_each_other(client: Client) -> None:
    upload_id = uploaded(client, {"a": b"abc\n"})
    both = pb.RunJobRequest(command="true", upload_id=upload_id, uploads=[pb.FileUpload(path="b")])
    assert refusal(lambda: client.jobs.RunJob(both, timeout=30)) == ("INVALID_ARGUMENT", "TWO_UPLOADS")
    assert client.ended(client.run("cat", "a", upload_id=upload_id)).status == "COMPLETED"


def test_links_in_a_directory_that_is_sent(client: Client, tree: Path) -> None:
    (tree / "out").symlink_to("/etc/passwd")
    done = rnx("run", f"--upload-dir={tree}", "true")
    assert done.returncode == 1
    assert f"cannot send {tree}/out: it is a link out of the directory".encode() in done.stderr
    (tree / "out").unlink()
    (tree / "sub" / "loop").symlink_to("..")
    assert b"leads back to a directory" in rnx("run", f"--upload-dir={tree}", "true").stderr


def test_limits_of_uploads_are_named(client: Client) -> None:
    with configured("uploads:\n  max_size: 1KiB\n  max_entries: 2\n"):
        many = [pb.FileUpload(path=f"{number}") for number in range(3)]
        request = pb.RunJobRequest(command="true", uploads=many)
        assert refusal(lambda: client.jobs.RunJob(request, timeout=30)) == (
            "RESOURCE_EXHAUSTED",
            "TOO_MANY_FILES",
        )
        assert refusal(lambda: uploaded(client, {"a": bytes(2000)})) == (
            "RESOURCE_EXHAUSTED",
            "UPLOAD_TOO_LARGE",
        )
        small = {f"{number}": b"" for number in range(3)}
        assert refusal(lambda: uploaded(client, small)) == ("RESOURCE_EXHAUSTED", "TOO_MANY_FILES")
    eventually(lambda: list((STATE / "uploads").iterdir()), lambda left: left == [])


def test_many_uploads_at_once_do_not_mix(client: Client) -> None:
    def one(number: int) -> tuple[str, bytes]:
        job_id = client.run("cat", "me", upload_id=uploaded(client, {"me": b"%d" % number * 100_000}))
        client.ended(job_id)
        return job_id, client.log(job_id)

    for number, (_, log) in enumerate(in_parallel(one, list(range(12)))):
        assert log == b"%d" % number * 100_000


def _names(client: Client, job_id: str, path: str = "") -> dict[str, str]:
    request = pb.ListJobFilesRequest(uuid=job_id, path=path)
    return {
        each.name: each.kind
        for batch in client.agent.ListJobFiles(request, timeout=30)
        for each in batch.files
    }


def _is_there(client: Client, job_id: str) -> bool:
    return bool(list(client.agent.QueryJobs(pb.QueryJobsRequest(uuid_prefix=job_id), timeout=30).jobs))
