"""Machines for tests: boot one, run commands in it, carry files in and out.

    with boot(Release.TRIXIE) as machine:
        print(machine.run("systemctl", "is-system-running").stdout)

A machine is a copy-on-write view of a cached image, booted by systemd-nspawn; its
``keeper`` process removes it whatever happens to this one.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

from tests.testbed import images, records
from tests.testbed.errors import BootFailed, TestbedError
from tests.testbed.guest import ENVIRONMENT, Guest
from tests.testbed.packages import CHECKOUT
from tests.testbed.releases import Release

STOP_LIMIT = timedelta(seconds=60)

_INOTIFY_INSTANCES = Path("/proc/sys/fs/inotify/max_user_instances")
_MANY = 4096


class Machine(Guest):
    """A container that is up."""

    def __init__(self, record: records.MachineRecord) -> None:
        self._record = record

    @property
    def name(self) -> str:
        """Its name, which also is its host name."""
        return self._record.name

    @property
    def release(self) -> Release:
        """The Debian release in it."""
        return Release(self._record.release)

    @property
    def leader_pid(self) -> int:
        """Its PID 1, as the host sees it."""
        return self._record.leader_pid

    @property
    def console(self) -> Path:
        """The file that its console output goes to."""
        return self._record.folder / "console.log"

    def command(self, argv: Sequence[str], *, cwd: str = "/") -> list[str]:
        """The host's command line that runs ``argv`` in the machine (with ENVIRONMENT)."""
        enter = [_nsenter(), "-t", str(self.leader_pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        if cwd == "/":
            return [*enter, *argv]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', cwd, *argv]

    def popen(
        self,
        *argv: str,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | None = subprocess.PIPE,
        stderr: int | None = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        """Start a command. It leads a process group, which reaches it inside the machine too."""
        return subprocess.Popen(
            self.command(argv, cwd=cwd),
            env={**ENVIRONMENT, **(env or {})},
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            process_group=0,
        )

    def execute(
        self, argv: tuple[str, ...], *, stdin: bytes, timeout: float, cwd: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """See Guest.execute()."""
        process = self.popen(*argv, cwd=cwd, env=env, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
        with process:
            try:
                stdout, stderr = process.communicate(stdin or None, timeout)
            except subprocess.TimeoutExpired:
                raise TestbedError(
                    f"cannot wait longer for `{shlex.join(argv)}` in {self.name}: {timeout:.0f} s are over"
                ) from None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def stop(self) -> None:
        """End the machine and wait until every trace of it is gone."""
        if records.is_kept(self.name):
            keeper = os.pidfd_open(self._record.keeper_pid)
            signal.pidfd_send_signal(keeper, signal.SIGTERM)
            select.select([keeper], [], [], STOP_LIMIT.total_seconds())
            os.close(keeper)
        records.reap()


@contextmanager
def boot(release: Release, *, name: str | None = None) -> Iterator[Machine]:
    """A machine for the length of a block."""
    machine, keeper = _start(release, name or f"{release.value}-{secrets.token_hex(4)}", detached=False)
    with keeper:
        try:
            yield machine
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            try:
                keeper.wait(STOP_LIMIT.total_seconds())
            except subprocess.TimeoutExpired:
                keeper.kill()
                records.reap()


def boot_detached(release: Release, name: str) -> Machine:
    """A machine that stays until it is stopped, by whomever."""
    machine, keeper = _start(release, name, detached=True)
    # It lives on without us; tell Popen that nobody will wait for it.
    keeper.returncode = 0
    return machine


def unwind_on_sigterm() -> None:
    """Make SIGTERM end this process like Ctrl-C does: blocks are left, so machines are gone first."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def attach(name: str) -> Machine:
    """The running machine of that name."""
    return Machine(records.read(name))


def _start(release: Release, name: str, *, detached: bool) -> tuple[Machine, subprocess.Popen[str]]:
    if os.geteuid() != 0:
        raise TestbedError("cannot boot a machine: only root can")
    _allow_inotify()
    with images.container_image(release):
        lock = records.claim(name)
        try:
            keeper = _start_keeper(release, name, lock, detached=detached)
        finally:
            os.close(lock)
        assert keeper.stdout is not None
        answer = keeper.stdout.readline()
    if answer == "null\n":
        return attach(name), keeper
    keeper.communicate()
    raise BootFailed(json.loads(answer) if answer else f"cannot boot {name}: its keeper ended")


def _allow_inotify() -> None:
    """Raise the host's limit: root of all machines is one user, and each systemd takes eight of 128."""
    if int(_INOTIFY_INSTANCES.read_text(encoding="ascii")) < _MANY:
        _INOTIFY_INSTANCES.write_text(str(_MANY), encoding="ascii")


def _start_keeper(release: Release, name: str, lock: int, *, detached: bool) -> subprocess.Popen[str]:
    unshare = ["unshare", "--mount", "--propagation", "private", "--"]
    keeper = [sys.executable, "-m", "tests.testbed.keeper", name, release.value]
    return subprocess.Popen(
        [*unshare, *keeper, *(["--detached"] if detached else [])],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if detached else None,
        text=True,
        pass_fds=[lock],
        start_new_session=True,
    )


def _nsenter() -> str:
    """An absolute path: the command's environment has the machine's PATH."""
    path = shutil.which("nsenter")
    if path is None:
        raise TestbedError("cannot find nsenter: install util-linux")
    return path
