"""What a container and a virtual machine have in common: commands and files.

All commands run as root, with a clean environment and empty standard input.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from tests.testbed import host
from tests.testbed.errors import CommandFailed
from tests.testbed.releases import Release

# What a root login has, and nothing of the host's.
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "SHELL": "/bin/bash",
    "TERM": "dumb",
    "USER": "root",
}


class Guest(ABC):
    """A Debian system that is up."""

    # Seconds a command may take unless it is said otherwise.
    default_timeout: float = 120.0

    @property
    @abstractmethod
    def release(self) -> Release:
        """The Debian release in it."""

    @abstractmethod
    def execute(
        self, argv: tuple[str, ...], *, stdin: bytes, timeout: float, cwd: str, env: Mapping[str, str]
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end; kill it and raise TestbedError after ``timeout`` seconds."""

    def run(
        self,
        *argv: str,
        check: bool = True,
        stdin: bytes = b"",
        timeout: float | None = None,
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``timeout`` in seconds.

        Raises CommandFailed unless it exits with 0 or ``check`` is off, and TestbedError
        after the timeout; the command is killed then.
        """
        done = self.execute(
            argv,
            stdin=stdin,
            timeout=timeout or self.default_timeout,
            cwd=cwd,
            env={**ENVIRONMENT, **(env or {})},
        )
        stdout, stderr = (data.decode("utf-8", errors="replace") for data in (done.stdout, done.stderr))
        if check and done.returncode != 0:
            raise CommandFailed(argv, done.returncode, stdout, stderr)
        return subprocess.CompletedProcess(argv, done.returncode, stdout, stderr)

    def push(self, source: Path, target: str) -> None:
        """Copy a file to the path ``target``, or a folder's content into the folder ``target``.

        Through programs in the guest, so that its links are followed there.
        """
        if source.is_dir():
            content = io.BytesIO()
            with tarfile.open(fileobj=content, mode="w") as archive:
                archive.add(source, ".")
            self.unpack(content.getvalue(), target)
        else:
            mode = f"{source.stat().st_mode & 0o777:o}"
            self.run("install", "-D", "-m", mode, "/dev/stdin", target, stdin=source.read_bytes())

    def unpack(self, archive: bytes, target: str) -> None:
        """Unpack a tar archive into the folder ``target``; root owns what comes out."""
        self.run("mkdir", "-p", target)
        self.run("tar", "-C", target, "--no-same-owner", "-x", stdin=archive)

    def pull(self, source: str, target: Path) -> None:
        """Copy the guest's file ``source`` to ``target``, or a folder's content into ``target``."""
        if self.run("test", "-d", source, check=False).returncode == 0:
            target.mkdir(parents=True, exist_ok=True)
            content = self._output("tar", "-C", source, "-c", ".")
            host.call(["tar", "-C", str(target), "--no-same-owner", "-x"], stdin=content)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._output("cat", source))

    def _output(self, *argv: str) -> bytes:
        done = self.execute(argv, stdin=b"", timeout=self.default_timeout, cwd="/", env=ENVIRONMENT)
        if done.returncode != 0:
            raise CommandFailed(argv, done.returncode, "", done.stderr.decode(errors="replace"))
        return done.stdout
