"""Jobs that make of a volume what they can, against whoever copies, measures and removes it: A3, A4, A5."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest

from joblet_agent.pb import joblet_pb2 as pb
from tests.e2e.agent import Client, command, eventually, units
from tests.e2e.host import refusal, running
from tests.e2e.uploading import uploaded
from tests.e2e.volumes import PLACE, in_job, leftovers, made, remove, volume
from tests.sizes import size

pytestmark = pytest.mark.systemd

SECRET = "what nobody may read through a volume"
ROUNDS = size(100, 1000)

RACE = """
import os, itertools
os.chdir('/volumes/box')
TARGET, HOME = '%(target)s', os.path.dirname('%(target)s')
COUNT = itertools.count()
print('ready', flush=True)
def swap(name, make):
    try: os.rename(name, 'old-%%d' %% next(COUNT))
    except OSError: pass
    try: make()
    except OSError: pass
while True:
    swap('file', lambda: os.symlink(TARGET, 'file'))
    swap('file', lambda: os.mkfifo('file'))
    swap('file', lambda: open('file', 'w').write('mine'))
    swap('dir', lambda: os.symlink(HOME, 'dir'))
    swap('dir', lambda: os.makedirs('dir/sub'))
    swap('dir/sub', lambda: os.symlink(HOME, 'dir/sub'))
    if next(COUNT) %% 50 == 0: os.system('rm -rf old-*')
"""


@pytest.fixture(autouse=True)
def _nothing_left(client: Client) -> Iterator[None]:
    assert leftovers() == []
    yield
    eventually(leftovers, lambda left: left == [])


@pytest.fixture
def target() -> Iterator[Path]:
    """A file of the host that only root may read."""
    place = Path("/var/lib/joblet-test-secret")
    place.mkdir(exist_ok=True)
    file = place / "shadow"
    file.write_text(SECRET)
    file.chmod(0o600)
    before = file.stat()
    yield file
    after = file.stat()
    assert file.read_text() == SECRET
    assert [after.st_ino, after.st_mtime_ns, after.st_uid] == [
        before.st_ino,
        before.st_mtime_ns,
        before.st_uid,
    ]
    assert os.listdir(place) == ["shadow"]
    file.unlink()
    place.rmdir()


def _downloaded(client: Client, path: str) -> bytes:
    request = pb.DownloadVolumeFileRequest(name="box", path=path)
    with suppress(grpc.RpcError):
        return b"".join(
            each.SerializeToString() for each in client.agent.DownloadVolumeFile(request, timeout=30)
        )
    return b""


def test_a3_links_that_come_and_go_lead_no_copy_astray(client: Client, target: Path) -> None:
    with made(client, "box", "20MB", "filesystem"):
        script = RACE % {"target": target}
        with running(client, f'exec python3 -c "{script}"', volumes=["box"], network="none"):
            for number in range(ROUNDS):
                for path in ("file", "dir/shadow", "dir/sub/shadow", ""):
                    assert SECRET.encode() not in _downloaded(client, path)
                if number % 10 == 0:
                    upload = uploaded(client, {"file": b"sent", "dir/sub/shadow": b"sent", "shadow": b"sent"})
                    for path in ("", "dir", "dir/sub"):
                        request = pb.PutVolumeFilesRequest(name="box", path=path, upload_id=upload)
                        with suppress(grpc.RpcError):
                            client.agent.PutVolumeFiles(request, timeout=30)
                assert volume(client, "box").used_bytes < 20 << 20


@pytest.mark.parametrize("kind", ["filesystem", "memory"])
def test_a4_a_removal_stays_in_its_volume(client: Client, target: Path, kind: str) -> None:
    script = f"""
cd /volumes/box
ln -s {target.parent} link; ln -s / root; ln -s {target} file; mkfifo pipe
mkdir -p closed/inner; chmod 0 closed/inner closed
python3 -c "
import os
for _ in range(300):
    os.mkdir('d'); os.chdir('d')
open('deep', 'w').close()
"
python3 -c "
import os
for number in {{*range(1, 256)}} - {{47}}:
    open(b'n' + bytes([number]), 'w').close()
"
"""
    with made(client, "box", "30MB", kind):
        in_job(client, script, "box")
        assert volume(client, "box").used_bytes < 20 << 20
    assert target.read_text() == SECRET


def test_a4_what_the_host_has_mounted_in_a_volume_is_not_emptied(client: Client, target: Path) -> None:
    """Its unit needs the volume's, so systemd unmounts it before."""
    with made(client, "box", "20MB", "filesystem") as path:
        inner = path / "inner"
        inner.mkdir()
        command("mount", "--bind", str(target.parent), str(inner))
        assert (inner / "shadow").read_text() == SECRET
        unit = command("systemd-escape", "--path", "--suffix=mount", str(inner)).stdout.strip()
        # systemd looks at mounts a few times a second; before, it is the host's user that it does not know.
        eventually(lambda: command("systemctl", "is-active", unit, check=False).stdout, "active\n".__eq__)


def test_a4_files_that_cannot_be_removed_are_told_and_removed_later(client: Client) -> None:
    with made(client, "box"):
        stubborn = PLACE / "box" / "stubborn"
        stubborn.touch()
        if command("chattr", "+i", str(stubborn), check=False).returncode:
            stubborn.unlink()
            pytest.skip("this file system has no immutable files")
        assert refusal(lambda: remove(client, "box")) == ("UNAVAILABLE", "CANNOT_REMOVE_VOLUME")
        assert volume(client, "box").warning == "it is removing"
        assert refusal(lambda: client.run("true", volumes=["box"]))[1] == "VOLUME_NOT_READY"
        command("chattr", "-i", str(stubborn))


NAMES = [
    "a@b",
    "%i",
    "\\x2d",
    "a\n",
    "../x",
    "/etc",
    "-a",
    "a.mount",
    "a" * 300,
    "a b",
    "",
    "$(x)",
    "a:b",
    "ä",
]


@pytest.mark.parametrize("name", NAMES)
def test_a5_no_name_is_another_unit_or_path(client: Client, name: str) -> None:
    before = command("systemctl", "list-units", "--all", "--plain", "--no-legend", "-t", "mount").stdout
    request = pb.CreateVolumeRequest(name=name, size="1MB", type="memory")
    assert refusal(lambda: client.volumes.CreateVolume(request)) == ("INVALID_ARGUMENT", "BAD_VOLUME_NAME")
    assert not remove(client, name).success
    grow = pb.GrowVolumeRequest(name=name, size="2MB")
    assert refusal(lambda: client.agent.GrowVolume(grow))[1] == "VOLUME_NOT_FOUND"
    if name:
        assert refusal(lambda: client.run("true", volumes=[name]))[0] == "INVALID_ARGUMENT"
    assert (
        command("systemctl", "list-units", "--all", "--plain", "--no-legend", "-t", "mount").stdout == before
    )
    assert units() == []


def test_a5_names_with_everything_that_is_allowed_arrive(client: Client) -> None:
    for name in ("a-b", "a_b-c", "0", "A--b", "x" * 63):
        with made(client, name, "2MB") as path:
            assert path == PLACE / name / "mount" / "data"
            assert in_job(client, f"echo x > /volumes/{name}/f; cat /volumes/{name}/f", name) == "x\n"


def test_b7_programs_of_a_volume_gain_nothing(client: Client) -> None:
    with made(client, "box", "20MB", "filesystem") as path:
        program = path / "id"
        program.write_bytes(Path("/usr/bin/id").read_bytes())
        program.chmod(0o4755)
        os.mknod(path / "null", 0o20666, os.makedev(1, 3))
        log = in_job(client, "/volumes/box/id -u; echo x > /volumes/box/null 2>&1 || true", "box")
        assert log.split()[0] != "0"
        assert "Permission denied" in log or "cannot create" in log


def test_a_job_cannot_change_what_the_root_of_others_has(client: Client) -> None:
    before = sorted(os.listdir("/run/joblet/root"))
    with made(client, "box"):
        in_job(client, "mkdir /data/x /volumes/x 2>&1; true", "box:/srv/deep/er")
        in_job(client, "true", "box:/var/lib/db")
        log = in_job(client, "ls /volumes /srv /data /media /opt /var/lib")
        assert log.split() == ["/data:", "/media:", "/opt:", "/srv:", "/var/lib:", "/volumes:"]
    assert sorted(os.listdir("/run/joblet/root")) == before
