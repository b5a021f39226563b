"""Uploads that stall, end early, lie, are cancelled, fill the disk or outlive the agent: attack case C5."""

import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import JOBS, Client, command, eventually, kill_agent, main_pid, wait_for_agent
from tests.e2e.host import STATE, configured, refusal
from tests.e2e.uploading import PIECE, entry, send, uploaded
from tests.sizes import size

pytestmark = pytest.mark.systemd

UPLOADS = STATE / "uploads"
GIBIBYTE = 1 << 30
LARGE = size(GIBIBYTE, 10 * GIBIBYTE)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _whole(path: str, content: bytes, **fields: Any) -> pb.UploadChunk:
    right: dict[str, Any] = {
        "entry": entry(path, len(content)),
        "content": content,
        "sha256": _digest(content),
    }
    return pb.UploadChunk(**{**right, **fields})


WRONG: dict[str, tuple[list[pb.UploadChunk], str]] = {
    "ends-early": ([pb.UploadChunk(entry=entry("a", 10), content=b"12345")], "UPLOAD_INCOMPLETE"),
    "ends-without-digest": ([pb.UploadChunk(entry=entry("a", 3), content=b"abc")], "UPLOAD_INCOMPLETE"),
    "next-before-the-end": ([pb.UploadChunk(entry=entry("a", 3)), _whole("b", b"x")], "UPLOAD_INCOMPLETE"),
    "checksum": ([_whole("a", b"abc", sha256=_digest(b"abd"))], "WRONG_CHECKSUM"),
    "short-checksum": ([_whole("a", b"abc", sha256=b"x")], "WRONG_CHECKSUM"),
    "smaller": ([_whole("a", b"abc", entry=entry("a", 4))], "WRONG_SIZE"),
    "larger": ([_whole("a", b"abc", entry=entry("a", 2))], "WRONG_SIZE"),
    "repeated": (
        [pb.UploadChunk(entry=entry("a", 6), content=b"abc"), pb.UploadChunk(content=b"abc")],
        "BAD_OFFSET",
    ),
    "gap": (
        [pb.UploadChunk(entry=entry("a", 6), content=b"abc"), pb.UploadChunk(offset=4, content=b"e")],
        "BAD_OFFSET",
    ),
    "negative": ([pb.UploadChunk(entry=entry("a", 6), offset=-1, content=b"abc")], "BAD_OFFSET"),
    "no-file": ([pb.UploadChunk(content=b"abc")], "BAD_UPLOAD"),
    "directory-with-content": (
        [pb.UploadChunk(entry=entry("a", is_directory=True), content=b"x")],
        "BAD_UPLOAD",
    ),
    "twice": ([_whole("a", b"x"), _whole("a", b"x")], "DUPLICATE_PATH"),
    "both": ([_whole("a", b"x"), _whole("a/b", b"x")], "BAD_PATH"),
    "outside": ([_whole("ok", b"x"), _whole("../x", b"x")], "BAD_PATH"),
}


@pytest.mark.parametrize(("chunks", "reason"), WRONG.values(), ids=WRONG)
def test_c5_a_wrong_stream_is_refused_and_leaves_nothing(
    client: Client, chunks: list[pb.UploadChunk], reason: str
) -> None:
    assert refusal(lambda: send(client, iter(chunks))) == ("INVALID_ARGUMENT", reason)
    _nothing_is_left()


def test_c5_a_piece_that_is_too_large_is_refused(client: Client) -> None:
    content = bytes((4 << 20) + 1)
    assert refusal(lambda: send(client, iter([_whole("a", content)]))) == ("INVALID_ARGUMENT", "BAD_UPLOAD")
    _nothing_is_left()


def test_c5_an_empty_upload_is_a_job_without_files(client: Client) -> None:
    job_id = client.run("ls", "-A", upload_id=send(client, iter([])).upload_id)
    assert (client.ended(job_id).status, client.log(job_id)) == ("COMPLETED", b"")


def test_c5_a_stream_that_stalls_ends(client: Client) -> None:
    with configured("uploads:\n  idle_timeout: 1s\n"), _endless(client) as call:
        with pytest.raises(grpc.RpcError) as caught:
            call.result(timeout=30)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "nothing came for 1 s" in (caught.value.details() or "")
        _nothing_is_left()


def test_c5_a_cancelled_stream_leaves_nothing(client: Client) -> None:
    with _endless(client) as call:
        eventually(lambda: list(UPLOADS.rglob("a")), bool)
        call.cancel()
        _nothing_is_left()


def test_c5_a_client_that_is_killed_leaves_nothing(client: Client, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(GIBIBYTE)
    sending = subprocess.Popen(["rnx", "run", f"--upload={tmp_path}/big", "true"], stderr=subprocess.DEVNULL)
    eventually(lambda: list(UPLOADS.rglob("big")), bool)
    sending.kill()
    sending.wait()
    _nothing_is_left()


def test_c5_what_no_job_takes_goes_away(client: Client) -> None:
    with configured("uploads:\n  keep_for: 1s\n"):
        upload_id = uploaded(client, {"a": b"x"})
        _nothing_is_left()
        request = pb.RunJobRequest(command="true", upload_id=upload_id)
        assert refusal(lambda: client.jobs.RunJob(request, timeout=30)) == ("NOT_FOUND", "UPLOAD_NOT_FOUND")


def test_c5_a_full_disk_refuses_and_leaves_nothing(client: Client) -> None:
    with _small_disk():
        wait_for_agent(client)
        large = {"a": bytes(48 << 20)}
        assert refusal(lambda: uploaded(client, large)) == ("UNAVAILABLE", "CANNOT_STORE_FILES")
        request = pb.RunJobRequest(command="true", uploads=[pb.FileUpload(path="a", content=large["a"])])
        assert refusal(lambda: client.jobs.RunJob(request, timeout=30)) == (
            "UNAVAILABLE",
            "CANNOT_STORE_FILES",
        )
        _nothing_is_left()
        assert list((STATE / "jobs").iterdir()) == []
        job_id = client.run("cat", "a", upload_id=uploaded(client, {"a": b"there is room again\n"}))
        assert client.ended(job_id).status == "COMPLETED"


def test_c5_kill_9_during_uploads_leaves_nothing(client: Client) -> None:
    homes = set(JOBS.iterdir())
    for _ in range(5):
        with _endless(client), _endless(client):
            eventually(lambda: len(list(UPLOADS.rglob("a"))), lambda count: count == 2)
            upload_id = uploaded(client, {"b": b"x"})
            kill_agent()
            wait_for_agent(client)
        _nothing_is_left()
        request = pb.RunJobRequest(command="true", upload_id=upload_id)
        found = refusal(partial(client.jobs.RunJob, request, timeout=30, wait_for_ready=True))
        assert found == ("NOT_FOUND", "UPLOAD_NOT_FOUND")
    eventually(lambda: set(JOBS.iterdir()), lambda now: now == homes)


def test_c5_kill_9_while_jobs_with_files_are_accepted_leaves_whole_jobs(client: Client) -> None:
    files = [pb.FileUpload(path=f"d/{number}", content=os.urandom(50_000)) for number in range(40)]
    wanted = sorted(_digest(each.content).hex() for each in files)
    script = "sha256sum d/* | cut -d' ' -f1 | sort"
    for _ in range(5):
        threads = [threading.Thread(target=_try_to_run, args=(script, files)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)  # somewhere within
        kill_agent()
        for thread in threads:
            thread.join()
    wait_for_agent(client)
    jobs = {job.uuid for job in client.by_name("with-files")}
    eventually(lambda: {home.name for home in JOBS.iterdir()} - _known(client), lambda unknown: not unknown)
    for job in jobs:
        status = client.ended(job)
        if status.status == "COMPLETED":
            assert client.log(job).decode().split() == wanted
        else:
            assert status.reason in {"start-failed", "lost"}, status


@pytest.mark.soak
def test_an_upload_costs_the_agent_no_memory(scratch: Path, client: Client) -> None:
    """A gibibyte, or ten, goes in and out again, and the agent grows by a small part of it."""
    uploaded(client, {"a": bytes(8 << 20)})  # what is needed once is there
    before = _resident(main_pid())
    peak = _Peak(main_pid())
    piece, digest = os.urandom(PIECE), hashlib.sha256()

    def chunks() -> Iterator[pb.UploadChunk]:
        yield pb.UploadChunk(entry=entry("big", LARGE))
        for offset in range(0, LARGE, PIECE):
            digest.update(piece)
            yield pb.UploadChunk(offset=offset, content=piece)
        yield pb.UploadChunk(offset=LARGE, sha256=digest.digest())

    with peak:
        reply = send(client, chunks(), timeout=3600)
    assert (reply.total_bytes, reply.file_count) == (LARGE, 1)
    assert peak.resident - before < 64 << 20, (before, peak.resident)
    with peak:
        job_id = client.run("stat", "-c", "%s %U", "big", upload_id=reply.upload_id)
        assert client.ended(job_id).status == "COMPLETED"
        assert _child_peak("rnx", "job", "download", job_id, "big", "-o", str(scratch / "big")) < 128 << 20
    assert (scratch / "big").stat().st_size == LARGE
    assert peak.resident - before < 64 << 20, (before, peak.resident)
    client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job_id), timeout=30)
    with peak:
        assert _child_peak("rnx", "run", "-q", "--name=large", f"--upload={scratch}/big", "true") < 128 << 20
    for job in client.by_name("large"):
        client.ended(job.uuid)
        client.jobs.DeleteJob(pb.DeleteJobRequest(uuid=job.uuid), timeout=30)
    print(f"{LARGE} bytes of upload: the agent's peak {peak.resident >> 20} MiB, {before >> 20} before")
    assert peak.resident - before < 64 << 20, (before, peak.resident)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A directory on disk, as others may be in memory; and the agent keeps large files of ended jobs."""
    with configured("retention:\n  work_size: 64GiB\n"), TemporaryDirectory(dir="/var/tmp") as directory:
        yield Path(directory)


def _child_peak(*words: str) -> int:
    """Run a command, which must succeed; return its largest resident size in bytes."""
    # Not what wait4(2) tells: that is never less than what this process had when it started the command.
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process, _Peak(process.pid) as peak:
        assert process.wait() == 0
    print(f"{words[1]}: peak {peak.resident >> 20} MiB")
    return peak.resident


class _Peak:
    """The largest resident size of a process within a block, sampled; in bytes."""

    def __init__(self, pid: int) -> None:
        self.resident = 0
        self._pid = pid
        self._over = threading.Event()

    def __enter__(self) -> "_Peak":
        self._over.clear()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.resident = max(self.resident, _resident(self._pid))


def _resident(pid: int) -> int:
    """Return the resident size of a process, 0 if it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024
    return 0


@contextmanager
def _endless(client: Client) -> Iterator[Any]:
    """An upload that sends a beginning and then nothing, until the block ends."""
    over = threading.Event()

    def chunks() -> Iterator[pb.UploadChunk]:
        yield pb.UploadChunk(entry=entry("a", 100), content=b"x")
        over.wait(60)

    call = client.agent.UploadFiles.future(chunks(), timeout=120)
    try:
        yield call
    finally:
        over.set()
        call.cancel()


@contextmanager
def _small_disk() -> Iterator[None]:
    """Let the agent's state be on a file system of 32 MiB within the block."""
    command("systemctl", "stop", "joblet-agent.service")
    command("mount", "-t", "tmpfs", "-o", "size=32m,mode=700", "tmpfs", str(STATE))
    try:
        command("systemctl", "start", "joblet-agent.service")
        yield
    finally:
        command("systemctl", "stop", "joblet-agent.service")
        command("umount", str(STATE))
        command("systemctl", "start", "joblet-agent.service")


def _try_to_run(script: str, files: list[pb.FileUpload]) -> None:
    client = Client()
    request = pb.RunJobRequest(command="sh", args=["-c", script], name="with-files", uploads=files)
    with suppress(grpc.RpcError):  # the agent dies
        client.jobs.RunJob(request, timeout=30)
    client.close()


def _known(client: Client) -> set[str]:
    reply = client.agent.QueryJobs(pb.QueryJobsRequest(page_size=10_000), timeout=30, wait_for_ready=True)
    return {job.uuid for job in reply.jobs}


def _nothing_is_left() -> None:
    eventually(lambda: list(UPLOADS.iterdir()), lambda left: left == [])
