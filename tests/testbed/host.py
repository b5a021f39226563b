"""The one door through which the testbed starts programs on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from tests.testbed.errors import CommandFailed, TestbedError


def call(argv: Sequence[str], *, stdin: bytes = b"", timeout: float | None = 60.0) -> str:
    """Run a program and return its standard output; ``timeout`` in seconds.

    Raises CommandFailed with its output when it does not exit with 0.
    """
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise TestbedError(
            f"cannot run {argv[0]}: not installed (tests/setup/host-packages machines installs it)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"cannot wait longer for `{' '.join(argv)}`: {timeout:.0f} s are over") from error
    stdout, stderr = (data.decode("utf-8", errors="replace") for data in (done.stdout, done.stderr))
    if done.returncode != 0:
        raise CommandFailed(argv, done.returncode, stdout, stderr)
    return stdout
