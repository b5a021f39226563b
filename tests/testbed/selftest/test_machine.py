"""The testbed itself, with real machines: what it starts works and is gone afterwards."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import CHECKOUT, DEBIAN, Machine, Release, TestbedError, attach, boot, cgroups, records
from tests.testbed.errors import CommandFailed, NameTaken

pytestmark = pytest.mark.testbed

# Of its own, so that two runs side by side do not meet.
NAME = f"selftest-{os.getpid()}"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with boot(Release.TRIXIE) as booted:
        yield booted


@pytest.mark.parametrize("release", DEBIAN, ids=lambda release: release.value)
def test_boots_a_healthy_system(release: Release) -> None:
    with boot(release) as booted:
        assert booted.run("systemctl", "is-system-running").stdout == "running\n"
        assert f"VERSION_CODENAME={release.value}" in booted.run("cat", "/etc/os-release").stdout


def test_command_has_a_clean_environment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESTBED_LEAK", "1")
    names = {line.partition("=")[0] for line in machine.run("env").stdout.splitlines()}
    assert names <= {"HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "PWD", "_"}


def test_failed_command_raises_with_its_output(machine: Machine) -> None:
    with pytest.raises(CommandFailed, match="ended with status 3\nsaid this") as failure:
        machine.run("sh", "-c", "echo said this >&2; exit 3")
    assert failure.value.returncode == 3


def test_timeout_kills_what_runs_in_the_machine(machine: Machine) -> None:
    with pytest.raises(TestbedError, match=r"cannot wait longer for `sleep 12345`"):
        machine.run("sleep", "12345", timeout=0.2)
    assert machine.run("pgrep", "-f", "sleep 12345", check=False).returncode == 1


def test_files_travel_both_ways(machine: Machine, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "out/deep").mkdir(parents=True)
    (tmp_path / "out/deep/file").write_bytes(content)
    machine.push(tmp_path / "out", "/srv/in")
    machine.push(tmp_path / "out/deep/file", "/srv/other/file")
    machine.pull("/srv", tmp_path / "back")
    machine.pull("/srv/other/file", tmp_path / "file")
    for name in ("back/in/deep/file", "back/other/file", "file"):
        assert (tmp_path / name).read_bytes() == content


def test_push_stays_inside_where_a_link_is_absolute(machine: Machine, tmp_path: Path) -> None:
    machine.run("ln", "-s", str(tmp_path), "/srv/trap")
    (tmp_path / "file").write_text("inside")
    machine.run("mkdir", "-p", str(tmp_path))
    machine.push(tmp_path / "file", "/srv/trap/escaped")
    assert not (tmp_path / "escaped").exists()


def test_machines_do_not_see_each_other(machine: Machine) -> None:
    with boot(Release.TRIXIE) as other:
        for each in (machine, other):
            each.run("systemd-run", "--unit=same", "sleep", "1000")
        other.run("systemctl", "stop", "same")
        assert machine.run("systemctl", "is-active", "same").stdout == "active\n"


def test_name_is_taken_while_it_runs() -> None:
    with boot(Release.TRIXIE, name=NAME), pytest.raises(NameTaken), boot(Release.TRIXIE, name=NAME):
        pass


def test_nothing_is_left_after_a_failure_in_the_block() -> None:
    pids = []
    with contextlib.suppress(ZeroDivisionError), boot(Release.TRIXIE, name=NAME) as booted:
        pids = _make_a_mess(booted)
        raise ZeroDivisionError
    _assert_gone(pids)


def test_nothing_is_left_when_the_machine_powers_off() -> None:
    with boot(Release.TRIXIE, name=NAME) as booted:
        pids = _make_a_mess(booted)
        os.kill(booted.leader_pid, signal.SIGRTMIN + 4)
    _assert_gone(pids)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
def test_nothing_is_left_when_the_runner_is_signalled(number: signal.Signals) -> None:
    with _runner() as runner:
        booted = attach(NAME)
        pids = _make_a_mess(booted)
        keeper = os.pidfd_open(records.read(NAME).keeper_pid)
        runner.send_signal(number)
        runner.wait(60)
    _wait_end(keeper)
    _assert_gone(pids)


def test_leftovers_of_a_killed_keeper_are_cleared_by_the_next_start() -> None:
    with boot(Release.TRIXIE, name=NAME) as booted:
        pids = _make_a_mess(booted)
        keeper = os.pidfd_open(records.read(NAME).keeper_pid)
        signal.pidfd_send_signal(keeper, signal.SIGKILL)
        _wait_end(keeper)
        with boot(Release.TRIXIE):
            _assert_gone(pids)


_RUNNER = """
import sys, time
from tests.testbed import Release, boot
with boot(Release.TRIXIE, name=sys.argv[1]):
    print("up", flush=True)
    time.sleep(1000)
"""


@contextlib.contextmanager
def _runner() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that has booted a machine and would keep it for long."""
    command = [sys.executable, "-c", _RUNNER, NAME]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as runner:
        try:
            assert runner.stdout is not None
            assert runner.stdout.readline() == b"up\n"
            yield runner
        finally:
            runner.kill()


_MESS = """
truncate -s 16M /var/disk
mkfs.ext4 -q /var/disk
mount -o loop /var/disk /mnt
truncate -s 1M /var/other
losetup -f /var/other
systemd-run -q sleep 1000
setsid sleep 1000 >/dev/null 2>&1 &
"""


def _make_a_mess(machine: Machine) -> list[int]:
    """Leave processes, a mount and an attached loop device; return the host's ids of the processes."""
    machine.run("sh", "-euc", _MESS)
    assert _backing_files() >= {"/var/disk", "/var/other"}
    namespace = Path(f"/proc/{machine.leader_pid}/ns/pid").readlink()
    pids = [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _namespace(entry) == namespace]
    assert len(pids) > 5
    return pids


def _namespace(process: Path) -> Path | None:
    try:
        return (process / "ns/pid").readlink()
    except (FileNotFoundError, PermissionError):
        return None


def _wait_end(process: int) -> None:
    assert select.select([process], [], [], 60)[0]
    os.close(process)


def _assert_gone(pids: list[int]) -> None:
    name = records.cgroup_name(NAME)
    assert [pid for pid in pids if _is_alive(pid)] == []
    assert [mount for mount in cgroups.mounts() if (mount / name).exists()] == []
    assert not records.machine_folder(NAME).exists()
    assert [path for path in records.machine_folder(NAME).parent.iterdir() if NAME in path.name] == []
    assert NAME not in Path("/proc/self/mountinfo").read_text()
    assert _backing_files().isdisjoint({"/var/disk", "/var/other"})


def _is_alive(pid: int) -> bool:
    """Whether it runs: an orphan that has ended waits for the host's PID 1, however long that takes."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _backing_files() -> set[str]:
    files = Path("/sys/block").glob("loop*/loop/backing_file")
    return {file.read_text().strip() for file in files}
