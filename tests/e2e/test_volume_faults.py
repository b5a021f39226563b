"""Volumes when something goes wrong: crashes, unmounts, lost images, full disks, everybody at once."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, agent_stopped, command, eventually, kill_agent, wait_for_agent
from tests.e2e.host import configured, in_parallel, refusal, running, unit_of
from tests.e2e.volumes import PLACE, create, image_of, in_job, leftovers, made, mounts, remove, volume

pytestmark = pytest.mark.systemd


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    assert leftovers() == []
    yield
    eventually(leftovers, lambda left: left == [])


@pytest.mark.parametrize("kind", ["filesystem", "memory"])
def test_volumes_and_jobs_do_not_notice_that_the_agent_dies(client: Client, kind: str) -> None:
    script = "echo ready; cd /volumes/box; until [ -e go ]; do sleep 0.1; done; echo more >> file; cat file"
    with made(client, "box", "20MB", kind):
        in_job(client, "echo kept > /volumes/box/file", "box")
        job = client.run("sh", "-c", script, volumes=["box"], network="none")
        eventually(lambda: client.log(job), lambda log: b"ready" in log)
        kill_agent()
        wait_for_agent(client)
        assert list(volume(client, "box").job_uuids) == [job]
        assert not remove(client, "box").success
        in_job(client, "touch /volumes/box/go", "box")
        assert client.ended(job).status == "COMPLETED"
        assert client.log(job).split()[1:] == [b"kept", b"more"]


def test_kills_at_any_moment_of_a_creation_or_removal_leave_nothing_half(client: Client) -> None:
    for number in range(12):
        calls = threading.Thread(target=_create_and_remove, args=(client,))
        calls.start()
        calls.join(0.03 * number)
        kill_agent()
        calls.join()
        wait_for_agent(client)
        eventually(
            lambda: [each.warning for each in client.volumes.ListVolumes(pb.EmptyRequest()).volumes],
            lambda warnings: not any(warnings),
        )
        if client.volumes.ListVolumes(pb.EmptyRequest()).volumes:
            assert in_job(client, "echo works > /volumes/box/x && cat /volumes/box/x", "box") == "works\n"
            assert remove(client, "box").success
        eventually(leftovers, lambda left: left == [])


def _create_and_remove(client: Client) -> None:
    try:
        create(client, "box", "20MB", "filesystem")
        remove(client, "box")
    except grpc.RpcError:
        return  # the agent is gone


def test_a_mount_that_somebody_stopped_is_made_again(client: Client) -> None:
    with made(client, "image", "20MB", "filesystem"), made(client, "memory"):
        in_job(client, "echo x > /volumes/image/file; echo x > /volumes/memory/file", "image", "memory")
        command("systemctl", "stop", volume(client, "image").unit, volume(client, "memory").unit)
        assert mounts() == []
        assert volume(client, "image").used_bytes == -1
        assert "not mounted" in volume(client, "image").warning
        log = in_job(client, "ls /volumes/image /volumes/memory", "image", "memory").split()
        assert log == ["/volumes/image:", "file", "/volumes/memory:"]
        assert "empty again" in volume(client, "memory").warning
        in_job(client, "true", "memory")
        assert volume(client, "memory").warning == ""


def test_what_is_unmounted_under_a_running_job_stays_one(client: Client) -> None:
    script = "echo ready; until [ -e go ]; do sleep 0.1; done; cat go; echo last > last"
    with made(client, "image", "20MB", "filesystem"), made(client, "memory"):
        for name in ("image", "memory"):
            fields = {"volumes": [name], "work_dir": f"/volumes/{name}", "network": "none"}
            job = client.run("sh", "-c", script, **fields)
            eventually(lambda job=job: client.log(job), lambda log: b"ready" in log)  # type: ignore[misc]
            command("systemctl", "stop", volume(client, name).unit)
            if name == "memory":
                assert refusal(lambda: client.run("true", volumes=["memory"]))[1] == "VOLUME_BUSY"
                command("systemctl", "kill", "--signal=KILL", unit_of(job))
                client.ended(job)
            else:
                in_job(client, "echo going > /volumes/image/go", "image")
                assert client.ended(job).status == "COMPLETED"
                assert client.log(job) == b"ready\ngoing\n"
                assert in_job(client, "cat /volumes/image/last", "image") == "last\n"


def test_what_was_unmounted_while_the_agent_was_away_is_there_when_it_is_back(client: Client) -> None:
    with made(client, "image", "20MB", "filesystem"):
        in_job(client, "echo x > /volumes/image/file", "image")
        with agent_stopped():
            command("umount", str(PLACE / "image" / "mount"))
        wait_for_agent(client)
        eventually(lambda: volume(client, "image").used_bytes, lambda used: used >= 0)
        assert in_job(client, "cat /volumes/image/file", "image") == "x\n"


def test_a_file_system_that_a_crash_has_torn_is_repaired(client: Client) -> None:
    with made(client, "torn", "20MB", "filesystem"):
        image, torn = image_of("torn"), PLACE / "torn" / "torn"
        in_job(client, "mkdir /volumes/torn/d; echo x > /volumes/torn/d/file; sync", "torn")
        command("cp", str(image), str(torn))  # as a power cut would leave it: it is mounted
        command("systemctl", "stop", volume(client, "torn").unit)
        torn.rename(image)
        assert in_job(client, "cat /volumes/torn/d/file", "torn") == "x\n"
        assert "checked and repaired" in volume(client, "torn").warning
        assert not _has_errors(image)


def _has_errors(image: Path) -> bool:
    """Say whether the kernel has found any in the file system."""
    return command("dumpe2fs", "-h", str(image)).stdout.count("with errors") > 0


def test_a_file_system_that_cannot_be_repaired_is_refused_with_what_to_do(client: Client) -> None:
    with made(client, "bad", "20MB", "filesystem"):
        image = image_of("bad")
        command("systemctl", "stop", volume(client, "bad").unit)
        with image.open("r+b") as file:
            file.write(bytes(8 << 20))
        with pytest.raises(grpc.RpcError) as caught:
            client.run("true", volumes=["bad"], network="none")
        told = str(caught.value.trailing_metadata())
        assert "VOLUME_DAMAGED" in told
        assert "e2fsck" in told
        assert mounts() == []
        assert "damaged" in volume(client, "bad").warning


def test_an_image_that_was_removed_is_told_and_what_was_in_it_can_be_saved(client: Client) -> None:
    with made(client, "gone", "20MB", "filesystem"):
        in_job(client, "echo x > /volumes/gone/file", "gone")
        image_of("gone").unlink()
        assert refusal(lambda: client.run("true", volumes=["gone"])) == (
            "FAILED_PRECONDITION",
            "VOLUME_IMAGE_GONE",
        )
        request = pb.DownloadVolumeFileRequest(name="gone", path="file")
        assert b"".join(each.content for each in client.agent.DownloadVolumeFile(request)) == b"x\n"
        command("systemctl", "stop", volume(client, "gone").unit)
        assert refusal(lambda: client.run("true", volumes=["gone"])) == ("FAILED_PRECONDITION", "VOLUME_GONE")


def test_a_volume_that_somebody_on_the_host_uses_is_not_removed_by_half(client: Client) -> None:
    with made(client, "busy", "20MB", "filesystem") as path:
        with (path.parent / "held").open("w"):
            assert refusal(lambda: remove(client, "busy")) == ("UNAVAILABLE", "VOLUME_BUSY")
        (path.parent / "held").unlink()
        assert in_job(client, "echo works", "busy") == "works\n"


def test_ten_jobs_start_while_one_removes(client: Client) -> None:
    for _ in range(5):
        create(client, "race", "10MB", "memory")

        def start(number: int) -> str:
            if number == 5:
                return "removed" if remove(client, "race").success else "in use"
            try:
                return client.run("true", volumes=["race"], network="none")
            except grpc.RpcError as error:
                return error.code().name

        ends = in_parallel(start, list(range(11)))
        jobs = [end for end in ends if len(end) == 36]
        for job in jobs:
            assert client.ended(job).status == "COMPLETED"
        refused = {end for end in ends if len(end) != 36} - {"removed", "in use"}
        assert refused <= {"NOT_FOUND", "FAILED_PRECONDITION"}
        if "in use" in ends:
            eventually(lambda: volume(client, "race").job_count, lambda count: count == 0)
            assert remove(client, "race").success
        eventually(leftovers, lambda left: left == [])


def test_twenty_jobs_share_a_volume_at_the_same_time(client: Client) -> None:
    with made(client, "crowd", "20MB", "filesystem"):
        jobs = in_parallel(
            lambda number: client.run(
                *("sh", "-c", f"id -u; cd /volumes/crowd; echo {number} >> all; mkdir d{number}"),
                volumes=["crowd"],
                network="none",
            ),
            list(range(20)),
        )
        assert [client.ended(job).status for job in jobs] == ["COMPLETED"] * 20
        assert sorted(map(int, in_job(client, "cat /volumes/crowd/all", "crowd").split())) == list(range(20))


def test_an_image_keeps_its_blocks_when_the_host_fills_up(client: Client) -> None:
    with made(client, "solid", "20MB", "filesystem"):
        status = image_of("solid").stat()
        assert status.st_blocks * 512 >= status.st_size == 20 << 20


def test_b9_volumes_that_are_switched_off_start_no_job(client: Client) -> None:
    with made(client, "off"):
        with configured("volumes:\n  enabled: false\n"):
            fresh = Client()
            assert refusal(lambda: create(fresh, "other")) == ("UNIMPLEMENTED", "VOLUMES_DISABLED")
            assert refusal(lambda: fresh.run("true", volumes=["off"])) == (
                "UNIMPLEMENTED",
                "VOLUMES_DISABLED",
            )
            fresh.close()
        wait_for_agent(client)


def test_a_job_that_waits_does_not_keep_its_volume(client: Client) -> None:
    create(client, "later")
    job = client.run("true", volumes=["later"], network="none", schedule=_soon())
    assert remove(client, "later").success
    status = client.ended(job, within=60)
    assert (status.status, "there is no volume 'later'" in status.message) == ("FAILED", True)


def _soon() -> str:
    return command("date", "-u", "-d", "+3 seconds", "+%Y-%m-%dT%H:%M:%SZ").stdout.strip()


def test_two_jobs_at_once_never_have_one_user(client: Client) -> None:
    script = "echo ready; id -u; sleep 60"
    with (
        made(client, "a"),
        running(client, script, volumes=["a"], network="none") as one,
        running(client, script, volumes=["a"], network="none") as two,
    ):
        users = [
            eventually(partial(client.log, job), lambda log: len(log.split()) == 2) for job in (one, two)
        ]
        assert users[0] != users[1]
