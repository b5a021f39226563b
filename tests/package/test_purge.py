"""Removing keeps everything, purging leaves nothing of ours and everything of others (R15)."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runtimes import archive
from tests.package.load import Load, at_work
from tests.package.packages import apt, install, installed
from tests.package.traces import traces
from tests.testbed.install import build_packages
from tests.testbed.machine import Machine

pytestmark = pytest.mark.package

# What others have, next to ours or named like it.
_OF_OTHERS = """
ip netns add joblets-own
ip link add joblets type veth peer name joblets1
ip link add jb-mine type bridge
nft add table inet joblets
nft add chain inet joblets forward '{ type filter hook forward priority 0; }'
nft add rule inet joblets forward iifname joblet-web accept
mkdir -p /etc/systemd/system/joblet-agent.service.d /var/lib/joblets /srv/joblet
echo '[Service]' >/etc/systemd/system/joblet-agent.service.d/own.conf
touch /var/lib/joblets/own /srv/joblet/own
"""

# Slices of workflows as the agent makes them, one of them frozen, and as systemd does for a job.
_SLICES = """
manager='org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager'
for name in 0 1; do
    slice=joblet-jobs-$name$(printf %031d 0).slice
    busctl call $manager StartTransientUnit 'ssa(sv)a(sa(sv))' $slice fail 1 Description s left 0
done
systemd-run --quiet --unit=joblet-exec-x --slice=joblet-jobs-2$(printf %031d 0).slice sleep infinity
systemctl freeze joblet-jobs-1$(printf %031d 0).slice
"""


@pytest.fixture(scope="module", autouse=True)
def of_others(machine: Machine) -> None:
    machine.run("sh", "-ec", _OF_OTHERS)


@pytest.fixture
def purged(machine: Machine) -> Iterator[None]:
    """Leave nothing of ours to the next test, however far this one came."""
    yield
    machine.run("dpkg", "--purge", "joblet-agent", "rnx", timeout=600)


@pytest.fixture
def state_apart(machine: Machine, of_others: None) -> Iterator[None]:
    """A file system of the administrator's for what the agent stores."""
    machine.run("sh", "-ec", "mkdir /var/lib/joblet; mount -t tmpfs -o mode=700 state /var/lib/joblet")
    yield
    machine.run("sh", "-ec", "umount /var/lib/joblet; rmdir /var/lib/joblet")


@pytest.fixture
def before(machine: Machine, of_others: None, purged: None) -> set[str]:
    return traces(machine)


@pytest.fixture
def load(machine: Machine, before: set[str]) -> Iterator[Load]:
    """The packages, at work."""
    install(machine, build_packages())
    with at_work(machine) as load:
        yield load


def left(machine: Machine, before: set[str]) -> set[str]:
    """What there is more than before, and less."""
    # systemd-sysusers makes them and nobody takes them away: a file of theirs would become somebody else's.
    staying = ("group joblet:", "group joblet-build:", "user joblet-build:")
    return {line for line in traces(machine) ^ before if not line.startswith(staying)}


def add_runtime(machine: Machine, directory: Path) -> None:
    """Have a runtime, which nothing can run of."""
    program = directory / "busybox"
    program.write_bytes(b"no program")
    path = archive(directory / "runtime.tar", {"opt/file": b"kept\n"}, busybox=program)
    machine.run("sh", "-c", "cat >/root/runtime.tar", stdin=path.read_bytes())
    machine.run("rnx", "runtime", "import", "/root/runtime.tar", "--name=kept", "--version=1.0.0")
    machine.run("rm", "/root/runtime.tar")


def test_r15_a_purge_of_a_host_at_work_takes_all_of_ours_and_nothing_else(
    load: Load, before: set[str], tmp_path: Path
) -> None:
    add_runtime(load.machine, tmp_path)
    load.machine.run("sh", "-ec", "joblet-agent pki init; echo '{}' >/etc/joblet/agent.d/10-fleet.yml")
    load.machine.run("sh", "-ec", _SLICES)
    load.rnx("job", "pause", load.jobs["asker"])
    apt(load.machine, "purge", "joblet-agent", "rnx")
    assert left(load.machine, before) == set()


def test_r15_a_removed_agent_leaves_jobs_at_work_and_the_next_has_them(
    state_apart: None, load: Load, before: set[str], tmp_path: Path
) -> None:
    machine = load.machine
    add_runtime(machine, tmp_path)
    assert machine.run("stat", "-c", "%m", "/var/lib/joblet/state.db").stdout == "/var/lib/joblet\n"
    apt(machine, "remove", "joblet-agent")
    assert installed(machine) == f"config-files {installed(machine).split()[1]}"
    for pid in load.pids.values():
        machine.run("kill", "-0", str(pid))
    machine.run("python3", "-c", "import urllib.request as u; u.urlopen('http://10.77.0.1:8080/')")
    install(machine, build_packages())
    load.check()
    assert "intact" in load.rnx("runtime", "verify", "kept@1.0.0")
    load.finish()
    apt(machine, "remove", "joblet-agent", "rnx")
    apt(machine, "purge", "joblet-agent", "rnx")
    assert machine.run("find", "/var/lib/joblet").stdout == "/var/lib/joblet\n"
    assert left(machine, before) == set()


def test_r15_a_purge_also_cleans_after_an_agent_that_could_not_start(
    machine: Machine, before: set[str]
) -> None:
    machine.run("install", "-D", "/dev/stdin", "/etc/joblet/agent.d/wrong.yml", stdin=b"no: such key\n")
    install(machine, build_packages())
    assert machine.run("systemctl", "is-active", "joblet-agent", check=False).stdout == "failed\n"
    apt(machine, "purge", "joblet-agent", "rnx")
    assert left(machine, before) == set()
