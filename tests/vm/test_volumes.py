"""Volumes on a complete host: project quotas, growth under a running job. Over boots: test_reboot.py."""

from collections.abc import Iterator

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

IMAGE, STATE = "/root/state.ext4", "/var/lib/joblet"
PREPARE = f"""
systemctl stop joblet-agent
truncate -s 256M {IMAGE}
mke2fs -q -t ext4 -O project,quota -E quotatype=prjquota {IMAGE}
mount -o loop,prjquota {IMAGE} {STATE}
systemctl start joblet-agent
"""
RESTORE = f"""
systemctl stop joblet-jobs.slice
systemctl stop joblet-agent
umount {STATE}
rm -f {IMAGE}
systemctl start joblet-agent
"""
FILL = "dd if=/dev/zero of=fill bs=64k 2>&1 | tail -1; "
ESCAPES = """
import fcntl, os
top = os.open("/volumes/q", os.O_RDONLY)
for request, size in ((0x40086602, 8), (0x401c5820, 28)):
    try:
        fcntl.ioctl(top, request, bytes(size))
        print("escaped")
    except PermissionError:
        print("denied")
"""
MIB = 1 << 20


@pytest.fixture
def quotas(vm: VirtualMachine) -> Iterator[None]:
    vm.run("sh", "-ec", PREPARE)
    try:
        yield
    finally:
        vm.run("sh", "-ec", RESTORE)


def inspected(vm: VirtualMachine, name: str) -> str:
    return vm.run("rnx", "volume", "inspect", name).stdout


def remove(vm: VirtualMachine, *names: str) -> None:
    """Remove the volumes once no job uses them; nothing is left of them."""
    vm.run("sh", "-c", f"for v in {' '.join(names)}; do until rnx volume remove $v; do sleep 1; done; done")
    left = "losetup -a; findmnt | grep volumes; ls /var/lib/joblet/volumes; true"
    assert vm.run("sh", "-c", left).stdout == ""


def ended(rnx: Rnx, *argv: str) -> tuple[int, str]:
    """Run a job without a network and return its exit status and its output."""
    return rnx.attach("--network=none", *argv)


@pytest.mark.usefixtures("quotas")
def test_a_quota_holds_a_volume_to_its_size_whoever_writes(vm: VirtualMachine, rnx: Rnx) -> None:
    vm.run("rnx", "volume", "create", "q", "--size=8MB")
    assert "quota" in inspected(vm, "q")
    assert vm.run("sh", "-c", "findmnt | grep -c volumes || true").stdout.strip() == "0"
    status, _ = ended(rnx, "--volume=q", "sh", "-c", "cd /volumes/q; " + FILL + "stat -c %s fill > size")
    used = int(vm.run("du", "-sB1", f"{STATE}/volumes/q/mount/data").stdout.split()[0])
    assert (status, 7 * MIB < used <= 8 * MIB) in {(0, True), (2, True)}
    # Another job, with another user, has no room of its own there.
    _, output = ended(rnx, "--volume=q", "sh", "-c", "head -c 1M /dev/zero > /volumes/q/more || true")
    assert "Disk quota exceeded" in output
    assert ended(rnx, "--volume=q", "python3", "-I", "-c", ESCAPES) == (0, "denied\n" * 2)
    # Growth is there at once; a kill of the agent changes nothing.
    vm.run("rnx", "volume", "grow", "q", "--size=12MB")
    vm.run("systemctl", "kill", "--signal=KILL", "joblet-agent")
    vm.run("sh", "-c", "until rnx list >/dev/null 2>&1; do sleep 1; done")
    fits = "head -c 2M /dev/zero > /volumes/q/m && echo fits"
    assert ended(rnx, "--volume=q", "sh", "-c", fits) == (0, "fits\n")
    done = vm.run("rnx", "volume", "snapshot", "q", check=False)
    assert "it is a directory" in done.stderr
    vm.run("rnx", "volume", "remove", "q")
    assert vm.run("ls", f"{STATE}/volumes").stdout == ""


@pytest.mark.usefixtures("quotas")
def test_what_the_project_of_a_volume_had_is_gone_with_it(vm: VirtualMachine, rnx: Rnx) -> None:
    fits = "head -c 3M /dev/zero > /volumes/again/f && echo fits"
    for _ in range(2):
        vm.run("rnx", "volume", "create", "again", "--size=4MB")
        assert ended(rnx, "--volume=again", "sh", "-c", fits) == (0, "fits\n")
        vm.run("rnx", "volume", "remove", "again")


def test_an_image_grows_under_the_job_that_uses_it(vm: VirtualMachine, rnx: Rnx) -> None:
    vm.run("rnx", "volume", "create", "i", "--size=16MB")
    script = "cd /volumes/i; until [ -e go ]; do sleep 0.2; done; head -c 18M /dev/zero > big && echo fits"
    job = rnx.run("--network=none", "--volume=i", "sh", "-c", script)
    vm.run("rnx", "volume", "grow", "i", "--size=32MB")
    ended(rnx, "--volume=i", "touch", "/volumes/i/go")
    assert rnx.log(job) == "fits\n"
    remove(vm, "i")
