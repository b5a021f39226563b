"""Volumes: made, used by several jobs, grown, copied and removed; nothing is left of them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command, eventually
from tests.e2e.host import refusal, rnx, running, shown
from tests.e2e.uploading import uploaded
from tests.e2e.volumes import FIRST, in_job, leftovers, made, mounts, remove, volume

pytestmark = pytest.mark.systemd

KINDS = ["filesystem", "memory"]


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    assert leftovers() == []
    yield
    eventually(leftovers, lambda left: left == [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_is_a_mount_unit_and_a_directory_of_its_size(client: Client, kind: str) -> None:
    with made(client, "my-data", "30MB", kind) as path:
        found = volume(client, "my-data")
        assert (found.size, found.size_bytes, found.type) == ("30MB", 30 << 20, kind)
        assert found.backing == {"filesystem": "image", "memory": "tmpfs"}[kind]
        assert found.unit == "var-lib-joblet-volumes-my\\x2ddata-mount.mount"
        unit = shown(found.unit)
        assert (unit["ActiveState"], unit["Where"]) == ("active", str(path.parent))
        assert "joblet-jobs.slice" in unit["Before"].split()
        assert mounts() == [str(path.parent)]
        options = command("findmnt", "-no", "OPTIONS", str(path.parent)).stdout.strip().split(",")
        assert {"nosuid", "nodev"} <= set(options)
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (FIRST, FIRST, 0o2770)
        assert path.parents[2].stat().st_mode & 0o777 == 0o700
        assert 0 <= found.used_bytes < 1 << 20


@pytest.mark.parametrize("kind", KINDS)
def test_its_size_is_the_most_that_can_be_written(client: Client, kind: str) -> None:
    with made(client, "full", "32MB", kind):
        log = in_job(client, "dd if=/dev/zero of=/volumes/full/big bs=1M 2>&1 || echo refused", "full")
        assert "No space left on device" in log
        assert "refused" in log
        found = volume(client, "full")
        assert 24 << 20 < found.used_bytes <= 32 << 20
        many = "cd /volumes/full; rm big; i=0; while true > f$i; do i=$((i+1)); done 2>/dev/null; echo $i"
        assert int(in_job(client, many, "full")) <= max((32 << 20) // 16384, 1024)


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_with_different_users_share_a_volume_and_nobody_else_does(client: Client, kind: str) -> None:
    write = "cd /volumes/share; umask 022; mkdir -p a/b; echo one > a/b/file; : > gone; id -u; echo ready"
    append = "cd /volumes/share; id -u; echo two >> a/b/file; rm gone; mv a/b a/c; mkdir a/d; cat a/c/file"
    with made(client, "share", "20MB", kind) as path:
        with running(client, write + "; sleep 60", volumes=["share"], network="none") as first:
            owner = client.log(first).split()[0]
            log = in_job(client, append, "share").split()
        assert owner == str(FIRST).encode()
        assert log[0] != str(FIRST)
        assert log[1:] == ["one", "two"]
        again = "cd /volumes/share; id -u; echo three >> a/c/file; rmdir a/d; ls a; ls -A ."
        assert in_job(client, again, "share").split() == [str(FIRST), "c", "a"]
        # A job without it does not see it; one whose user is the same as that of a file could not get to it.
        assert in_job(client, f"ls -d /volumes/* {path} 2>&1; true").count("No such file") == 2
        for user in ("nobody", str(FIRST)):
            done = subprocess.run(
                ["setpriv", f"--reuid={user}", "--regid=65534", "--clear-groups", "ls", str(path)],
                check=False,
                capture_output=True,
            )
            assert b"Permission denied" in done.stderr


def test_a_program_finds_its_closed_directory_again(client: Client) -> None:
    """As databases have it: 0700, and the owner must be whoever runs it."""
    script = (
        "cd /var/lib/db; [ -d d ] || mkdir -m 700 d; stat -c %u:%a d; id -u; echo x >> d/log; wc -l < d/log"
    )
    with made(client, "db", "20MB", "filesystem"):
        for count in range(1, 4):
            first, user, lines = in_job(client, script, "db:/var/lib/db").split()
            assert first in {f"{user}:700", f"{user}:2700"}
            assert int(lines) == count


def test_a_volume_that_is_mounted_read_only_is(client: Client) -> None:
    with made(client, "a"), made(client, "b", "20MB", "filesystem"):
        in_job(client, "echo a > /volumes/a/file; echo b > /data/file", "a", "b:/data")
        script = (
            "cat /srv/x/file /data/file; touch /srv/x/new 2>&1; echo >> /data/file; touch /srv/new 2>&1; true"
        )
        log = in_job(client, script, "a:/srv/x:ro", "b:/data").splitlines()
        assert log[:2] == ["a", "b"]
        assert [line.rpartition(": ")[2] for line in log[2:]] == ["Read-only file system"] * 2
        job = client.run("true", volumes=["a:/srv/x:ro", "b:/data"], network="none")
        assert list(client.ended(job).volumes) == ["a:/srv/x:ro", "b:/data"]


def test_a_command_that_joins_a_job_has_its_volumes(client: Client) -> None:
    with (
        made(client, "a"),
        made(client, "b"),
        running(client, "echo ready; sleep 60", volumes=["a", "b"], network="none") as job,
    ):
        script = "umask 022; echo x > /volumes/b/file; cat /volumes/b/file; id -G"
        done = rnx("job", "exec", job, "--", "sh", "-c", script)
        assert done.stdout.split() == [b"x", *sorted(str(FIRST + n).encode() for n in (0, 1))]


def test_a_volume_in_use_is_not_removed(client: Client) -> None:
    with (
        made(client, "used") as path,
        running(client, "echo ready; sleep 60", volumes=["used"], network="none") as job,
    ):
        answer = remove(client, "used")
        assert not answer.success
        assert job[:8] in answer.message
        assert list(volume(client, "used").job_uuids) == [job]
        assert path.is_dir()


def test_what_is_wrong_is_told_by_name(client: Client) -> None:
    def create(name: str, size: str, kind: str = "memory") -> tuple[str, str]:
        request = pb.CreateVolumeRequest(name=name, size=size, type=kind)
        return refusal(lambda: client.volumes.CreateVolume(request))

    with made(client, "one"):
        assert create("one", "1MB") == ("FAILED_PRECONDITION", "VOLUME_EXISTS")
        assert create("two", "0GB") == ("INVALID_ARGUMENT", "BAD_VOLUME_SIZE")
        assert create("two", "1MB", "nfs") == ("INVALID_ARGUMENT", "BAD_VOLUME_TYPE")
        assert create("two", "900TB", "filesystem") == ("UNAVAILABLE", "DISK_FULL")
        assert refusal(lambda: client.run("true", volumes=["nope"])) == ("NOT_FOUND", "VOLUME_NOT_FOUND")
        answer = remove(client, "nope")
        assert (answer.success, "there is no volume 'nope'" in answer.message) == (False, True)
    listed = client.volumes.ListVolumes(pb.EmptyRequest()).volumes
    assert list(listed) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_grows(client: Client, kind: str) -> None:
    with made(client, "small", "20MB", kind):
        in_job(client, "echo kept > /volumes/small/file", "small")
        grown = client.agent.GrowVolume(pb.GrowVolumeRequest(name="small", size="40MB"), timeout=60).volume
        assert grown.size_bytes == 40 << 20
        script = "cd /volumes/small; cat file; dd if=/dev/zero of=big bs=1M count=28 2>/dev/null && echo fits"
        assert in_job(client, script, "small").split() == ["kept", "fits"]
        request = pb.GrowVolumeRequest(name="small", size="30MB")
        assert refusal(lambda: client.agent.GrowVolume(request)) == ("INVALID_ARGUMENT", "VOLUME_NOT_SMALLER")


def test_memory_grows_under_the_jobs_that_use_it(client: Client) -> None:
    script = (
        "echo ready; until [ -e /volumes/m/go ]; do sleep 0.1; done; df -k --output=size /volumes/m | tail -1"
    )
    with made(client, "m", "10MB"):
        job = client.run("sh", "-c", script, volumes=["m"], network="none")
        eventually(lambda: client.log(job), lambda log: b"ready" in log)
        client.agent.GrowVolume(pb.GrowVolumeRequest(name="m", size="20MB"), timeout=60)
        in_job(client, "touch /volumes/m/go", "m")
        client.ended(job)
        assert client.log(job).split()[-1] == str(20 << 10).encode()


def test_files_are_copied_in_and_out(client: Client, tmp_path: Path) -> None:
    with made(client, "box", "20MB", "filesystem"):
        upload = uploaded(client, {"a/file": b"content", "a/b/program": b"#!/bin/sh\necho ran\n"})
        put = client.agent.PutVolumeFiles(
            pb.PutVolumeFilesRequest(name="box", path="in/here", upload_id=upload), timeout=30
        )
        assert (put.file_count, put.total_bytes) == (2, 26)
        script = (
            "id -u; cd /volumes/box/in/here; stat -c %a a/file; sh a/b/program; echo more >> a/file; rm a/b/*"
        )
        assert in_job(client, script, "box").split() == [str(FIRST), "660", "ran"]
        done = rnx("volume", "cp", "box:in", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out" / "here" / "a" / "file").read_text() == "contentmore\n"
        request = pb.DownloadVolumeFileRequest(name="box", path="none")
        assert refusal(lambda: list(client.agent.DownloadVolumeFile(request))) == (
            "NOT_FOUND",
            "FILE_NOT_FOUND",
        )


def test_a_snapshot_brings_back_what_was(client: Client) -> None:
    with made(client, "box", "20MB", "filesystem"):
        in_job(client, "echo before > /volumes/box/file", "box")
        request = pb.SnapshotVolumeRequest(name="box", snapshot="one")
        client.agent.SnapshotVolume(request, timeout=60)
        in_job(client, "rm /volumes/box/file; echo x > /volumes/box/other", "box")
        with running(client, "echo ready; sleep 60", volumes=["box"], network="none"):
            again = pb.SnapshotVolumeRequest(name="box", snapshot="two")
            assert refusal(lambda: client.agent.SnapshotVolume(again))[1] == "VOLUME_IN_USE"
            restore = pb.RestoreVolumeRequest(name="box", snapshot="one")
            assert refusal(lambda: client.agent.RestoreVolume(restore))[1] == "VOLUME_IN_USE"
        eventually(lambda: volume(client, "box").job_count, lambda count: count == 0)
        client.agent.RestoreVolume(restore, timeout=60)
        assert in_job(client, "cd /volumes/box; cat file; ls", "box").split() == ["before", "file"]
        assert [each.name for each in volume(client, "box").snapshots] == ["one"]
        client.agent.RemoveVolumeSnapshot(pb.RemoveVolumeSnapshotRequest(name="box", snapshot="one"))
        assert os.listdir("/var/lib/joblet/volumes/box/snapshots") == []


def test_the_disk_of_a_volume_is_the_jobs_to_be_limited(client: Client) -> None:
    with made(client, "box", "20MB", "filesystem") as path:
        job = client.run("true", volumes=["box"], network="none")
        explained = client.agent.ExplainJob(pb.ExplainJobRequest(uuid=job))
        told = {each.name: each.value for each in explained.properties}
        assert f"{path}:/volumes/box" in told["BindPaths"]
        client.ended(job)
