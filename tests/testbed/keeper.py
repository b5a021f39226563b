"""The process that owns one machine.

It mounts the machine's root, runs systemd-nspawn, and takes all of it away when the machine
ends, when it is told to (SIGTERM), or when whoever started it is gone: its standard input is
a pipe whose other end the starter holds, so even a starter that is killed with SIGKILL cannot
leave a machine behind. It runs in a mount namespace and a session of its own, so that its
mounts end with it and a Ctrl-C in the terminal goes to the starter alone. If the keeper itself
is killed, nspawn follows (parent death signal) and the next start of any machine clears the
rest away (``records.claim``).

Writes one line of JSON to its standard output: the error that kept the machine from starting, or null.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

from tests.testbed import cgroups, host, images, records
from tests.testbed.deadline import Deadline
from tests.testbed.errors import BootFailed, TestbedError
from tests.testbed.releases import Release

BOOT_LIMIT = timedelta(seconds=90)
KILL_LIMIT = timedelta(seconds=10)
CONSOLE_TAIL = 40


def main(argv: list[str]) -> int:
    """Keep the machine that is described by the arguments."""
    parser = argparse.ArgumentParser(prog="keeper")
    parser.add_argument("name")
    parser.add_argument("release", type=Release)
    parser.add_argument("--detached", action="store_true", help="live on when standard input ends")
    options = parser.parse_args(argv)
    stop = _stop_descriptors(options.detached)
    try:
        with images.container_image(options.release) as image:
            keeper = Keeper(options.name, options.release, image)
            try:
                keeper.start()
                keeper.wait_ready(stop)
                _answer(None)
                keeper.wait_end(stop)
            finally:
                keeper.clear()
    except TestbedError as error:
        _answer(str(error))
        return 1
    return 0


class Keeper:
    """One machine, from its mounts to their removal."""

    def __init__(self, name: str, release: Release, image: Path) -> None:
        self._name = name
        self._release = release
        self._image = image
        self._folder = records.machine_folder(name)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader_pid = 0
        # Held open, as the number may be another process's once the leader has ended.
        self._leader: int | None = None

    def start(self) -> None:
        """Mount the root and start nspawn in a cgroup of its own."""
        root = self._mount_root()
        (self._folder / "root_device").write_text(str(root.stat().st_dev), encoding="ascii")
        cgroup = cgroups.create(records.cgroup_name(self._name))
        (self._folder / "cgroup").touch()
        notify_name = f"joblet-testbed-{self._name}-{os.getpid()}"
        self._notify.bind(f"\0{notify_name}")
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": f"@{notify_name}",
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
        }
        enter_cgroup = ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(cgroup / "cgroup.procs")]
        with (self._folder / "console.log").open("wb") as console:
            self._nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *enter_cgroup, *nspawn_command(self._name, root)],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    def _mount_root(self) -> Path:
        """A writable view of the image whose changes go into the machine's folder."""
        upper, work, root = (self._folder / name for name in ("upper", "work", "root"))
        for folder in (upper, work, root):
            folder.mkdir()
        layers = f"lowerdir={self._image},upperdir={upper},workdir={work}"
        host.call(["mount", "-t", "overlay", "overlay", "-o", layers, str(root)])
        return root

    def wait_ready(self, stop: list[int]) -> None:
        """Wait until PID 1 of the machine says that it is up, and publish the record.

        nspawn passes READY=1 of the machine's PID 1 on (--notify-ready), and tells
        PID 1's process id with X_NSPAWN_LEADER_PID.
        """
        deadline = Deadline(BOOT_LIMIT)
        while True:
            ready = self._wait([*stop, self._notify.fileno()], deadline)
            if self._notify.fileno() not in ready:
                raise BootFailed(
                    f"cannot boot {self._name}: {self._why(ready, stop)}\n{self._console_tail()}"
                )
            message = dict(
                line.partition("=")[::2] for line in self._notify.recv(65536).decode().splitlines()
            )
            if "X_NSPAWN_LEADER_PID" in message:
                self._leader_pid = int(message["X_NSPAWN_LEADER_PID"])
                self._leader = os.pidfd_open(self._leader_pid)
            if message.get("READY") == "1" and self._leader:
                break
        # Closed, not left unread: nspawn passes every later message on (a reload sends some), and
        # blocks when the queue is full; then the machine's PID 1 blocks too.
        self._notify.close()
        records.MachineRecord(self._name, self._release.value, os.getpid(), self._leader_pid).write()

    def wait_end(self, stop: list[int]) -> None:
        """Wait until the machine powers off or somebody wants it to end."""
        self._wait(stop, None)

    def clear(self) -> None:
        """End the machine and remove every trace of it."""
        self._notify.close()
        if self._leader is not None:
            # Its end is the end of its PID namespace; nspawn then ends by itself.
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._leader, signal.SIGKILL)
            self._wait([], Deadline(KILL_LIMIT))
        root = self._folder / "root"
        if root.is_mount():
            host.call(["umount", "--lazy", str(root)])
        records.clear(self._name)
        if self._nspawn is not None:
            self._nspawn.wait()

    def _wait(self, descriptors: list[int], deadline: Deadline | None) -> list[int]:
        """Wait for a descriptor or for nspawn to end; return what is ready, [] after the deadline."""
        assert self._nspawn is not None
        nspawn = os.pidfd_open(self._nspawn.pid)
        try:
            limit = None if deadline is None else deadline.seconds()
            return select.select([*descriptors, nspawn], [], [], limit)[0]
        finally:
            os.close(nspawn)

    def _why(self, ready: list[int], stop: list[int]) -> str:
        if not ready:
            return f"not ready after {BOOT_LIMIT.total_seconds():.0f} s"
        return "it was told to stop" if set(ready) & set(stop) else "systemd-nspawn ended"

    def _console_tail(self) -> str:
        text = (self._folder / "console.log").read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-CONSOLE_TAIL:])


def nspawn_command(name: str, root: Path) -> list[str]:
    """The command that boots the tree at ``root``.

    ``--system-call-filter`` adds what jobs' sandboxes call and nspawn forbids; loop devices
    are the host's, for volumes.
    """
    loops = ["/dev/loop-control", *map(str, sorted(Path("/dev").glob("loop[0-9]*")))]
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        f"--machine={name}",
        "--boot",
        "--notify-ready=yes",
        "--register=no",
        "--keep-unit",
        "--settings=no",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        "--private-network",
        "--capability=all",
        "--system-call-filter=@keyring bpf",
        *(f"--bind={loop}" for loop in loops if Path(loop).exists()),
    ]


def _stop_descriptors(detached: bool) -> list[int]:
    """Descriptors that become readable when the machine must end."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda _number, _frame: None)
    return [read] if detached else [read, sys.stdin.fileno()]


def _answer(error: str | None) -> None:
    """Tell the starter how it went; it may be gone."""
    try:
        print(json.dumps(error), flush=True)
    except BrokenPipeError:
        # Nothing can be printed any more, and the interpreter must not try at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
