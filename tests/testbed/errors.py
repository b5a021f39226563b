"""What can go wrong in the testbed.

TestbedError
├── CommandFailed      a command, on the host or in a machine, did not exit with 0
├── BootFailed         a machine did not come up; carries the end of its console
└── NameTaken          a machine of that name is running
"""

from __future__ import annotations

from collections.abc import Sequence


class TestbedError(Exception):
    """The testbed cannot do what it was asked to do."""

    __test__ = False


class CommandFailed(TestbedError):
    """A command did not exit with 0; the text carries all of its output."""

    def __init__(self, argv: Sequence[str], returncode: int, stdout: str, stderr: str) -> None:
        output = "\n".join(part.rstrip() for part in (stdout, stderr) if part.strip())
        super().__init__(f"`{' '.join(argv)}` ended with status {returncode}\n{output}".rstrip())
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr


class BootFailed(TestbedError):
    """A machine did not reach a usable state in time."""


class NameTaken(TestbedError):
    """A machine of that name is running already."""
