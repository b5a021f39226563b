"""Virtual machines for tests: a complete host of its own, with cgroup controllers and reboots.

    with boot_vm(Release.TRIXIE) as vm:
        vm.run("systemctl", "is-system-running")
        vm.reboot()

Emulated (about ten times slower than a container), as hardware virtualisation is often not to be
had where tests run. The disk is a throw-away layer over a cached one; it lasts as long as the block,
through reboots and power cuts.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import socket
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, cast

from tests.testbed import host, records, vm_image
from tests.testbed.deadline import Deadline
from tests.testbed.errors import BootFailed, TestbedError
from tests.testbed.guest import Guest
from tests.testbed.releases import Release
from tests.testbed.vm_agent import CHUNK, PORT, read_frame, write_frame

BOOT_LIMIT = timedelta(seconds=600)
# Over the guest's own limit for a command, before the machine counts as hung.
ANSWER_MARGIN = timedelta(seconds=60)
MEMORY_MIB = 2048
CONSOLE_TAIL = 40


class VirtualMachine(Guest):
    """A virtual machine that is up."""

    default_timeout = 600.0

    def __init__(self, release: Release, image: Path, folder: Path) -> None:
        self._release = release
        self._image = image
        self._folder = folder
        self._qemu: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._boot_id = b""

    @property
    def release(self) -> Release:
        """The Debian release in it."""
        return self._release

    @property
    def console(self) -> Path:
        """The file that its console output goes to."""
        return self._folder / "console.log"

    def create_disk(self) -> None:
        """Make the throw-away layer over the image's disk."""
        disk = str(self._image / vm_image.DISK_FILE)
        layer = str(self._folder / "disk.qcow2")
        host.call(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk, "-F", "raw", layer])

    def power_on(self) -> None:
        """Start it and wait until its system is up."""
        with socket.socket(socket.AF_UNIX) as listener:
            address = self._folder / "port"
            address.unlink(missing_ok=True)
            # By way of the folder's descriptor, as the path may be longer than an address can be.
            folder = os.open(self._folder, os.O_PATH)
            try:
                listener.bind(f"/proc/self/fd/{folder}/port")
            finally:
                os.close(folder)
            listener.listen(1)
            listener.settimeout(BOOT_LIMIT.total_seconds())
            self._qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *qemu_command(self._image)],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
            )
            self._socket = listener.accept()[0]
        self._wait_up(BOOT_LIMIT)

    def cut_power(self) -> None:
        """Stop it at once; what it had not yet written to its disk is lost."""
        if self._socket is not None:
            self._socket.close()
        if self._qemu is not None:
            self._qemu.kill()
            self._qemu.wait()
        self._socket = self._qemu = None

    def shut_down(self) -> None:
        """Let it go down in an orderly way, for a reboot that ``power_on`` completes."""
        self.run("systemctl", "--no-block", "reboot")
        if self._qemu is not None:
            self._qemu.wait(BOOT_LIMIT.total_seconds())
        self.cut_power()

    def reboot(self) -> None:
        """Reboot it in an orderly way and wait until its system is up again.

        qemu ends when the guest resets, and is started again: a reset inside qemu boots several
        times slower.
        """
        self.shut_down()
        self.power_on()

    def _wait_up(self, limit: timedelta) -> None:
        """Wait for the agent of a new boot, then for all of the system."""
        deadline = Deadline(limit)
        try:
            while True:
                kind, content = self._read(deadline)
                if kind == "h" and content != self._boot_id:
                    break
        except (TimeoutError, EOFError) as error:
            raise BootFailed(f"cannot boot the virtual machine\n{self._console_tail()}") from error
        self._boot_id = content
        state = self.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
        if state != "running":
            failed = self.run("systemctl", "--failed", "--no-legend", "--plain").stdout
            raise BootFailed(f"cannot boot the virtual machine: its system is {state}\n{failed}")

    def execute(
        self, argv: tuple[str, ...], *, stdin: bytes, timeout: float, cwd: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """See Guest.execute(). One command at a time."""
        request = {"argv": argv, "env": dict(env), "cwd": cwd, "timeout": timeout}
        deadline = Deadline(timedelta(seconds=timeout) + ANSWER_MARGIN)
        output = {"o": bytearray(), "e": bytearray()}
        try:
            self._write("r", json.dumps(request).encode())
            for start in range(0, len(stdin), CHUNK):
                self._write("i", stdin[start : start + CHUNK])
            self._write("i", b"")
            while True:
                kind, content = self._read(deadline)
                if kind == "x":
                    break
                if kind in output:
                    output[kind] += content
        except (TimeoutError, EOFError, BrokenPipeError) as error:
            raise TestbedError(f"cannot run `{shlex.join(argv)}`: the virtual machine hangs") from error
        status = json.loads(content)
        if status is None:
            raise TestbedError(f"cannot wait longer for `{shlex.join(argv)}`: {timeout:.0f} s are over")
        return subprocess.CompletedProcess(argv, status, bytes(output["o"]), bytes(output["e"]))

    def _write(self, kind: str, content: bytes) -> None:
        write_frame(self._stream(ANSWER_MARGIN.total_seconds()), kind, content)

    def _read(self, deadline: Deadline) -> tuple[str, bytes]:
        return read_frame(self._stream(max(0.001, deadline.seconds())))

    def _stream(self, timeout: float) -> IO[bytes]:
        """The port; reading or writing raises TimeoutError after so many seconds."""
        if self._socket is None:
            raise TestbedError("cannot talk to the virtual machine: it is off")
        self._socket.settimeout(timeout)
        # Unbuffered, so that nothing is read ahead and lost with the object.
        return cast(IO[bytes], socket.SocketIO(self._socket, "rwb"))

    def _console_tail(self) -> str:
        text = self.console.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-CONSOLE_TAIL:])


@contextlib.contextmanager
def boot_vm(release: Release) -> Iterator[VirtualMachine]:
    """A virtual machine for the length of a block."""
    name = f"{release.value}-vm-{secrets.token_hex(4)}"
    with vm_image.vm_image(release) as image:
        lock = records.claim(name)
        vm = VirtualMachine(release, image, records.machine_folder(name))
        try:
            vm.create_disk()
            vm.power_on()
            yield vm
        finally:
            vm.cut_power()
            records.clear(name)
            os.close(lock)


def qemu_command(image: Path) -> list[str]:
    """The command that runs a machine in the current folder."""
    # psi=1: Debian's kernels leave pressure figures out unless asked.
    kernel_command_line = "console=ttyS0 panic=-1 quiet psi=1 root=/dev/vda rw"
    return [
        "qemu-system-x86_64",
        *("-accel", os.environ.get("JOBLET_TEST_ACCEL", "tcg,thread=multi")),
        *("-cpu", "max", "-smp", "2", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *("-kernel", str(image / vm_image.KERNEL_FILE), "-initrd", str(image / vm_image.INITRD_FILE)),
        *("-append", kernel_command_line),
        *("-drive", "file=disk.qcow2,if=virtio,format=qcow2"),
        *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci", "-chardev", "socket,id=port,path=port"),
        *("-device", f"virtserialport,chardev=port,name={PORT}"),
        *("-device", "virtio-rng-pci"),
    ]
