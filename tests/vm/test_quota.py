"""Workspaces on a file system with project quotas: attack cases B4 and C5. Containers have none of it.

The state directory is an ext4 file system of its own here, made and mounted as docs/operations.md tells.
"""

import json
from collections.abc import Iterator

import pytest

from tests.testbed.vm import VirtualMachine
from tests.vm.rnx import Rnx

pytestmark = pytest.mark.vm

CONFIG = "/etc/joblet/agent.d/50-test.yml"
IMAGE, STATE = "/root/state.ext4", "/var/lib/joblet"
PREPARE = f"""
systemctl stop joblet-agent
truncate -s 256M {IMAGE}
mke2fs -q -t ext4 -O project,quota -E quotatype=prjquota {IMAGE}
mount -o loop,prjquota {IMAGE} {STATE}
printf 'limits:\\n  default:\\n    work_size: 8MiB\\n' > {CONFIG}
systemctl start joblet-agent
head -c 2000000 /dev/zero > /root/small
head -c 5000000 /dev/zero > /root/large
"""
RESTORE = f"""
systemctl stop joblet-jobs.slice
systemctl stop joblet-agent
umount {STATE}
rm {IMAGE} {CONFIG} /root/small /root/large
systemctl start joblet-agent
"""

# Prints the projects that have files or a limit: bytes, files, and the most of both.
PROJECTS = f"""
import json, pathlib
from joblet_agent.quota import ProjectQuotas
known = ProjectQuotas(pathlib.Path("{STATE}")).known(1, 2**32 - 2)
found = [[p.size, p.files, p.most_size, p.most_files] for p in known]
print(json.dumps([each for each in found if any(each)]))
"""
MIB = 1 << 20
FILL = "dd if=/dev/zero of=fill bs=64k 2>/dev/null; "


@pytest.fixture(scope="module", autouse=True)
def quotas(vm: VirtualMachine) -> Iterator[None]:
    vm.run("sh", "-ec", PREPARE)
    try:
        yield
    finally:
        vm.run("sh", "-ec", RESTORE)


def projects(vm: VirtualMachine) -> list[list[int]]:
    found: list[list[int]] = json.loads(vm.run("python3", "-c", PROJECTS).stdout)
    return found


def refused(vm: VirtualMachine, *argv: str) -> str:
    """What rnx says of a job that is not run."""
    done = vm.run("rnx", "run", *argv, check=False)
    assert done.returncode != 0
    return done.stderr


def test_b4_a_job_that_fills_its_workspace_stops_there_and_nobody_else_does(
    vm: VirtualMachine, rnx: Rnx
) -> None:
    node = json.loads(vm.run("rnx", "monitor", "status", "--json").stdout)
    assert (node["workspaceQuotas"], node["defaults"]["workSize"]) == (True, 8 * MIB)
    greedy = rnx.run("--work-size=4M", "sh", "-c", FILL + "echo full; exec sleep 100000")
    full = f"until rnx log --no-follow {greedy} | grep -q full; do sleep 0.2; done"
    vm.run("sh", "-c", full)
    ((size, _, most, files),) = projects(vm)
    assert 4 * MIB - 64 * 1024 <= size <= most == 4 * MIB
    assert files == 1024
    assert rnx.attach("sh", "-c", "head -c 7000000 /dev/zero > f && stat -c %s f") == (0, "7000000\n")

    # kill -9: the file system has the limit, not the agent
    vm.run("systemctl", "kill", "--signal=KILL", "joblet-agent")
    vm.run("sh", "-c", "until rnx list >/dev/null 2>&1; do sleep 1; done")
    assert [4 * MIB, files] in [limits for _, _, *limits in projects(vm)]
    vm.run("rnx", "stop", "--force", greedy)
    assert rnx.status(greedy)["workSize"] == 4 * MIB
    failed = rnx.run("--work-size=1M", "sh", "-c", FILL + "exit 3")
    rnx.log(failed)
    assert rnx.status(failed)["message"] == "exited with status 3; its /work was full, limit 1 MiB"
    assert all(limits == [0, 0] for _, _, *limits in projects(vm))


def test_b4_an_inode_bomb_leaves_the_disk_to_others(rnx: Rnx) -> None:
    bomb = 'for (1 .. 1e6) { open my $f, ">", $_ or do { print "$_: $!\\n"; exit } }'
    status, output = rnx.attach("--work-size=4M", "perl", "-e", bomb)
    assert (status, output) == (0, "1024: Disk quota exceeded\n")


def test_c5_what_was_sent_counts_and_must_fit(vm: VirtualMachine, rnx: Rnx) -> None:
    """The large file goes as a stream before the request, the small one in it."""
    job = rnx.run("--work-size=6M", "--upload=/root/large", "sh", "-c", FILL + "stat -c %s fill")
    assert 0 < int(rnx.log(job)) <= 6 * MIB - 5_000_000
    assert rnx.status(job)["hasFiles"]
    for path in ("/root/small", "/root/large"):
        assert "cannot run job: its work size is 1MiB" in refused(
            vm, "--work-size=1M", f"--upload={path}", "true"
        )


ESCAPES = """
import fcntl, os
work = os.open("/work", os.O_RDONLY)
for request, size in ((0x40086602, 8), (0x401c5820, 28)):
    try:
        fcntl.ioctl(work, request, bytes(size))
        print("escaped")
    except PermissionError:
        print("denied")
"""


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_b4_no_job_leaves_its_project(rnx: Rnx, profile: str) -> None:
    assert rnx.attach(f"--profile={profile}", "python3", "-I", "-c", ESCAPES) == (0, "denied\n" * 2)


def test_a4_nothing_is_left_of_jobs_that_are_deleted(vm: VirtualMachine, rnx: Rnx) -> None:
    tree = "mkdir -p a/b/c; cd a/b/c; ln -s /etc l; mkfifo p; echo x > f; chmod 0 .; cd /work; chmod 0 a"
    job = rnx.run("sh", "-c", tree)
    rnx.log(job)
    assert rnx.status(job)["hasFiles"]
    assert projects(vm)
    vm.run("rnx", "delete-all")
    assert projects(vm) == []


def test_a_privileged_job_has_a_workspace_in_memory_as_quotas_do_not_bind_it(
    vm: VirtualMachine, rnx: Rnx
) -> None:
    vm.run("sh", "-c", f"printf 'profiles:\\n  privileged: true\\n' >> {CONFIG}")
    vm.run("systemctl", "restart", "joblet-agent")
    where = ("stat", "-f", "-c", "%T", "/work")
    assert rnx.attach("--profile=privileged", "--work-size=4M", *where) == (0, "tmpfs\n")
    assert rnx.attach("--profile=privileged", *where) == (0, "ext2/ext3\n")
